//! [`Lease`]: the right to work on one partition.

use std::{sync::Arc, time::Instant};

use pushmesh_bus::TakeOver;
use pushmesh_protocol::{Partition, message::Epoch};
use tokio_util::sync::CancellationToken;

use crate::pulse::Pulse;

/// One partition is ours, until handed over or lost. Clones are the same lease.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    partition: Partition,
    epoch: Epoch,
    how: TakeOver,
    pulse: Arc<Pulse>,
    generation: u64,
    released: CancellationToken,
    lost: CancellationToken,
}

impl Lease {
    pub(crate) fn new(partition: Partition, epoch: Epoch, how: TakeOver, pulse: Arc<Pulse>) -> Self {
        let generation = pulse.generation();
        let (released, lost) = (CancellationToken::new(), CancellationToken::new());
        Self { inner: Arc::new(Inner { partition, epoch, how, pulse, generation, released, lost }) }
    }

    pub fn partition(&self) -> Partition {
        self.inner.partition
    }

    /// Higher than that of every earlier lease of the partition; goes with everything that is sent under it.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// How the partition came here: what [`pushmesh_bus::Bus::take_partition`] wants to know.
    pub fn how(&self) -> TakeOver {
        self.inner.how
    }

    /// Whether it still holds; to be asked before each effect. Reads a clock, takes no lock.
    ///
    /// `false` from the moment that we have not heard ourselves for `fence_after`, even if the whole process stood still
    /// meanwhile, and for ever after. Between two owners of a partition there is always a moment in which nobody holds it,
    /// as far as clocks run alike; what overlaps nevertheless, the epoch and the pin sort out.
    pub fn held(&self) -> bool {
        let inner = &self.inner;
        !inner.lost.is_cancelled() && inner.pulse.beats(Instant::now(), inner.generation)
    }

    /// Returns when the work is to hand over: stop taking, finish, acknowledge, unpin, return. Also when the lease is lost.
    pub async fn released(&self) {
        tokio::select! {
            () = self.inner.released.cancelled() => {}
            () = self.inner.lost.cancelled() => {}
        }
    }

    /// Returns when the lease is lost: the work must stop at once and must not NAK, since another owns the messages now.
    /// Work that has not returned 5 s later is aborted.
    pub async fn lost(&self) {
        self.inner.lost.cancelled().await;
    }

    /// Whether the work has been asked to hand over, or the lease is lost.
    pub fn is_released(&self) -> bool {
        self.inner.released.is_cancelled() || self.inner.lost.is_cancelled()
    }

    pub(crate) fn release(&self) {
        self.inner.released.cancel();
    }

    pub(crate) fn lose(&self) {
        self.inner.lost.cancel();
    }
}
