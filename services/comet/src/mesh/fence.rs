//! Who owns a partition no more is heard no more.

use std::sync::atomic::{AtomicU64, Ordering};

use pushmesh_protocol::{Partition, message::Epoch, partition::PARTITIONS_MAX};

/// The newest epoch of each partition that has been heard: who holds an older one owns the partition no more.
#[derive(Debug)]
pub struct Fence(Box<[AtomicU64]>);

impl Default for Fence {
    fn default() -> Self {
        Self((0..PARTITIONS_MAX).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Fence {
    pub fn passes(&self, partition: Partition, epoch: Epoch) -> bool {
        let Some(newest) = self.0.get(usize::from(partition.0)) else { return false };
        newest.fetch_max(epoch, Ordering::Relaxed) <= epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_does_not_pass_a_newer_one_by() {
        let fence = Fence::default();
        assert!(fence.passes(Partition(3), 10) && fence.passes(Partition(3), 10));
        assert!(fence.passes(Partition(3), 12) && !fence.passes(Partition(3), 10));
        assert!(fence.passes(Partition(2), 1), "other partitions are others' business");
        assert!(!fence.passes(Partition(PARTITIONS_MAX), 99));
    }
}
