//! [`PartitionWork`] and its tasks: one for each lease held.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use pushmesh_protocol::{Partition, message::Epoch};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::task::TaskTracker;

use crate::{event::Event, lease::Lease};

/// Work that did not return so long after its lease was lost is aborted.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a service does with a partition while it holds its lease.
pub trait PartitionWork: Send + Sync + 'static {
    /// Works until [`Lease::released`] or [`Lease::lost`], then returns.
    ///
    /// * Released: stop taking, finish, acknowledge, unpin, and return; only then is the lease deleted and the next owner
    ///   begins. However long it takes, the lease is kept.
    /// * Lost: return at once, without a NAK. Aborted after 5 s.
    /// * Returned (or panicked) while the lease holds: logged and counted; the lease is given back, and whomever the ring
    ///   names takes it again. That may be this instance, a second later, with a new epoch and as after a crash.
    fn run(self: Arc<Self>, lease: Lease) -> impl Future<Output = ()> + Send;
}

pub(crate) type Run = Arc<dyn Fn(Lease) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub(crate) fn boxed<W: PartitionWork>(work: Arc<W>) -> Run {
    Arc::new(move |lease| Box::pin(work.clone().run(lease)))
}

/// The tasks of the leases held.
pub(crate) struct Workers {
    run: Option<Run>,
    /// Where they run.
    runtime: Handle,
    leases: HashMap<Partition, Lease>,
    tasks: TaskTracker,
    events: mpsc::Sender<Event>,
    /// Work that ended while its lease was held.
    ended: metrics::Counter,
}

impl Workers {
    pub(crate) fn new(
        runtime: Handle,
        tasks: TaskTracker,
        events: mpsc::Sender<Event>,
        ended: metrics::Counter,
    ) -> Self {
        Self { run: None, runtime, leases: HashMap::new(), tasks, events, ended }
    }

    pub(crate) fn set_work(&mut self, run: Run) {
        self.run.get_or_insert(run);
    }

    pub(crate) fn start(&mut self, lease: Lease) {
        let run = self.run.clone().expect("leases are taken only once there is work");
        self.leases.insert(lease.partition(), lease.clone());
        let (events, unasked) = (self.events.clone(), self.ended.clone());
        let work = async move {
            let (partition, epoch) = (lease.partition(), lease.epoch());
            let mut work = tokio::spawn(run(lease.clone()));
            let ended = tokio::select! {
                ended = &mut work => Some(ended),
                () = stop_expected(&lease) => None,
            };
            match ended {
                // It may see before we do that the pulse has stopped.
                Some(Ok(())) if lease.is_released() || !lease.held() => {}
                Some(Ok(())) => {
                    unasked.increment(1);
                    tracing::warn!(%partition, epoch, "the work of a partition returned while its lease was held");
                }
                Some(Err(error)) => {
                    unasked.increment(1);
                    tracing::error!(%partition, epoch, %error, "the work of a partition failed");
                }
                None => {
                    tracing::error!(%partition, epoch, "the work of a lost partition did not stop: aborted");
                    work.abort();
                    // Aborted at its next await; until then the partition must not begin again here.
                    let _ = work.await;
                }
            }
            // Closed: membership has ended, and nobody asks.
            let _ = events.send(Event::WorkEnded { partition, epoch }).await;
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    pub(crate) fn release(&self, partition: Partition) {
        if let Some(lease) = self.leases.get(&partition) {
            lease.release();
        }
    }

    pub(crate) fn lose(&mut self, partition: Partition) {
        if let Some(lease) = self.leases.remove(&partition) {
            lease.lose();
        }
    }

    /// The lease is about to be deleted: whoever kept a clone must see that it holds no more.
    pub(crate) fn end(&mut self, partition: Partition) {
        self.lose(partition);
    }

    pub(crate) fn lose_all(&mut self) {
        for (_, lease) in self.leases.drain() {
            lease.lose();
        }
    }
}

impl Drop for Workers {
    /// Whoever works on must see at once that nobody keeps its leases any more.
    fn drop(&mut self) {
        self.lose_all();
    }
}

async fn stop_expected(lease: &Lease) {
    lease.lost().await;
    tokio::time::sleep(STOP_WITHIN).await;
}

/// This instance's share of a service's partitions. Dropping it changes nothing; [`crate::Membership::leave`] hands over.
#[derive(Clone)]
pub struct Ownership {
    pub(crate) held: watch::Receiver<Arc<Vec<(Partition, Epoch)>>>,
    pub(crate) covered: watch::Receiver<bool>,
}

impl Ownership {
    /// The partitions whose leases this instance holds, with their epochs.
    pub fn held(&self) -> Vec<(Partition, Epoch)> {
        self.held.borrow().to_vec()
    }

    /// Tells when [`held`](Self::held) changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<(Partition, Epoch)>>> {
        self.held.clone()
    }

    /// Whether all partitions of the service have a living owner, here or elsewhere.
    pub fn covered(&self) -> watch::Receiver<bool> {
        self.covered.clone()
    }
}
