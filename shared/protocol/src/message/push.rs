//! What the stream PUSH holds.

use serde::{Deserialize, Serialize};

use super::{EndedBy, Epoch, Millis};
use crate::{
    frame::{Call, Message},
    id::{CallId, DeviceId, Kind, LoginId, PushId, Token, UserId},
    trace::TraceContext,
};

/// What the stream PUSH holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PushOrder {
    Deliver(Delivery),
    Withdraw(Withdrawal),
    LoginEnded(LoginEnded),
}

impl PushOrder {
    pub fn user(&self) -> &UserId {
        match self {
            Self::Deliver(delivery) => &delivery.user,
            Self::Withdraw(withdrawal) => &withdrawal.user,
            Self::LoginEnded(ended) => &ended.user,
        }
    }
}

/// Somebody is to be told something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: PushId,
    pub user: UserId,
    pub target: Target,
    pub body: Body,
    pub policy: Policy,
    pub at: Millis,
    /// Who made it: ack-retry tells an older epoch's push.
    pub source: Option<Source>,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// One login: goes to the newest session of its user and device.
    Login { login_id: LoginId, device: DeviceId },
    /// All the user's devices; the first acknowledgement settles it.
    User,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    Call(Call),
    Message(Message),
}

/// What becomes of a push that nobody acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub at_end: AtEnd,
    /// After this long it expires, wherever it is.
    pub lifetime_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AtEnd {
    /// Kept for the user's next login.
    Inbox,
    /// Dead letter and alarm after the third transmission; expires silently with its login.
    Dead,
    /// Dropped and counted: worth nothing later.
    Drop,
}

/// The lease under which a push was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub service: Token,
    pub epoch: Epoch,
}

/// A call ended: settles `push` even before it arrives, and becomes a push of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// [`PushId::withdrawal`] of `push`.
    pub id: PushId,
    pub push: PushId,
    pub user: UserId,
    pub login_id: LoginId,
    pub device: DeviceId,
    pub kind: Kind,
    pub call_id: CallId,
    pub at: Millis,
    pub source: Option<Source>,
    pub trace: Option<TraceContext>,
}

/// A login ended in one kind: its calls expire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginEnded {
    pub user: UserId,
    pub login_id: LoginId,
    pub kind: Kind,
    pub at: Millis,
    /// The record that ended it for good; `None` where its sessions tell everybody all there is to know: it timed out (and
    /// a session that is heard again undoes that), logged out, or gave way to a newer session.
    #[serde(default)]
    pub by: Option<EndedBy>,
}
