//! What services say to each other of rooms, and what they keep of them, by [`crate::wire`].
//!
//! Written by api, read by the owner of the room's partition (room-fanout) and by any team with a consumer of its own:
//! [`Gift`], [`RoomMessage`], [`RoomEvent`], [`LikesTotal`], [`Note`]. Written by the owner, read by comets: [`RoomBatch`].

mod join;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    frame::{Ranked, Role, RoomPosition, RoomState},
    gift_key::GiftKey,
    id::{ConnId, Instance, RoomId, Token, UserId},
    message::{Epoch, Millis},
    partition::{Partition, fnv1a32},
    payload::Payload,
    trace::TraceContext,
};

pub use self::join::*;

/// Which stream a message goes through, and which lane: high before normal before low at every hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoomClass {
    High,
    Normal,
    Low,
}

impl RoomClass {
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    pub fn name(self) -> &'static str {
        ["high", "normal", "low"][self as usize]
    }
}

// ---- what the streams hold

/// A gift: `pm.v1.room.high.gift.<p>.<room>`, right behind its marker, in one atomic batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gift {
    pub key: GiftKey,
    pub room: RoomId,
    pub from: UserId,
    pub to: Option<UserId>,
    pub gift: Token,
    pub count: u32,
    /// Of all `count`, in the smallest unit of money.
    pub value: u64,
    pub note: Option<String>,
    pub at: Millis,
    pub trace: Option<TraceContext>,
}

/// That a gift's key was used: `pm.v1.room.high.key.<p>.<key>`. The gift has the next sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftMarker {
    /// SHA-256 over what the gift is, without its time: another content under the same key is refused.
    pub content: [u8; 32],
    pub at: Millis,
}

/// Chat, danmaku, or an application's own type. High: `pm.v1.room.high.chat.<p>.<room>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomMessage {
    pub room: RoomId,
    pub kind: Token,
    pub from: Option<UserId>,
    pub at: Millis,
    pub data: Payload,
    pub trace: Option<TraceContext>,
}

/// `pm.v1.room.normal.event.<p>.<room>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomEvent {
    pub room: RoomId,
    pub by: Option<UserId>,
    pub at: Millis,
    pub what: RoomHappening,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RoomHappening {
    State(RoomState),
    /// `until` is 0 when the mute ends.
    Mute {
        user: UserId,
        until: Millis,
        everywhere: bool,
    },
    Role {
        user: UserId,
        role: Option<Role>,
    },
    Kick {
        user: UserId,
    },
    /// A custom type whose class is normal.
    Message {
        kind: Token,
        data: Payload,
    },
}

/// `pm.v1.room.normal.ranking.<p>.<room>`: told by the owner, for whoever reads the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    pub room: RoomId,
    pub top: Vec<Ranked>,
    pub gifts_total: u64,
    pub at: Millis,
}

/// `pm.v1.room.low.likes.<p>.<room>.<api>.<life>`: the likes that one life of one api instance has accepted for the room,
/// all in all. A message that replaces another loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LikesTotal {
    pub room: RoomId,
    pub total: u64,
    pub at: Millis,
}

/// `pm.v1.room.low.note.<p>.<room>.<id>`: an admin's note, a level-up, or a custom type whose class is low.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub room: RoomId,
    pub kind: Token,
    pub from: Option<UserId>,
    pub at: Millis,
    pub data: Payload,
}

// ---- what the buckets hold

/// Value of `state.<room>` in the bucket `rooms`: written by api. Absent: [`RoomState::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    pub state: RoomState,
    pub at: Millis,
}

/// Value of `role.<room>.<user>` in the bucket `rooms`: written by api.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    pub role: Role,
    pub at: Millis,
}

/// Value of `all.<user>` or `in.<room>.<user>` in the bucket `mutes`: written by api, gone by itself at `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteRecord {
    pub until: Millis,
    pub by: Option<UserId>,
    pub at: Millis,
}

// ---- the owner → comets

/// `pm.v1.room.frame.<p>.<room>`: one publish a room, class and tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomBatch {
    pub room: RoomId,
    pub partition: Partition,
    /// The lease's: receivers refuse older ones.
    pub epoch: Epoch,
    pub class: RoomClass,
    pub frames: Vec<RoomFrame>,
    /// What comets have to do, after the frames.
    pub orders: Vec<RoomOrder>,
    /// Of a sampled message in it.
    pub trace: Option<TraceContext>,
}

