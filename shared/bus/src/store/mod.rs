//! Storing messages in streams: awaited, held and said again with the same id over an outage, batched where several wait.

mod batch;
pub(crate) mod group;
pub(crate) mod hold;
mod lineup;
mod unique;

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use pushmesh_protocol::{
    TraceContext,
    name::{MessageId, Stream, Subject, header},
};
use serde::Deserialize;
use tokio::time::Instant;

pub use unique::{Unique, UniqueOutcome};

use crate::{
    Bus,
    api::{self, CallError, Tries, code},
};

/// Atomic batches that one connection has open at once; the server allows 50 a stream, of all clients.
pub(crate) const BATCHES_AT_ONCE: usize = 8;
/// What headers and the subject add to a message, for bounds of bytes.
pub(crate) const OVERHEAD_BYTES: usize = 256;

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub subject: Subject,
    pub payload: Bytes,
    /// Dedupes it within the stream's duplicate window.
    pub id: MessageId,
    /// Context of a sampled span; becomes the header `traceparent`.
    pub trace: Option<TraceContext>,
}

/// Where a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub sequence: u64,
    /// Its id was there before: nothing was added.
    pub duplicate: bool,
}

/// Why a message was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was stored. Room comes when consumers acknowledge.
    #[error("the stream is full: {detail}")]
    Full { detail: String },
    /// It may have been stored: say it again with the same id.
    #[error("NATS did not answer for {held:?}: {reason}")]
    Outage { held: Duration, reason: String },
    /// Nothing was sent: too much is waiting already.
    #[error("{limit} bytes are waiting for NATS already (nats.hold_max_bytes)")]
    HoldFull { limit: usize },
    #[error("the message has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("NATS refused the message: {0}")]
    Rejected(String),
}

impl StoreError {
    /// Saying it again later may help, with the same id: nothing is wrong with the message.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Outage { .. } | Self::HoldFull { .. })
    }
}

/// The server's answer to a publish.
#[derive(Debug, Deserialize)]
pub(crate) struct PubAck {
    pub seq: u64,
    #[serde(default)]
    pub duplicate: bool,
    /// Id of the atomic batch that this answer commits.
    #[serde(default)]
    pub batch: Option<String>,
    /// Messages in that batch.
    #[serde(default)]
    pub count: Option<u64>,
}

impl From<PubAck> for Stored {
    fn from(ack: PubAck) -> Self {
        Self { sequence: ack.seq, duplicate: ack.duplicate }
    }
}

impl Outgoing {
    fn headers(&self, ttl: Option<Duration>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(ttl) = ttl {
            headers.insert(header::TTL, ttl_text(ttl));
        }
        headers.insert(header::MESSAGE_ID, self.id.as_str());
        if let Some(trace) = &self.trace {
            headers.insert(header::TRACEPARENT, trace.to_string());
        }
        headers
    }

    fn publish(&self, ttl: Option<Duration>) -> group::Publish {
        let subject = self.subject.as_str().to_owned();
        group::Publish { subject, headers: self.headers(ttl), payload: self.payload.clone() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.len() + self.subject.as_str().len() + self.id.as_str().len() + OVERHEAD_BYTES
    }
}

impl Bus {
    /// Stores one message. Over an outage it is held, and said again with the same id, for `outage_hold`.
    ///
    /// Dropping the future gives up: the message may have been stored.
    pub async fn store(&self, message: Outgoing) -> Result<Stored, StoreError> {
        let begun = Instant::now();
        let outcome = self.store_until(&message, begun, begun + self.inner.config.outage_hold).await;
        self.count(begun, &outcome);
        outcome
    }

    async fn store_until(&self, message: &Outgoing, begun: Instant, deadline: Instant) -> Result<Stored, StoreError> {
        self.check_size(message)?;
        let limit = self.inner.held.limit();
        let _held = self.inner.held.take(message.bytes()).ok_or(StoreError::HoldFull { limit })?;
        let slot = tokio::time::timeout_at(deadline, self.inner.window.acquire()).await;
        let _slot =
            slot.map_err(|_| StoreError::Outage { held: begun.elapsed(), reason: "the window is full".into() })?;
        self.store_singly(message, begun, deadline).await
    }

    /// The tries of one message that has its place in the window.
    async fn store_singly(&self, message: &Outgoing, begun: Instant, deadline: Instant) -> Result<Stored, StoreError> {
        let mut tries = Tries::until(deadline);
        loop {
            let timeout = tries.this_try(self.inner.config.ack_timeout);
            let error = match self.publish_once(message, timeout).await {
                Ok(ack) => return Ok(ack.into()),
                Err(error) => error,
            };
            if !error.is_passing() || !tries.again(self).await {
                return Err(refusal(error, begun));
            }
            self.inner.metrics.store_retries.increment(1);
        }
    }

    async fn publish_once(&self, message: &Outgoing, timeout: Duration) -> Result<PubAck, CallError> {
        let answer =
            self.ask(message.subject.as_str(), Some(message.headers(None)), message.payload.clone(), timeout).await?;
        api::read(&answer.payload)
    }

    fn check_size(&self, message: &Outgoing) -> Result<(), StoreError> {
        let bytes = message.payload.len();
        self.fits(bytes + OVERHEAD_BYTES)
            .map_err(|(_, limit)| StoreError::TooLarge { bytes, limit: limit.saturating_sub(OVERHEAD_BYTES) })
    }

    fn count(&self, begun: Instant, outcome: &Result<Stored, StoreError>) {
        let metrics = &self.inner.metrics;
        match outcome {
            Ok(stored) => {
                metrics.stored.increment(1);
                metrics.duplicates.increment(u64::from(stored.duplicate));
                metrics.store_seconds.record(begun.elapsed().as_secs_f64());
            }
            Err(_) => metrics.store_refused.increment(1),
        }
    }

    /// Stores many messages of one stream: where at least two wait, as atomic batches of at most 500; singly with the same
    /// ids where a batch is rejected or goes unanswered. Those of one subject keep their order, come what may: behind one
    /// that may still be stored, none of its subject is. One result each, in order.
    pub async fn store_all(&self, stream: &Stream, messages: Vec<Outgoing>) -> Vec<Result<Stored, StoreError>> {
        self.store_in_batches(stream, messages, None).await
    }

    /// Like [`store_all`](Self::store_all); the messages go from the stream by themselves after `ttl`: whole seconds,
    /// rounded up.
    pub async fn store_all_for(
        &self,
        stream: &Stream,
        messages: Vec<Outgoing>,
        ttl: Duration,
    ) -> Vec<Result<Stored, StoreError>> {
        self.store_in_batches(stream, messages, Some(ttl)).await
    }
}

/// Value of the header for a lifetime: at least a second, in whole ones.
pub(crate) fn ttl_text(ttl: Duration) -> String {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    format!("{}s", seconds.max(1))
}

/// What a failed call means for the message.
pub(crate) fn refusal(error: CallError, begun: Instant) -> StoreError {
    match error {
        CallError::Api(error) if error.is_full() => StoreError::Full { detail: error.description },
        CallError::Api(error) if error.err_code == code::MESSAGE_TOO_LARGE => StoreError::Rejected(error.description),
        error if error.is_passing() => StoreError::Outage { held: begun.elapsed(), reason: error.to_string() },
        error => StoreError::Rejected(error.to_string()),
    }
}
