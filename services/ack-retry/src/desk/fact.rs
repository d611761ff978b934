//! What is worth counting.

use pushmesh_protocol::{PushId, Token, UserId, message::Millis};

use super::Outcome;

/// Something to count, and sometimes to log.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Transmitted {
        attempt: u8,
    },
    /// The one end of a push, `after` milliseconds since it was made.
    Settled {
        outcome: Outcome,
        user: UserId,
        push: PushId,
        tries: u8,
        after: Millis,
    },
    /// Kept for the user's next login.
    Inboxed,
    /// Settled or pending already: not taken a second time.
    Duplicate,
    /// A withdrawal of a call that its login cannot have been told of.
    NothingToWithdraw,
    /// Made under an older lease than one already seen.
    OldEpoch {
        service: Token,
    },
    /// A comet had no such connection: the transmission does not count.
    Gone,
    /// A comet has seen a newer owner of this partition.
    Fenced,
    Kicked,
    /// An absent session's login was reported offline.
    TimedOut,
    /// login-ingest refused such a report.
    ReportRefused {
        field: String,
        reason: String,
    },
}
