//! What the bucket `pending` holds.

use serde::{Deserialize, Serialize};

use super::{Millis, PushOrder};
use crate::id::LoginId;

/// A push that was not acknowledged in its first 2 s: value in the bucket `pending`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    pub order: PushOrder,
    /// The per-user sequence its frame carries: the sequence in PUSH.
    pub seq: u64,
    /// Transmissions begun.
    pub tries: u8,
    pub state: PendingState,
    /// When the last transmission began, or it went into the inbox.
    pub at: Millis,
    /// Logins that have had their tries: an inbox waits for another one. At most 32, the latest.
    #[serde(default)]
    pub logins: Vec<LoginId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PendingState {
    Trying,
    Inbox,
}

/// Where the owners of a partition of PUSH stopped, noted by the last one when it handed over and by the next when it took
/// over: value of its key in the bucket `pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Up to this one everything may have been sent once.
    pub sequence: u64,
    /// Its writer has let go: nothing after `sequence` has been looked at, though it may have been delivered. Otherwise
    /// its writer has only begun there.
    #[serde(default)]
    pub handed_over: bool,
}
