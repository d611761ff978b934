//! What the stream DEAD holds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Millis;
use crate::id::Token;

/// What DEAD holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub service: Token,
    pub reason: DeadReason,
    /// For people.
    pub detail: String,
    pub at: Millis,
    pub subject: String,
    pub payload: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadReason {
    /// Three transmissions, no acknowledgement.
    Unacknowledged,
    /// Nobody could read it.
    Malformed,
    /// Its handler refused it.
    Rejected,
    /// The inbox was full of newer ones.
    InboxFull,
}

impl DeadReason {
    pub fn token(self) -> &'static str {
        match self {
            Self::Unacknowledged => "unacknowledged",
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::InboxFull => "inbox_full",
        }
    }
}
