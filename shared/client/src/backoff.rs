//! How long to wait before connecting again.

use std::time::Duration;

/// Longest wait that a comet may ask for.
pub(crate) const SAID_MAX: Duration = Duration::from_secs(300);

/// Exponential delays with jitter: each is between half and all of `first · 2ⁿ`, at most `cap`.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempt: 0 }
    }

    /// The next delay; `random` is in `0..1`.
    pub fn next(&mut self, random: f64) -> Duration {
        // 2^30 times any delay is beyond every cap: the exponent needs no more.
        let full = self.first.saturating_mul(1 << self.attempt.min(30)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// What the comet asked for, instead of a delay of our own: it has spread its clients already.
    ///
    /// Only the first time: a comet that sends its clients away again and again must not make them run in a circle.
    pub fn said(&mut self, after: Duration, random: f64) -> Duration {
        let first = self.attempt == 0;
        let own = self.next(random);
        if first { after.min(SAID_MAX) } else { after.min(SAID_MAX).max(own) }
    }

    /// The connection held: the next loss begins anew.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grows_to_its_cap_and_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let delays: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 50);
    }

    #[test]
    fn heeds_what_is_said_within_its_limit_and_not_in_a_circle() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(backoff.said(Duration::ZERO, 1.0), Duration::ZERO);
        assert_eq!(backoff.said(Duration::ZERO, 1.0), Duration::from_millis(200));
        assert_eq!(backoff.said(Duration::from_secs(4_000), 1.0), SAID_MAX);
    }

    proptest! {
        #[test]
        fn never_leaves_its_bounds(first in 1u64..10_000, cap in 1u64..10_000, random in prop::collection::vec(0.0f64..1.0, 1..100)) {
            let (first, cap) = (Duration::from_millis(first), Duration::from_millis(cap));
            let mut backoff = Backoff::new(first, cap);
            for random in random {
                let delay = backoff.next(random);
                prop_assert!(delay <= cap);
                prop_assert!(delay >= first.min(cap) / 2);
            }
        }
    }
}
