//! A partition's messages, to its one owner: [`Bus::take_partition`].
//!
//! Every partition of a WorkQueue stream has one durable pull consumer, whose messages go to the client that is pinned to
//! it. Taking over unpins the one before and sets the consumer back to the first message nobody acknowledged, so that
//! what it had fetched comes at once, and in order.

pub(crate) mod ledger;
mod pull;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pushmesh_protocol::{
    Partition, TraceContext,
    message::Millis,
    name::{Consumer, Stream},
    topology::PIN_GROUP,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Acker, Bus,
    api::{CallError, SequencePair, code, subject},
};

/// How a partition came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// Nobody owned it.
    Fresh,
    /// Its owner released it.
    HandedOver,
    /// Its owner is gone or fenced.
    Crashed,
}

/// Why a partition could not be taken, or a stream not be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    #[error("{0} does not exist: run `pushmesh provision`")]
    NotProvisioned(String),
    #[error("NATS did not answer: {0}")]
    Outage(String),
    #[error("NATS refused: {0}")]
    Rejected(String),
}

/// The messages of one partition, while it is ours. Dropped, it is [abandoned](Self::abandon).
pub struct PartitionConsumer {
    bus: Bus,
    stream: Arc<Stream>,
    consumer: Consumer,
    delivered_before: u64,
    pending: u64,
    messages: mpsc::Receiver<Delivered>,
    /// Ends pulling, gives back what was not handed on.
    release: CancellationToken,
    /// Ends pulling, gives nothing back.
    _abandon: DropGuard,
}

/// A message of a partition.
pub struct Delivered {
    pub subject: String,
    pub payload: Bytes,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// 1 at the first delivery since the last reset.
    pub attempt: u64,
    /// When it was stored.
    pub at: Millis,
    /// Messages of the partition that wait behind this one.
    pub pending: u64,
    pub trace: Option<TraceContext>,
    acker: Acker,
    stream: Arc<Stream>,
}

/// What the server knows of a consumer.
#[derive(Deserialize)]
struct Info {
    delivered: SequencePair,
    num_ack_pending: u64,
    num_pending: u64,
    #[serde(default)]
    priority_groups: Vec<PriorityGroup>,
}

#[derive(Deserialize)]
struct PriorityGroup {
    #[serde(default)]
    pinned_client_id: Option<String>,
}

impl Info {
    /// The pin, if a client has it.
    fn pinned(&self) -> Option<&str> {
        let mut pins = self.priority_groups.iter().filter_map(|group| group.pinned_client_id.as_deref());
        pins.find(|id| !id.is_empty())
    }
}

impl Bus {
    /// Makes this client the one that a partition's messages go to, from the first one that nobody acknowledged.
    ///
    /// Only the holder of the partition's lease may call it: it takes the partition from whoever has it.
    pub async fn take_partition(
        &self,
        stream: &Stream,
        partition: Partition,
        how: TakeOver,
    ) -> Result<PartitionConsumer, ConsumeError> {
        let consumer = Consumer::of_partition(partition);
        let deadline = Instant::now() + self.inner.config.outage_hold;
        let taken = async {
            let mut info = self.consumer_info(stream, &consumer, deadline).await?;
            let delivered_before = info.delivered.stream_seq;
            if info.pinned().is_some() || how == TakeOver::Crashed {
                self.unpin(stream, &consumer, deadline).await?;
            }
            // Without it, what the one before had fetched would come after its ack wait, and behind newer messages.
            if info.num_ack_pending > 0 || how == TakeOver::Crashed {
                info = self.reset(stream, &consumer, deadline).await?;
            }
            Ok((delivered_before, info.num_pending + info.num_ack_pending))
        };
        let (delivered_before, pending) = taken
            .await
            .map_err(|error| ConsumeError::of(error, || format!("consumer {consumer} of stream {stream}")))?;
        let stream = Arc::new(stream.clone());
        let (abandon, release) = (self.inner.stop.child_token(), CancellationToken::new());
        let start = pull::start(self, stream.clone(), consumer.clone(), release.clone(), abandon.clone());
        let messages = start.await.map_err(|error| ConsumeError::Outage(error.to_string()))?;
        let _abandon = abandon.drop_guard();
        let bus = self.clone();
        Ok(PartitionConsumer { bus, stream, consumer, delivered_before, pending, messages, release, _abandon })
    }

