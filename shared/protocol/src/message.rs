//! What services say to each other, and what they keep in streams and buckets, by [`crate::wire`].
//!
//! Times are milliseconds since 1970 (UTC). New fields go to the end of a struct, with `#[serde(default)]`;
//! new variants to the end of an enum.

mod app;
mod call;
mod comet;
mod dead;
mod login;
mod mesh;
mod online;
mod pending;
mod push;
mod session;

pub use self::{
    app::{AppAnswer, AppRequest},
    call::{CallRecord, CallsAnswer, CallsRequest, Membership},
    comet::{AckBatch, AckItem, AckOutcome, CometBatch, CometItem, CometOrder},
    dead::{DeadLetter, DeadReason},
    login::{
        LoginAnswer, LoginAnswers, LoginEvent, LoginRecord, LoginReport, LoginReports, OfflineCause, ReportedEvent,
    },
    mesh::{Heartbeat, LeaseRecord, MemberRecord, MeshInfo},
    online::{LateRecord, OnlineAnswer, OnlineBatch, OnlineEntry, OnlineResult},
    pending::{HandOver, Pending, PendingState},
    push::{AtEnd, Body, Delivery, LoginEnded, Policy, PushOrder, Source, Target, Withdrawal},
    session::{EndedBy, Session, SessionLogin, Successor},
};

/// Milliseconds since 1970 (UTC).
pub type Millis = u64;
/// A lease's revision: who holds a partition now has the highest.
pub type Epoch = u64;
