//! Logins: what LOGIN holds, and what doors report.

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::{
    id::{DeviceId, LoginId, UserId},
    trace::TraceContext,
};

/// Somebody came or went: what the stream LOGIN holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginRecord {
    pub user: UserId,
    pub event: LoginEvent,
    pub at: Millis,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LoginEvent {
    Online {
        login_id: LoginId,
        device: DeviceId,
    },
    /// Without a login id it ends the user's logins (of `device`, if named) begun before the record's `at`.
    Offline {
        login_id: Option<LoginId>,
        device: Option<DeviceId>,
        cause: OfflineCause,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OfflineCause {
    /// A login system said so.
    Reported,
    /// The client logged out.
    Logout,
    /// Its session was left for too long: ends nothing that has a live session again.
    Timeout,
}

/// What a door hands to login-ingest: a record whose login id may still have to be minted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginReport {
    pub user: UserId,
    /// `None` counts as the device `default`.
    pub device: Option<DeviceId>,
    pub login_id: Option<LoginId>,
    pub event: ReportedEvent,
    pub at: Millis,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportedEvent {
    Online,
    Offline(OfflineCause),
}

/// A comet's request to login-ingest; the answer is a [`LoginAnswers`] of the same length and order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginReports(pub Vec<LoginReport>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginAnswers(pub Vec<LoginAnswer>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginAnswer {
    /// Stored. For an `online`, its login id.
    Accepted { login_id: Option<LoginId> },
    /// Not stored, and never will be as it is.
    Refused { field: String, reason: String },
    /// An outage: it may have been stored. Say it again, with the same login id.
    Unknown { reason: String, retry_after_ms: u32 },
}