    /// Up to which sequence messages of a partition have been delivered to anybody. Taking the partition over sets it back:
    /// who needs it asks before.
    pub async fn delivered(&self, stream: &Stream, partition: Partition) -> Result<u64, ConsumeError> {
        let consumer = Consumer::of_partition(partition);
        let deadline = Instant::now() + self.inner.config.outage_hold;
        let info = self.consumer_info(stream, &consumer, deadline).await;
        let what = || format!("consumer {consumer} of stream {stream}");
        info.map(|info| info.delivered.stream_seq).map_err(|error| ConsumeError::of(error, what))
    }

    async fn consumer_info(&self, stream: &Stream, consumer: &Consumer, until: Instant) -> Result<Info, CallError> {
        self.call_in_turn(&subject::consumer_info(stream, consumer.as_str()), Bytes::new, until).await
    }

    /// Back to the first message that nobody acknowledged.
    async fn reset(&self, stream: &Stream, consumer: &Consumer, until: Instant) -> Result<Info, CallError> {
        self.call_in_turn(&subject::consumer_reset(stream, consumer), || "{}".into(), until).await
    }

    async fn unpin(&self, stream: &Stream, consumer: &Consumer, deadline: Instant) -> Result<(), CallError> {
        let request = Bytes::from(json!({ "group": PIN_GROUP }).to_string());
        let (unpin, say) = (subject::consumer_unpin(stream, consumer), || request.clone());
        match self.call_in_turn::<serde::de::IgnoredAny>(&unpin, say, deadline).await {
            Ok(_) => Ok(()),
            // Nobody is pinned any more.
            Err(CallError::Api(error)) if !error.is_passing() => {
                tracing::debug!(%stream, %consumer, %error, "nothing to unpin");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl PartitionConsumer {
    /// Up to this stream sequence every message of the partition had been delivered to somebody before this take-over.
    pub fn delivered_before(&self) -> u64 {
        self.delivered_before
    }

    /// Messages that waited for this partition's owner at the take-over, those delivered and not acknowledged included.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The next message, in stream order; `None` once the connection is closed. Cancel safe.
    ///
    /// Survives reconnects and restarts of the server; then messages not acknowledged may come again.
    pub async fn next(&mut self) -> Option<Delivered> {
        self.messages.recv().await
    }

    /// Hands the partition over: stops pulling, gives back what was not handed out, unpins. What the caller still holds
    /// must be settled before; the next owner gets the rest first.
    pub async fn release(mut self) {
        self.release.cancel();
        // The task gives back what it holds, and closes the channel.
        while let Some(left) = self.messages.recv().await {
            left.acker.retry_after(Duration::ZERO);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        let said = async {
            self.bus.inner.acks.flush().await;
            self.bus.unpin(&self.stream, &self.consumer, deadline).await
        };
        if !matches!(tokio::time::timeout_at(deadline, said).await, Ok(Ok(()))) {
            tracing::warn!(stream = %self.stream, consumer = %self.consumer, "a partition was released without unpinning");
        }
    }

    /// Fenced: stops at once and gives nothing back, since it may already be somebody else's.
    pub fn abandon(self) {}
}

impl Delivered {
    /// What it says, and how to answer.
    pub fn into_parts(self) -> (Bytes, Acker) {
        (self.payload, self.acker)
    }

    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }

    /// The stream it came from.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl ConsumeError {
    pub(crate) fn of(error: CallError, what: impl FnOnce() -> String) -> Self {
        if error.has_code(code::STREAM_NOT_FOUND) || error.has_code(code::CONSUMER_NOT_FOUND) {
            Self::NotProvisioned(what())
        } else if error.is_passing() {
            Self::Outage(error.to_string())
        } else {
            Self::Rejected(error.to_string())
        }
    }
}
