//! Directories and calls.

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::{
    frame::ActiveCall,
    id::{LoginId, Token, Unit, UserId},
    payload::Payload,
    trace::TraceContext,
};

/// A membership: payload in `DIR_<kind>`; an empty payload is a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub role: Option<Token>,
    pub at: Millis,
}

/// A call: value in the bucket `call_<kind>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub unit: Unit,
    pub started_at: Millis,
    /// Set when it ended; the key is purged 10 min later.
    pub ended_at: Option<Millis>,
    pub data: Option<Payload>,
    pub trace: Option<TraceContext>,
}

/// A client's CALLS question to the owner of its partition in one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallsRequest {
    pub user: UserId,
    pub login_id: LoginId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallsAnswer {
    pub calls: Vec<ActiveCall>,
}
