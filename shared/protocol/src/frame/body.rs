//! The bodies of the protocol's own frames. Times are milliseconds since 1970 (UTC), unless named otherwise.

use serde::{Deserialize, Deserializer, Serialize};

use super::ACK_MAX_IDS;
use crate::{
    id::{CallId, ConnId, DeviceId, Kind, LoginId, PushId, RoomId, Token, Unit, UserId},
    payload::Payload,
};

/// Longest token a LOGIN may carry, in bytes.
pub const CREDENTIAL_MAX_BYTES: usize = 3 * 1024;

/// The first frame of every connection.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// A JWT; it never stands in a URL.
    #[serde(deserialize_with = "credential")]
    pub token: String,
    pub device: DeviceId,
    /// What an earlier connection of this device was told in LOGIN_OK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    #[serde(default)]
    pub heartbeat: HeartbeatProfile,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("device", &self.device).field("resume", &self.resume).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    pub login_id: LoginId,
    pub conn_id: ConnId,
}

/// How often a client pings, and how many silent intervals end its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeartbeatProfile {
    /// Every 25 s, three missed.
    #[default]
    Normal,
    /// Every 5 s, three missed.
    Fast,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginOk {
    pub user: UserId,
    pub login_id: LoginId,
    pub conn_id: ConnId,
    /// Whether the login of `resume` goes on; if not, this is a new one.
    pub resumed: bool,
    pub heartbeat: Heartbeat,
    pub server_time: u64,
    pub frame_max_bytes: u32,
}

/// The heartbeat that the comet chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub interval_ms: u32,
    pub misses: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Logout {}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ping {}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pong {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    pub room: RoomId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<RoomPosition>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leave {
    pub room: RoomId,
}

/// Where somebody stands in a room: the last offset of each chain, in one epoch of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct RoomPosition {
    pub epoch: u64,
    pub gifts: u64,
    pub high: u64,
    pub normal: u64,
}

/// Something the user is told; acknowledged with [`Ack`] by its `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Push {
    pub id: PushId,
    /// Grows with every push of this user.
    pub seq: u64,
    pub body: PushBody,
    /// When it was made.
    pub at: u64,
}

/// What a push is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushBody {
    /// A call is going on in a unit of the user's.
    Call(Call),
    /// A message that a backend pushed.
    Message(Message),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub kind: Kind,
    pub call_id: CallId,
    /// Where: the unit that the call is in (of an organisation it may lie above the member's own).
    pub unit: Unit,
    pub started_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub sender: Token,
    pub data: Payload,
}

/// A call that was told has ended; a push of its own, acknowledged by its own `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallEnded {
    pub id: PushId,
    pub seq: u64,
    /// The push that told of the call.
    pub ends: PushId,
    pub kind: Kind,
    pub call_id: CallId,
    pub at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// 1 to 256 ids of PUSH or CALL_ENDED frames.
    #[serde(deserialize_with = "ack_ids")]
    pub ids: Vec<PushId>,
}

/// Asks for the active calls of this login.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallsQuery {
    /// The client's own number for the question.
    #[serde(default)]
    pub re: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    pub re: u32,
    pub calls: Vec<ActiveCall>,
    /// Kinds that did not answer in time, or whose calls don't all fit the frame: their pushes tell them all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Kind>,
}

/// An active call, with the id that its push has or will have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveCall {
    pub id: PushId,
    pub call: Call,
}

/// The comet had to drop frames for this connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    pub high: u32,
    pub normal: u32,
    pub low: u32,
}

/// The connection ends and should not be made again without a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kick {
    pub reason: KickReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KickReason {
    /// Another connection of the same user and device took over.
    Replaced,
    /// The token's life is over: log in with a new one.
    TokenExpired,
    /// An operator or backend ended it.
    Removed,
    /// It read too slowly.
    TooSlow,
}

/// The comet is going: connect again after `after_ms`, to `address` if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconnect {
    pub after_ms: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A frame was refused; the connection goes on unless it is closed right after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub error: ErrorCode,
    /// Which field, or frame, is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong, and which limit was passed.
    pub message: String,
    /// When to try again, if that may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// Where to try instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The question this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<u32>,
    /// The room whose JOIN this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is malformed or has a bad field.
    BadFrame,
    /// The frame is too large.
    TooLarge,
    /// Frames came faster than allowed.
    TooFast,
    /// A LOGIN was expected first, or in time.
    NotLoggedIn,
    /// The token is not accepted.
    Unauthorized,
    /// This comet takes no more connections.
    Full,
    /// The mesh can't store it now: try again.
    Unavailable,
    /// Nothing serves this code or room.
    NotServed,
    /// Not allowed to this user.
    Forbidden,
}

fn credential<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let token = String::deserialize(deserializer)?;
    match token.len() {
        0 => Err(serde::de::Error::custom("is empty")),
        bytes if bytes > CREDENTIAL_MAX_BYTES => {
            Err(serde::de::Error::custom(format_args!("has {bytes} bytes; the limit is {CREDENTIAL_MAX_BYTES}")))
        }
        _ => Ok(token),
    }
}

// The limit holds while reading: a long list is refused before it is built.
fn ack_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PushId>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<PushId>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "1 to {ACK_MAX_IDS} push ids")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut ids = Vec::with_capacity(list.size_hint().unwrap_or(0).min(ACK_MAX_IDS));
            while let Some(id) = list.next_element()? {
                if ids.len() == ACK_MAX_IDS {
                    return Err(serde::de::Error::custom(format_args!("has more than {ACK_MAX_IDS} ids")));
                }
                ids.push(id);
            }
            if ids.is_empty() { Err(serde::de::Error::custom("is empty; it needs 1 id or more")) } else { Ok(ids) }
        }
    }
    deserializer.deserialize_seq(Visitor)
}
