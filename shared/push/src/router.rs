//! Online batches: taken apart by partition, handed to the partitions' tasks, and answered when all of them have.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pushmesh_bus::{Bus, Message, Reply, Subscription};
use pushmesh_protocol::{
    Partition,
    message::{OnlineAnswer, OnlineBatch, OnlineEntry, OnlineResult},
    wire,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;

/// Parts of batches that may wait at one partition, for example while it loads.
const PARTS_WAITING_MAX: usize = 256;
/// Batches of a process that may wait for their answers.
const BATCHES_WAITING_MAX: usize = 4096;

/// The entries of one batch that are of one partition.
pub(crate) struct Part {
    pub(crate) entries: Vec<OnlineEntry>,
    pub(crate) reply: PartReply,
}

/// Dropped without an answer it says *not mine*: the partition went.
#[derive(Debug)]
pub(crate) struct PartReply {
    answer: oneshot::Sender<Vec<OnlineResult>>,
    pub(crate) arrived: Instant,
}

impl PartReply {
    pub(crate) fn send(self, results: Vec<OnlineResult>) {
        // The batch's task may have gone with the process.
        let _ = self.answer.send(results);
    }
}

struct Desk {
    number: u64,
    parts: mpsc::Sender<Part>,
}

/// Which partitions are served here.
#[derive(Default)]
pub(crate) struct Router {
    desks: Mutex<BTreeMap<Partition, Desk>>,
    numbers: AtomicU64,
}

/// While it lives, batches of its partition are handed to its receiver.
pub(crate) struct Open {
    router: Arc<Router>,
    partition: Partition,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut desks = self.router.desks();
        if desks.get(&self.partition).is_some_and(|desk| desk.number == self.number) {
            desks.remove(&self.partition);
        }
    }
}

impl Router {
    pub(crate) fn open(self: &Arc<Self>, partition: Partition) -> (mpsc::Receiver<Part>, Open) {
        let (parts, receiver) = mpsc::channel(PARTS_WAITING_MAX);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.desks().insert(partition, Desk { number, parts });
        (receiver, Open { router: self.clone(), partition, number })
    }

    /// Answers batches until the connection closes.
    pub(crate) async fn run(self: Arc<Self>, bus: Bus, mut batches: Subscription, metrics: Metrics) {
        let waiting = Arc::new(Semaphore::new(BATCHES_WAITING_MAX));
        let tracker = TaskTracker::new();
        while let Some(Message { payload, reply, .. }) = batches.next().await {
            let Some(reply) = reply else { continue };
            let batch = match wire::decode::<OnlineBatch>(&payload) {
                Ok(batch) => batch,
                Err(error) => {
                    metrics.batches_malformed.increment(1);
                    tracing::warn!(%error, bytes = payload.len(), "an online batch that nobody can read is refused");
                    answer(&bus, reply, Vec::new()).await;
                    continue;
                }
            };
            let Ok(permit) = waiting.clone().try_acquire_owned() else {
                metrics.batches_busy.increment(1);
                answer(&bus, reply, vec![busy(); batch.entries.len()]).await;
                continue;
            };
            let pending = self.dispatch(batch.entries);
            let (bus, metrics) = (bus.clone(), metrics.clone());
            tracker.spawn(async move {
                let results = pending.gather().await;
                count(&metrics, &results);
                answer(&bus, reply, results).await;
                drop(permit);
            });
        }
    }

    fn dispatch(&self, entries: Vec<OnlineEntry>) -> Pending {
        let mut pending = Pending { results: vec![OnlineResult::NotMine; entries.len()], parts: Vec::new() };
        let mut by_partition: BTreeMap<Partition, (Vec<usize>, Vec<OnlineEntry>)> = BTreeMap::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let part = by_partition.entry(entry.partition).or_default();
            part.0.push(index);
            part.1.push(entry);
        }
        let desks = self.desks();
        for (partition, (indices, entries)) in by_partition {
            let Some(desk) = desks.get(&partition) else { continue };
            let (answer, results) = oneshot::channel();
            let part = Part { entries, reply: PartReply { answer, arrived: Instant::now() } };
            match desk.parts.try_send(part) {
                Ok(()) => pending.parts.push((indices, results)),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    indices.into_iter().for_each(|index| pending.results[index] = busy());
                }
                // The partition is going: not mine.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
        pending
    }

    fn desks(&self) -> MutexGuard<'_, BTreeMap<Partition, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch whose partitions are at work.
struct Pending {
    results: Vec<OnlineResult>,
    parts: Vec<(Vec<usize>, oneshot::Receiver<Vec<OnlineResult>>)>,
}

impl Pending {
    async fn gather(mut self) -> Vec<OnlineResult> {
        for (indices, part) in self.parts {
            // Without an answer the partition went: what stands there, not mine, holds.
            let Ok(results) = part.await else { continue };
            for (index, result) in indices.into_iter().zip(results) {
                self.results[index] = result;
            }
        }
        self.results
    }
}

fn busy() -> OnlineResult {
    OnlineResult::Failed { reason: "too many batches wait".to_owned() }
}

fn count(metrics: &Metrics, results: &[OnlineResult]) {
    let of = |wanted: fn(&OnlineResult) -> bool| results.iter().filter(|result| wanted(result)).count() as u64;
    metrics.not_mine.increment(of(|result| matches!(result, OnlineResult::NotMine)));
    metrics.fenced.increment(of(|result| matches!(result, OnlineResult::Fenced { .. })));
    metrics.failed.increment(of(|result| matches!(result, OnlineResult::Failed { .. })));
}

async fn answer(bus: &Bus, reply: Reply, results: Vec<OnlineResult>) {
    let payload = wire::encode(&OnlineAnswer { results });
    if let Err(error) = bus.reply(reply, payload.into()).await {
        // Its distributor hears nothing and says the records again.
        tracing::debug!(%error, "an online batch could not be answered");
    }
}
