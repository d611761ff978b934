//! What a desk wants done.

use pushmesh_protocol::{
    ConnId, Instance, PushId, UserId,
    message::{CometItem, DeadReason, LoginReport, Pending, PushOrder},
};

use super::{Fact, Written};
use crate::slab::Id;

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Hand it to the comet, in this order.
    Send { comet: Instance, item: Box<CometItem> },
    /// The message of PUSH has served.
    Ack { sequence: u64 },
    /// To be tried until it succeeds; answered with an [`Event::Done`].
    Effect(Effect),
    /// For metrics and logs.
    Note(Fact),
}

/// What takes time and may have to wait for the broker.
#[derive(Debug)]
pub enum Effect {
    /// Write the key of a push in `pending`.
    Keep { push: Id, pending: Box<Pending> },
    /// Purge the key of a push.
    Forget { user: UserId, id: PushId, hold: Option<u64> },
    /// Read the key of a push.
    Fetch { push: Id, user: UserId, id: PushId },
    /// Store a dead letter.
    Bury { push: Id, id: PushId, user: UserId, order: Box<PushOrder>, reason: DeadReason, detail: String },
    /// Report the end of a session's login.
    Report { session: Id, report: Box<LoginReport> },
    /// Purge a session's key, as it stood at this revision.
    PurgeSession { session: Id, user: UserId, conn: ConnId, revision: u64 },
    /// Write what became of a session's login beside it.
    KeepLogin { user: UserId, conn: ConnId, written: Written },
    /// Purge such a key, as it stood at this revision.
    PurgeLogin { user: UserId, conn: ConnId, revision: u64 },
}
