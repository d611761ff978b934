//! Ready means: nobody holds a latch.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// Whether a service is ready, and if not, why. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    next: u64,
    latches: BTreeMap<u64, &'static str>,
}

/// Not ready until it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it latches nothing"]
pub struct Latch {
    readiness: Readiness,
    number: u64,
}

impl Readiness {
    #[expect(clippy::new_without_default, reason = "nobody needs one by default")]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Not ready, because of `why`, until the latch is dropped.
    pub fn latch(&self, why: &'static str) -> Latch {
        let mut number = 0;
        self.0.send_modify(|state| {
            number = state.next;
            state.next += 1;
            state.latches.insert(number, why);
        });
        Latch { readiness: self.clone(), number }
    }

    /// Why it is not ready, the oldest reason first; empty if it is.
    pub fn reasons(&self) -> Vec<&'static str> {
        self.0.borrow().latches.values().copied().collect()
    }

    pub fn is_ready(&self) -> bool {
        self.0.borrow().latches.is_empty()
    }

    /// Returns when it is ready, at once if it is.
    pub async fn ready(&self) {
        self.until(true).await;
    }

    /// Returns when it is (not) ready, at once if it is (not).
    pub(crate) async fn until(&self, ready: bool) {
        let mut states = self.0.subscribe();
        // The sender lives in self.
        let _ = states.wait_for(|state| state.latches.is_empty() == ready).await;
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.readiness.0.send_modify(|state| {
            state.latches.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_all_latches_are_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (first, second) = (readiness.latch("first"), readiness.latch("second"));
        assert_eq!(readiness.reasons(), ["first", "second"]);
        drop(first);
        assert_eq!(readiness.reasons(), ["second"]);
        drop(second);
        assert!(readiness.is_ready());
    }
}
