//! When a server that is connected and silent gets a new connection. Pure.

use tokio::time::Instant;

/// How a JetStream request went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answered {
    Yes,
    No { asked: Instant },
}

/// Counts rounds of timeouts in a row. A thousand requests that time out together are one round: only a request begun
/// after the last counted timeout counts again.
#[derive(Debug)]
pub(crate) struct Suspicion {
    limit: u32,
    strikes: u32,
    last: Option<Instant>,
}

impl Suspicion {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, strikes: 0, last: None }
    }

    pub(crate) fn clear(&mut self) {
        self.strikes = 0;
    }

    /// Whether the limit is reached, which starts the count anew.
    pub(crate) fn strike(&mut self, asked: Instant, now: Instant) -> bool {
        if self.last.is_some_and(|last| asked < last) {
            return false;
        }
        self.last = Some(now);
        self.strikes += 1;
        let reached = self.strikes >= self.limit;
        if reached {
            self.strikes = 0;
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thousand_timeouts_of_one_moment_are_one_round() {
        let start = Instant::now();
        let mut suspicion = Suspicion::new(3);
        let second = Duration::from_secs(1);
        for _ in 0..1000 {
            assert!(!suspicion.strike(start, start + second));
        }
        assert!(!suspicion.strike(start + second, start + 2 * second));
        assert!(suspicion.strike(start + 2 * second, start + 3 * second));
        assert!(!suspicion.strike(start + 3 * second, start + 4 * second), "counting begins anew");
        suspicion.clear();
        assert!(!suspicion.strike(start + 4 * second, start + 5 * second));
    }
}