/// A frame for some of a room's members, encoded once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomFrame {
    pub audience: Audience,
    /// Within high, gifts go first.
    pub urgent: bool,
    /// A newer frame with this key takes its place where it still waits; such frames are loose.
    pub conflate: Option<Token>,
    /// A [`ServerFrame`](crate::frame::ServerFrame) in MessagePack.
    pub frame: Bytes,
}

/// Whom a frame is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    Everybody,
    /// Members of one of `of` parts, see [`part_of`]; overseers (hosts and admins) are not among them.
    Part {
        part: u16,
        of: u16,
    },
    /// Hosts and admins, who see all parts.
    Overseers,
    User(UserId),
}

/// Which of `parts` virtual rooms a user is in: wherever he is connected, in each of his connections.
pub fn part_of(user: &UserId, parts: u16) -> u16 {
    (fnv1a32(user.as_str().as_bytes()) % u32::from(parts.max(1))) as u16
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomOrder {
    /// He sees everything from now on, or only his part again.
    Oversee { user: UserId, overseer: bool },
    /// Out of the room.
    Kick { user: UserId },
    /// A new owner has come, or the streams are new: say again who is here.
    Recount,
}

// ---- comets → the owner

/// `pm.v1.room.ask.<p>`: answered by the owner of the partition with a [`RoomAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RoomAsk {
    Join(JoinAsk),
    Joins(JoinsAsk),
    Info {
        room: RoomId,
    },
    Ranking {
        room: RoomId,
        places: u16,
    },
    /// What of it lies in the streams and was not told, or not as it lies there: its senders were muted.
    Skipped {
        room: RoomId,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RoomAnswer {
    Joined(Box<JoinAnswer>),
    JoinedAll(Box<JoinsAnswer>),
    Info(RoomInfo),
    Ranking {
        top: Vec<Ranked>,
        gifts_total: u64,
    },
    /// A closed room takes nobody.
    Closed,
    /// Not now: a take-over is going on.
    NotReady,
    /// The newest 256 offsets of each stream.
    Skipped {
        /// Of ROOM_HIGH: chats that were told to nobody, gifts that were told without their note.
        offsets: Vec<u64>,
        /// Of those, the ones up to here are forgotten.
        #[serde(default)]
        forgotten: u64,
        /// Of ROOM_NORMAL: messages of the application's types that were told to nobody.
        #[serde(default)]
        normal: Vec<u64>,
        #[serde(default)]
        normal_forgotten: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomInfo {
    pub room: RoomId,
    pub state: RoomState,
    pub position: RoomPosition,
    pub present: u64,
    pub parts: u16,
    pub gifts: u64,
    pub gifts_total: u64,
    pub likes_total: u64,
}

/// `pm.v1.room.presence.<p>`: who is in the partition's rooms at one comet, every 2 s where something changed, and whole every
/// 10 s and when a `Recount` asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomPresence {
    pub comet: Instance,
    pub comet_epoch: Epoch,
    /// All rooms of the partition there: what is not named has nobody.
    pub whole: bool,
    pub rooms: Vec<RoomCount>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomCount {
    pub room: RoomId,
    /// Connections; 0: nobody any more.
    pub members: u32,
    /// Who came and went since the last report, where the comet tells it: small rooms only.
    pub came: Vec<UserId>,
    pub went: Vec<UserId>,
}

/// `pm.v1.comet.rooms.<comet>`: in which rooms connections are; answered by their comet with a [`CometRooms`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CometRoomsAsk {
    pub connections: Vec<ConnId>,
}

/// Where one of them is, or is about to be; one that is gone is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CometRooms {
    pub rooms: Vec<RoomId>,
}

/// `pm.v1.comet.status.<comet>`: every second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CometStatus {
    pub epoch: Epoch,
    pub connections: u32,
    /// The most it takes.
    pub capacity: u32,
    /// Rooms with a member there.
    pub rooms: u32,
    pub draining: bool,
    /// Where clients reach it; empty where it has no such door.
    pub websocket: String,
    pub tcp: String,
    pub at: Millis,
}
