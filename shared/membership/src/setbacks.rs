//! [`Setbacks`]: how long a member that lost everything waits before it takes partitions again. Pure.
//!
//! To take everything anew is the hardest work there is: where overload was the reason for the loss, taking at once makes
//! the next one. The first loss in a while costs no pause, since mostly it was a hiccup; each further one doubles it.

use std::time::{Duration, Instant};

/// The pause after the second loss.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const MOST: Duration = Duration::from_secs(10);
/// So long without a loss, and the next one is the first again.
const FORGET_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Setbacks {
    /// Makes the pauses of different members differ.
    seed: u64,
    /// Losses in a row.
    count: u32,
    last: Option<Instant>,
    /// The pulse is to come back before the pause begins.
    due: bool,
    rests_until: Option<Instant>,
}

impl Setbacks {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, count: 0, last: None, due: false, rests_until: None }
    }

    /// Everything was lost; returns which loss in a row it is.
    pub(crate) fn lost(&mut self, now: Instant) -> u32 {
        let lately = self.rests_until.max(self.last).is_some_and(|last| now < last + FORGET_AFTER);
        self.count = if lately { self.count.saturating_add(1) } else { 1 };
        (self.last, self.due, self.rests_until) = (Some(now), true, None);
        self.count
    }

    /// The pulse is back; returns the pause that begins, if one was due.
    pub(crate) fn revived(&mut self, now: Instant) -> Option<Duration> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let pause = self.pause();
        self.rests_until = Some(now + pause);
        Some(pause)
    }

    /// Whether nothing is to be taken yet.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.due || self.rests_until.is_some_and(|until| now < until)
    }

    /// Doubles from [`FIRST`] to [`MOST`], each jittered by half.
    fn pause(&self) -> Duration {
        let Some(doublings) = self.count.checked_sub(2) else { return Duration::ZERO };
        let full = FIRST.saturating_mul(1 << doublings.min(16)).min(MOST);
        let random = crate::ring::splitmix(self.seed ^ u64::from(self.count));
        full / 2 + (full / 2).mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_loss_costs_no_pause_and_further_ones_grow() {
        let mut now = Instant::now();
        let mut setbacks = Setbacks::new(7);
        assert!(!setbacks.rests(now));
        let mut pauses = vec![];
        for count in 1..=9 {
            assert_eq!(setbacks.lost(now), count);
            assert!(setbacks.rests(now), "not while it does not hear itself");
            now += 1000 * MS;
            let pause = setbacks.revived(now).expect("one was due");
            assert_eq!(setbacks.revived(now), None, "once");
            assert_eq!(setbacks.rests(now), pause > Duration::ZERO);
            now += pause;
            assert!(!setbacks.rests(now));
            pauses.push(pause);
        }
        assert_eq!(pauses[0], Duration::ZERO);
        for (place, pause) in pauses[1..].iter().enumerate() {
            let full = (FIRST * (1 << place)).min(MOST);
            assert!((full / 2..=full).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn a_quiet_minute_is_forgetting() {
        let now = Instant::now();
        let mut setbacks = Setbacks::new(7);
        setbacks.lost(now);
        setbacks.revived(now);
        assert_eq!(setbacks.lost(now + 59_000 * MS), 2);
        let back = now + 60_000 * MS;
        let pause = setbacks.revived(back).expect("one was due");
        assert_eq!(setbacks.lost(back + pause + FORGET_AFTER), 1, "counted from the end of the pause");
    }

    proptest! {
        #[test]
        fn members_do_not_come_back_in_step(seed: u64, other: u64, losses in 2u32..12) {
            prop_assume!(seed != other);
            let pause_of = |seed| {
                let mut setbacks = Setbacks::new(seed);
                let now = Instant::now();
                for _ in 0..losses {
                    setbacks.lost(now);
                }
                setbacks.revived(now).expect("one was due")
            };
            prop_assert!(pause_of(seed) <= MOST);
            prop_assert_ne!(pause_of(seed), pause_of(other));
        }
    }
}
