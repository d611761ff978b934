//! Checks of what comes from outside. A refusal names the field and the limit.

use pushmesh_auth::{Door, Scope};
use pushmesh_bus::{ConsumeError, KvError, StoreError};
use pushmesh_protocol::{CallId, Token, Unit, UserId};
use tonic::{Status, metadata::MetadataMap};

use crate::kind::{PushKind, Reach};

/// Most members that one request may carry.
pub const MEMBERS_MAX: usize = 1000;
/// Most bytes of a call's data.
pub const DATA_MAX_BYTES: usize = 1024;
/// When to try again what an outage prevented: gRPC's own trailer for it.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
const RETRY_AFTER_MS: &str = "1000";

/// `INVALID_ARGUMENT`: `reason` reads on from the field.
pub fn invalid(field: &str, reason: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field} {reason}"))
}

pub fn user(field: &str, text: &str) -> Result<UserId, Status> {
    UserId::new(text).map_err(|error| invalid(field, error))
}

/// An empty role is a plain member's.
pub fn role(field: &str, text: &str) -> Result<Option<Token>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Token::new(text).map(Some).map_err(|error| invalid(field, error))
}

pub fn call_id(field: &str, text: &str) -> Result<CallId, Status> {
    CallId::new(text).map_err(|error| invalid(field, error))
}

/// A flat kind's unit is one token, a tree's a path of them.
pub fn unit(kind: &dyn PushKind, field: &str, text: &str) -> Result<Unit, Status> {
    match kind.reach() {
        Reach::Unit => Token::new(text).map(Unit::from).map_err(|error| invalid(field, error)),
        Reach::Below => Unit::new(text).map_err(|error| invalid(field, error)),
    }
}

/// 1 to [`MEMBERS_MAX`] of them.
pub fn count(field: &str, count: usize) -> Result<(), Status> {
    if (1..=MEMBERS_MAX).contains(&count) {
        return Ok(());
    }
    Err(invalid(field, format_args!("has {count} entries; it must have 1 to {MEMBERS_MAX}")))
}

/// Either scope will do.
pub(crate) fn either(door: &Door, metadata: &MetadataMap) -> Result<(), Status> {
    door.check(metadata, Scope::DirectoryWrite).or_else(|_| door.check(metadata, Scope::CallWrite)).map(drop)
}

/// `UNAVAILABLE`, with when to try again.
pub(crate) fn unavailable(reason: impl std::fmt::Display) -> Status {
    let mut status = Status::unavailable(reason.to_string());
    let after = RETRY_AFTER_MS.parse().expect("digits are visible ASCII");
    status.metadata_mut().insert(RETRY_PUSHBACK, after);
    status
}

pub(crate) fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Full { .. } | StoreError::Outage { .. } | StoreError::HoldFull { .. } => unavailable(error),
        StoreError::TooLarge { .. } => Status::invalid_argument(error.to_string()),
        StoreError::Rejected(_) => internal(error),
    }
}

pub(crate) fn kv_status(error: &KvError) -> Status {
    match error {
        KvError::Outage(_) | KvError::Full(_) => unavailable(error),
        // Somebody else wrote it at the same moment.
        KvError::WrongRevision | KvError::Exists => Status::aborted(error.to_string()),
        KvError::TooLarge { .. } => Status::invalid_argument(error.to_string()),
        KvError::NoBucket(_) | KvError::Rejected(_) => internal(error),
    }
}

pub(crate) fn read_status(error: &ConsumeError) -> Status {
    match error {
        ConsumeError::Outage(_) => unavailable(error),
        ConsumeError::NotProvisioned(_) | ConsumeError::Rejected(_) => internal(error),
    }
}

fn internal(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(%error, "a request failed");
    Status::internal(error.to_string())
}
