//! When something is due in an open loop: it waits for nothing that came before.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many a second from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// On the clock of [`super::machine::now`].
    pub start: Duration,
    pub per_s: f64,
}

impl Schedule {
    /// How many are due by now.
    pub fn due(&self, now: Duration) -> u64 {
        match now.checked_sub(self.start) {
            // The first is due at the start itself.
            Some(since) => (since.as_secs_f64() * self.per_s) as u64 + 1,
            None => 0,
        }
    }

    /// When this one is due; they are counted from 0.
    pub fn at(&self, number: u64) -> Duration {
        self.start + Duration::from_secs_f64(number as f64 / self.per_s)
    }

    /// How many fit into a window.
    pub fn count(&self, window: Duration) -> u64 {
        ((window.as_secs_f64() * self.per_s) as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_follows_the_clock_alone() {
        let schedule = Schedule { start: Duration::from_secs(10), per_s: 1000.0 };
        assert_eq!(schedule.due(Duration::from_secs(9)), 0);
        assert_eq!(schedule.due(Duration::from_secs(10)), 1);
        assert_eq!(schedule.due(Duration::from_micros(10_500_100)), 501);
        assert_eq!(schedule.at(500), Duration::from_millis(10_500));
        assert_eq!(schedule.count(Duration::from_secs(3)), 3000);
    }

    #[test]
    fn who_is_due_is_due_at_his_time() {
        let schedule = Schedule { start: Duration::from_secs(1), per_s: 333.0 };
        for number in 0..1000 {
            let at = schedule.at(number);
            assert!(schedule.due(at + Duration::from_micros(1)) > number, "{number}");
            assert!(schedule.due(at.saturating_sub(Duration::from_micros(1))) <= number, "{number}");
        }
    }
}
