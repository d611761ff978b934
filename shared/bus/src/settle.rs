//! What becomes of a delivered message: the handler's verdict.

use std::time::Duration;

use pushmesh_protocol::{Partition, Token, message::DeadReason};

use crate::{Bus, Delivered};

/// A handler's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Ack,
    /// Not now: comes again after the pause; later messages may overtake it.
    RetryAfter(Duration),
    /// Never: becomes a dead letter.
    Reject { reason: DeadReason, detail: String },
}

impl Bus {
    pub async fn settle(&self, delivered: Delivered, verdict: Verdict, service: &Token, partition: Partition) {
        let _ = (service, partition);
        match verdict {
            Verdict::Ack => delivered.into_parts().1.ack(),
            Verdict::RetryAfter(pause) => delivered.into_parts().1.retry_after(pause),
            Verdict::Reject { .. } => {}
        }
    }
}
