//! What a desk is told.

use std::collections::HashMap;

use pushmesh_protocol::{
    ConnId, Instance, PushId, UserId,
    message::{AckOutcome, Epoch, LoginAnswer, Millis, Pending, PushOrder, Session, SessionLogin},
};

use super::Written;
use crate::slab::Id;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A message of PUSH: `sequence` is its place in the stream.
    Order {
        sequence: u64,
        order: PushOrder,
        stored_at: Millis,
        delivered_before: bool,
    },
    /// A key of `pending`, read at take-over.
    Loaded {
        pending: Pending,
    },
    /// Sessions, pending pushes and comets are known: from now on things are sent.
    Ready,
    /// A comet said what became of a transmission.
    Answer {
        user: UserId,
        conn: ConnId,
        push: PushId,
        outcome: AckOutcome,
    },
    /// A session's key was put.
    Session {
        user: UserId,
        conn: ConnId,
        session: Session,
        revision: u64,
    },
    /// A session's key is gone.
    SessionGone {
        user: UserId,
        conn: ConnId,
    },
    /// What became of the login that a session began with was put beside it.
    LoginStands {
        user: UserId,
        conn: ConnId,
        login: SessionLogin,
        revision: u64,
    },
    /// That key is gone.
    LoginGone {
        user: UserId,
        conn: ConnId,
        revision: u64,
    },
    /// The watch of sessions begins anew with a full snapshot.
    SessionsRestarted,
    /// The snapshot is complete.
    SessionsCurrent,
    /// The comets that are alive.
    Comets(HashMap<Instance, Epoch>),
    /// Whether the broker is reached.
    Connected(bool),
    Done(Done),
    /// Time went by.
    Tick,
}

/// An effect that succeeded.
#[derive(Debug)]
pub enum Done {
    Kept {
        push: Id,
    },
    Forgotten {
        hold: Option<u64>,
    },
    Fetched {
        push: Id,
        pending: Option<Box<Pending>>,
    },
    Buried {
        push: Id,
    },
    Reported {
        session: Id,
        answer: LoginAnswer,
    },
    /// `false`: the key had been put again.
    SessionPurged {
        session: Id,
        revision: u64,
        purged: bool,
    },
    LoginKept {
        user: UserId,
        conn: ConnId,
        written: Written,
    },
    LoginPurged {
        user: UserId,
        conn: ConnId,
        revision: u64,
    },
}
