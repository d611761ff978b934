//! What a desk is told, and what it answers.

use pushmesh_protocol::{
    ConnId, TraceContext, Unit, UserId,
    message::{Epoch, Millis, OnlineEntry, PushOrder, Session, SessionLogin},
};

use super::Comets;
use crate::book::CallNews;

/// What happens to a partition.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A login record; `trace` is the span that handles it.
    Record {
        entry: OnlineEntry,
        trace: Option<TraceContext>,
    },
    Session(SessionNews),
    /// The comets that are heard.
    Comets(Comets),
    Member(MemberNews),
    /// `trace` is the span that handles it.
    Call {
        news: CallNews,
        trace: Option<TraceContext>,
    },
    /// Time has passed.
    Tick,
}

/// What the bucket `sess` says of this partition.
#[derive(Debug, Clone)]
pub(crate) enum SessionNews {
    Put {
        user: UserId,
        conn: ConnId,
        session: Session,
    },
    Gone {
        user: UserId,
        conn: ConnId,
    },
    /// What has become of the login that a session began with.
    Stands {
        user: UserId,
        conn: ConnId,
        login: SessionLogin,
    },
    /// Nothing is said of it any more.
    StandsNoMore {
        user: UserId,
        conn: ConnId,
    },
    /// A snapshot follows.
    Restarted,
    /// The snapshot is complete.
    Current,
}

/// What the stream `DIR_<kind>` says of this partition.
#[derive(Debug, Clone)]
pub(crate) enum MemberNews {
    Joined {
        user: UserId,
        unit: Unit,
        at: Millis,
    },
    Left {
        user: UserId,
        unit: Unit,
    },
    /// A snapshot follows.
    Restarted,
    /// The snapshot is complete.
    Current,
}

/// What became of a login record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Evaluated,
    /// Its own offline, or a newer login of the device, came before it.
    Overtaken,
    /// Older than `stale_after`, and its user and device have no session.
    Stale,
    /// From a distributor that owns the partition no more.
    Fenced {
        current: Epoch,
    },
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// To be stored in PUSH, in this order.
    pub(crate) orders: Vec<PushOrder>,
    /// Memberships to be removed from the directory.
    pub(crate) dissolved: Vec<(UserId, Unit)>,
    /// For a record.
    pub(crate) outcome: Option<Outcome>,
}
