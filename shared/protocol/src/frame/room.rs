//! What a client is told of a room, and what the mesh's own items say.
//!
//! **Chains.** A room has three orders: gifts, the rest of high, normal. Every item of one carries its offset (its sequence
//! in the stream) and the offset before it, `prev`. A client that stands at `last` in a chain
//! * skips an item with `offset <= last`;
//! * has a gap if `prev > last`, and joins again with its position to get what it missed;
//! * else takes the item and stands at `offset`.
//!
//! An item of [`Chain::Loose`] is in no order: the newest of its type counts (likes, ranking, presence).

use serde::{Deserialize, Serialize};

use super::RoomPosition;
use crate::{
    id::{RoomId, Token, UserId},
    payload::Payload,
};

/// The answer to a JOIN; what was missed since `resume` follows as ROOM frames, if `recovered`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    pub room: RoomId,
    /// Where the client stands once it has what follows.
    pub position: RoomPosition,
    /// Whether everything since `resume` follows (true where nothing was asked for); if not, the gap is too old or too long.
    pub recovered: bool,
    #[serde(default)]
    pub state: RoomState,
    /// The user's own role, if he has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Until when the user may not chat here (milliseconds since 1970), if he may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<u64>,
    /// How many connections are in the room, roughly.
    #[serde(default)]
    pub present: u64,
    /// At most ten, the greatest first.
    #[serde(default)]
    pub top: Vec<Ranked>,
    /// Value of all gifts.
    #[serde(default)]
    pub gifts_total: u64,
    #[serde(default)]
    pub likes_total: u64,
}

/// The connection is not in the room any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub room: RoomId,
    pub reason: LeftReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// It asked for it.
    Left,
    /// A host, an admin or a backend sent it away.
    Kicked,
}

/// A batch of a room's items, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Room {
    pub room: RoomId,
    /// Of the streams: offsets of another epoch mean nothing.
    pub epoch: u64,
    pub items: Vec<RoomItem>,
    /// Where the room stands, told now and then: a client that stands behind has a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<RoomPosition>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomItem {
    pub chain: Chain,
    /// 0 where the chain is loose.
    pub offset: u64,
    /// The offset before it in its chain: a client that stands before it has a gap.
    pub prev: u64,
    /// One of [`item`], or the application's own.
    #[serde(rename = "type")]
    pub kind: Token,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UserId>,
    pub at: u64,
    /// The mesh's own types carry JSON, see [`item`].
    pub data: Payload,
}

/// The orders within a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    Gifts,
    High,
    Normal,
    /// None: the newest counts.
    Loose,
}

/// Whether a room can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomState {
    /// People may join and send.
    pub open: bool,
    /// Its stream can be watched: told, not enforced.
    pub playable: bool,
    /// Every send is refused.
    pub banned: bool,
}

impl Default for RoomState {
    fn default() -> Self {
        Self { open: true, playable: true, banned: false }
    }
}

/// Somebody who sees everything in a room, however it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Host,
    Admin,
}

/// A place in a ranking: the value of somebody's gifts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    pub user: UserId,
    pub total: u64,
}

/// The mesh's own items: their types, and what stands in `data` as JSON.
pub mod item {
    use super::*;

    pub const GIFT: &str = "gift";
    pub const CHAT: &str = "chat";
    pub const DANMAKU: &str = "danmaku";
    pub const LIKE: &str = "like";
    pub const STATE: &str = "state";
    pub const MUTE: &str = "mute";
    pub const ROLE: &str = "role";
    pub const KICK: &str = "kick";
    pub const RANKING: &str = "ranking";
    pub const LEVEL: &str = "level";
    pub const NOTE: &str = "note";
    pub const PRESENCE: &str = "presence";
    /// What a backend pushes to everybody who is there.
    pub const PUSH: &str = "push";
    /// The room was cut into, or merged to, another number of parts: the item moves a client of any part to `offset`.
    pub const PARTS: &str = "parts";

    /// Types that only the mesh itself makes, or that have an operation of their own: no custom message may use them.
    pub const RESERVED: [&str; 12] = [GIFT, LIKE, STATE, MUTE, ROLE, KICK, RANKING, LEVEL, NOTE, PRESENCE, PUSH, PARTS];

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Gift {
        /// The idempotency key: what a client may know the gift by.
        pub key: String,
        pub gift: Token,
        pub count: u32,
        /// Of all `count`, in the smallest unit.
        pub value: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub to: Option<UserId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub note: Option<String>,
    }

    /// `count` since the last item; `total` of the room.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Like {
        pub count: u64,
        pub total: u64,
    }

    /// `until` is 0 when the mute ends.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Mute {
        pub user: UserId,
        pub until: u64,
        /// In every room.
        #[serde(default)]
        pub everywhere: bool,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct RoleChange {
        pub user: UserId,
        pub role: Option<Role>,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Kick {
        pub user: UserId,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Ranking {
        pub top: Vec<Ranked>,
        pub gifts_total: u64,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Level {
        pub user: UserId,
        pub level: u32,
        pub total: u64,
    }

    /// `came` and `went` only in rooms that are small enough for it.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Presence {
        pub present: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub came: Vec<UserId>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub went: Vec<UserId>,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Parts {
        pub parts: u16,
    }

    /// As an item's `data`.
    pub fn write<T: Serialize>(data: &T) -> Payload {
        serde_json::to_vec(data).expect("items have no type that JSON lacks").into()
    }

    /// From an item's `data`.
    pub fn read<T: serde::de::DeserializeOwned>(data: &Payload) -> Option<T> {
        serde_json::from_slice(&data.0).ok()
    }
}
