//! Where gifts are taken: one task that stores all that wait at once.
//!
//! While a batch is being stored the next one gathers by itself: idle, a gift leaves alone and at once; busy, a hundred share
//! one atomic batch, and full batches go beside each other. It has a queue and a connection of its own: no chat is ever
//! before a gift. Who awaits one gift's answer before he gives the next has them in that order.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt, stream::FuturesUnordered};
use pushmesh_bus::{Bus, StoreError, Unique, UniqueOutcome};
use pushmesh_protocol::name::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Batches on their way at once: with more, other services would find no place for theirs.
const BATCHES_MAX: usize = 4;

type Outcome = Result<UniqueOutcome, StoreError>;

struct Waiting {
    gift: Unique,
    answer: oneshot::Sender<Outcome>,
}

/// The requests' end.
#[derive(Clone)]
pub struct Till {
    queue: mpsc::Sender<Waiting>,
}

/// Why a gift was not taken. Nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    Full,
    /// This instance is stopping.
    Closed,
}

/// The task's end.
pub struct Cashier {
    bus: Bus,
    waiting: mpsc::Receiver<Waiting>,
    batch_max: usize,
    metrics: Arc<Metrics>,
}

/// The two ends. `bus` serves gifts alone.
pub fn till(bus: Bus, waiting_max: usize, batch_max: usize, metrics: Arc<Metrics>) -> (Till, Cashier) {
    let (queue, waiting) = mpsc::channel(waiting_max);
    (Till { queue }, Cashier { bus, waiting, batch_max, metrics })
}

impl Till {
    /// The outcome comes sooner or later; an error of the receiver means that the task ended.
    pub fn take(&self, gift: Unique) -> Result<oneshot::Receiver<Outcome>, NotTaken> {
        let (answer, outcome) = oneshot::channel();
        match self.queue.try_send(Waiting { gift, answer }) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(NotTaken::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotTaken::Closed),
        }
    }
}

impl Cashier {
    /// Stores until `stop`, then all that still waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(self.batch_max);
        let mut under_way = FuturesUnordered::new();
        let mut is_over = false;
        loop {
            let is_full = batch.len() >= self.batch_max;
            // Beside another one only a full batch goes: each costs the broker as much.
            if (under_way.is_empty() && !batch.is_empty()) || (is_full && under_way.len() < BATCHES_MAX) {
                self.metrics.gifts_waiting.set(self.waiting.len() as f64);
                let gifts = std::mem::replace(&mut batch, Vec::with_capacity(self.batch_max));
                under_way.push(store(self.bus.clone(), gifts, Arc::clone(&self.metrics)));
            }
            let room = self.batch_max - batch.len();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
                Some(()) = under_way.next() => {}
                count = self.waiting.recv_many(&mut batch, room), if room > 0 && !is_over => is_over = count == 0,
                else => break,
            }
        }
        self.bus.drain().await;
    }
}

async fn store(bus: Bus, mut batch: Vec<Waiting>, metrics: Arc<Metrics>) {
    // Who waits no more is told nothing, and has been told that nothing is known.
    batch.retain(|waiting| !waiting.answer.is_closed());
    if batch.is_empty() {
        return;
    }
    metrics.gift_batch.record(batch.len() as f64);
    let gifts = batch.iter().map(|waiting| waiting.gift.clone()).collect();
    let begun = Instant::now();
    let outcomes = bus.store_unique(&Stream::ROOM_HIGH, gifts).await;
    metrics.gift_seconds.record(begun.elapsed().as_secs_f64());
    assert_eq!(outcomes.len(), batch.len(), "the bus answers each gift");
    if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
        tracing::warn!(%error, "gifts could not be stored; their senders were told to say them again");
    }
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        // He may have gone in between; his gift is stored all the same.
        let _ = waiting.answer.send(outcome);
    }
}
