//! When a server that is connected and silent gets a new connection. Pure.

use tokio::time::Instant;

/// How a JetStream request went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answered {
    Yes,
    No { asked: Instant },
}

/// Each new connection that brought no answer either doubles the rounds until the next: where the server is overloaded, its
/// clients' coming back, with all that they watch, is the last thing it needs.
const DOUBLINGS_MAX: u32 = 3;

/// Counts rounds of timeouts in a row. A thousand requests that time out together are one round: only a request begun
/// after the last counted timeout counts again.
#[derive(Debug)]
pub(crate) struct Suspicion {
    limit: u32,
    strikes: u32,
    doublings: u32,
    last: Option<Instant>,
}

impl Suspicion {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, strikes: 0, doublings: 0, last: None }
    }

    pub(crate) fn clear(&mut self) {
        (self.strikes, self.doublings) = (0, 0);
    }

    /// Whether the limit is reached, which starts the count anew.
    pub(crate) fn strike(&mut self, asked: Instant, now: Instant) -> bool {
        if self.last.is_some_and(|last| asked < last) {
            return false;
        }
        self.last = Some(now);
        self.strikes += 1;
        let reached = self.strikes >= self.limit << self.doublings;
        if reached {
            self.strikes = 0;
            self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
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

    #[test]
    fn reconnects_that_bring_no_answer_come_more_and_more_seldom() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut suspicion = Suspicion::new(3);
        let reached = |suspicion: &mut Suspicion, from: u32| {
            (from..).find(|round| suspicion.strike(start + *round * second, start + (*round + 1) * second)).unwrap()
        };
        let mut round = 0;
        for rounds in [3, 6, 12, 24, 24] {
            let next = reached(&mut suspicion, round) + 1;
            assert_eq!(next - round, rounds);
            round = next;
        }
        suspicion.clear();
        assert_eq!(reached(&mut suspicion, round) + 1 - round, 3, "an answer is forgetting");
    }
}
