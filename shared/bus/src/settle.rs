//! What becomes of a delivered message: the handler's verdict.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pushmesh_protocol::{
    Partition, Token,
    message::{DeadLetter, DeadReason},
    name::{MessageId, Stream, Subject},
    wire,
};

use crate::{Bus, Delivered, Outgoing};

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

/// A message whose dead letter could not be stored comes again after this.
const DEAD_RETRY: Duration = Duration::from_secs(1);
/// What a letter has beside the message's payload and the detail.
const LETTER_OVERHEAD_BYTES: usize = 4096;

impl Bus {
    /// Carries a verdict out. A rejected message is acknowledged once its dead letter is stored; until then it comes again,
    /// and its letter has the same id.
    pub async fn settle(&self, delivered: Delivered, verdict: Verdict, service: &Token, partition: Partition) {
        let (reason, detail) = match verdict {
            Verdict::Ack => return delivered.into_parts().1.ack(),
            Verdict::RetryAfter(pause) => return delivered.into_parts().1.retry_after(pause),
            Verdict::Reject { reason, detail } => (reason, detail),
        };
        let source = format!("{}-{}", delivered.stream(), delivered.sequence);
        tracing::error!(%source, subject = %delivered.subject, reason = reason.token(), %detail, "a message is rejected");
        let id = Token::new(&source).or_else(|_| Token::new(&format!("s{}", delivered.sequence)));
        let id = id.expect("a letter and a number are a token");
        // A letter is a little longer than its message, which may have been as long as the server takes.
        let room = self.max_payload().saturating_sub(LETTER_OVERHEAD_BYTES + detail.len());
        let letter = DeadLetter {
            service: service.clone(),
            reason,
            detail,
            at: now(),
            subject: delivered.subject.clone(),
            payload: delivered.payload.slice(..delivered.payload.len().min(room)),
        };
        let outgoing = Outgoing {
            subject: Subject::dead(reason, partition, &id),
            payload: wire::encode(&letter).into(),
            id: MessageId::dead(reason, &source),
            trace: delivered.trace,
        };
        match self.store(outgoing).await {
            Ok(_) => {
                self.inner.metrics.dead_letters.increment(1);
                delivered.into_parts().1.ack();
            }
            Err(error) => {
                tracing::warn!(%source, %error, stream = %Stream::DEAD, "a dead letter was not stored; the message comes again");
                delivered.into_parts().1.retry_after(DEAD_RETRY);
            }
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
