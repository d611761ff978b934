//! The bound of bytes that are held until they are stored.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::metrics::Metrics;

pub(crate) struct HeldBytes {
    limit: usize,
    now: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Bytes counted as held until this is dropped.
pub(crate) struct Hold {
    bytes: usize,
    held: Arc<HeldBytes>,
}

impl HeldBytes {
    pub(crate) fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self { limit, now: AtomicUsize::new(0), metrics }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// `None` when the bound is reached.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        let fits = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        self.metrics.held_bytes.increment(bytes as f64);
        Some(Hold { bytes, held: self.clone() })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.bytes, Ordering::Relaxed);
        self.held.metrics.held_bytes.decrement(self.bytes as f64);
    }
}
