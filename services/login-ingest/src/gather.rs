//! One task that stores what the doors let in: it takes all that waits, up to a batch, and stores it at once.
//!
//! While a batch is being stored the next one gathers by itself: idle, a record leaves alone and at once; busy, five
//! hundred share one atomic batch. One batch at a time keeps a stream's records in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use pushmesh_bus::{Bus, Outgoing, StoreError, Stored};
use pushmesh_protocol::{LoginId, Partitions, TraceContext, message::Millis, name::Stream, wire};
use pushmesh_telemetry::span;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    answers::{Answer, Slot},
    metrics::{Door, Metrics},
    record::{Checked, Refused},
};

struct Waiting {
    number: u64,
    slot: Slot,
    outgoing: Outgoing,
    login_id: Option<LoginId>,
    door: Door,
    // Open until the answer.
    _report: Span,
    _publish: Span,
}

/// The doors' way in.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
    partitions: Partitions,
    metrics: Arc<Metrics>,
    retry_after: Duration,
}

/// How records are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records that may wait in all.
    pub waiting_max: usize,
    /// Records in one atomic batch.
    pub batch_max: usize,
    /// What an *unknown* asks its caller to wait.
    pub retry_after: Duration,
    /// How long storing goes on at the end; what is not stored by then is answered *unknown*.
    pub closing_within: Duration,
}

/// The two ends: the doors' and the task's.
pub fn gathering(bus: Bus, partitions: Partitions, limits: Limits, metrics: Arc<Metrics>) -> (Intake, Gatherer) {
    let (queue, waiting) = mpsc::channel(limits.waiting_max);
    let intake = Intake { queue, partitions, metrics: Arc::clone(&metrics), retry_after: limits.retry_after };
    (intake, Gatherer { bus, waiting, limits, metrics })
}

impl Intake {
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Takes a checked record or says why not; its answer comes through `slot`, sooner or later, but always.
    pub fn take(
        &self,
        door: Door,
        number: u64,
        slot: Slot,
        checked: Result<Checked, Refused>,
        parent: Option<TraceContext>,
    ) {
        let checked = match checked {
            Ok(checked) => checked,
            Err(refused) => {
                self.metrics.refused(door, refused.field);
                slot.answer(number, Answer::Refused(refused));
                return;
            }
        };
        let report = span::root_or_child("report", span::Role::Server, parent);
        let publish =
            span::child("publish pm.v1.login.record.{p}.{user}", span::Role::Producer, span::context(&report));
        let subject = checked.subject(self.partitions);
        let login_id = checked.login_id().cloned();
        let Checked { mut record, id } = checked;
        // Where nothing is traced here, others still see whence it came.
        record.trace = span::context(&publish).or(parent);
        let trace = record.trace;
        let outgoing = Outgoing { subject, payload: wire::encode(&record).into(), id, trace };
        let waiting = Waiting { number, slot, outgoing, login_id, door, _report: report, _publish: publish };
        match self.queue.try_send(waiting) {
            Ok(()) => self.metrics.waiting.increment(1.0),
            Err(mpsc::error::TrySendError::Full(waiting)) => {
                self.unknown(waiting, "too many records wait to be stored");
            }
            // Only once every door is closed: a late one is told to go elsewhere.
            Err(mpsc::error::TrySendError::Closed(waiting)) => self.unknown(waiting, "this instance is stopping"),
        }
    }

    fn unknown(&self, waiting: Waiting, reason: &'static str) {
        self.metrics.unknown(waiting.door);
        let answer = Answer::Unknown { reason, retry_after: self.retry_after, login_id: waiting.login_id };
        waiting.slot.answer(waiting.number, answer);
    }
}

/// The task's end.
pub struct Gatherer {
    bus: Bus,
    waiting: mpsc::Receiver<Waiting>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Gatherer {
    /// Stores until `stop`, then all that still waits: what comes later is told that we are stopping. Once `closing`, a broker
    /// that does not answer is not waited for as long as else.
    pub async fn run(mut self, closing: CancellationToken, stop: CancellationToken) {
        let within = self.limits.closing_within;
        let given_up = async move {
            closing.cancelled().await;
            tokio::time::sleep(within).await;
        };
        let given_up = given_up.shared();
        let mut batch = Vec::with_capacity(self.limits.batch_max);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
                count = self.waiting.recv_many(&mut batch, self.limits.batch_max) => match count {
                    0 => return,
                    _ => self.store(&mut batch, given_up.clone()).await,
                },
            }
        }
    }

    async fn store(&self, batch: &mut Vec<Waiting>, given_up: impl Future<Output = ()>) {
        self.metrics.waiting.decrement(batch.len() as f64);
        self.metrics.batch_records.record(batch.len() as f64);
        let messages = batch.iter().map(|waiting| waiting.outgoing.clone()).collect();
        let begun = Instant::now();
        let results: Vec<Result<Stored, NotStored>> = tokio::select! {
            biased;
            results = self.bus.store_all(&Stream::LOGIN, messages) => {
                results.into_iter().map(|result| result.map_err(NotStored::Refused)).collect()
            }
            () = given_up => batch.iter().map(|_| Err(NotStored::GivenUp)).collect(),
        };
        self.metrics.store_seconds.record(begun.elapsed().as_secs_f64());
        assert_eq!(results.len(), batch.len(), "the bus answers each message");
        let mut first_error = None;
        for (waiting, result) in batch.drain(..).zip(results) {
            if let Err(error) = &result {
                first_error.get_or_insert_with(|| error.to_string());
            }
            self.answer(waiting, result);
        }
        if let Some(error) = first_error {
            tracing::warn!(error, "records could not be stored; their senders were told to say them again");
        }
    }

    fn answer(&self, waiting: Waiting, result: Result<Stored, NotStored>) {
        let Waiting { number, slot, login_id, door, .. } = waiting;
        let answer = match result {
            Ok(Stored { duplicate, .. }) => {
                self.metrics.accepted(door, duplicate);
                Answer::Accepted { login_id }
            }
            Err(error) => {
                self.metrics.unknown(door);
                Answer::Unknown { reason: error.reason(), retry_after: self.limits.retry_after, login_id }
            }
        };
        slot.answer(number, answer);
    }
}

/// Why a record may not have been stored.
#[derive(Debug, thiserror::Error)]
enum NotStored {
    #[error(transparent)]
    Refused(StoreError),
    #[error("NATS did not answer while this instance was stopping")]
    GivenUp,
}

impl NotStored {
    /// For the caller.
    fn reason(&self) -> &'static str {
        match self {
            Self::Refused(StoreError::Full { .. }) => "the mesh is full: LOGIN is at its limit",
            Self::Refused(StoreError::Outage { .. }) => "the broker is away",
            Self::Refused(StoreError::HoldFull { .. }) => "the broker is away, and what may be held for it is full",
            Self::Refused(_) => "the broker refused the record",
            Self::GivenUp => "this instance is stopping, and the broker is away",
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_millis() as Millis)
}

/// A new login's id: time-ordered, unique in the mesh.
pub fn mint() -> LoginId {
    LoginId::new(&uuid::Uuid::now_v7().simple().to_string()).expect("hexadecimal digits are a token's")
}
