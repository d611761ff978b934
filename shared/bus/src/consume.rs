//! Partitions.
use crate::{Acker, Bus};
use bytes::Bytes;
use pushmesh_protocol::{Partition, TraceContext, message::Millis, name::Stream};
use std::time::Duration;

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

pub struct PartitionConsumer {
    delivered_before: u64,
    messages: tokio::sync::mpsc::Receiver<Delivered>,
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
    pub trace: Option<TraceContext>,
    acker: Acker,
}

impl Bus {
    pub async fn take_partition(
        &self,
        stream: &Stream,
        partition: Partition,
        how: TakeOver,
    ) -> Result<PartitionConsumer, ConsumeError> {
        let _ = (partition, how);
        Err(ConsumeError::Outage(stream.to_string()))
    }
}

impl PartitionConsumer {
    /// Up to this stream sequence every message had been delivered at least once before this take-over.
    pub fn delivered_before(&self) -> u64 {
        self.delivered_before
    }

    /// The next message, in stream order; `None` once closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivered> {
        self.messages.recv().await
    }

    /// Hands the partition over: stops pulling, gives back what was not handed out, unpins.
    pub async fn release(mut self) {
        while let Ok(left) = self.messages.try_recv() {
            left.acker.retry_after(Duration::ZERO);
        }
    }

    /// Fenced: stops at once and gives nothing back.
    pub fn abandon(self) {}
}

impl Delivered {
    pub fn into_parts(self) -> (Bytes, Acker) {
        (self.payload, self.acker)
    }

    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }
}
