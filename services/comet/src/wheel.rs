//! A wheel of one-second buckets: who has to be looked at when.
//!
//! An entry costs 8 bytes and is never moved: what fires is looked at, and put in again if its time has not come
//! (its deadline moved with every frame it received). So a busy connection costs one look per interval.

/// Seconds since the shard began.
pub type Second = u32;

/// Farthest ahead an entry may stand; farther ones are looked at earlier.
const HORIZON: u32 = 128;

#[derive(Debug)]
pub struct Wheel<T> {
    buckets: Vec<Vec<T>>,
    now: Second,
}

impl<T> Wheel<T> {
    pub fn new(now: Second) -> Self {
        Self { buckets: (0..HORIZON).map(|_| Vec::new()).collect(), now }
    }

    /// Has `entry` come out once `at` has been reached: never in the current second, at most a horizon ahead.
    pub fn put(&mut self, at: Second, entry: T) {
        let at = at.clamp(self.now + 1, self.now + HORIZON - 1);
        self.buckets[(at % HORIZON) as usize].push(entry);
    }

    /// Goes on to `now` and hands out all entries on the way, into `due`.
    pub fn advance(&mut self, now: Second, due: &mut Vec<T>) {
        // After a long stop every bucket is due once; more rounds bring nothing.
        for _ in 0..now.saturating_sub(self.now).min(HORIZON) {
            self.now += 1;
            due.append(&mut self.buckets[(self.now % HORIZON) as usize]);
        }
        self.now = self.now.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_at_their_second_and_once() {
        let (mut wheel, mut due) = (Wheel::new(10), Vec::new());
        wheel.put(12, "a");
        wheel.put(10, "past");
        wheel.put(9999, "far");
        wheel.advance(11, &mut due);
        assert_eq!(due, ["past"]);
        wheel.advance(11, &mut due);
        wheel.advance(137, &mut due);
        assert_eq!(due, ["past", "a", "far"]);
        wheel.advance(5000, &mut due);
        assert_eq!(due.len(), 3);
    }

    proptest! {
        #[test]
        fn nothing_is_early_late_or_lost(ats in prop::collection::vec(1u32..120, 1..50), step in 1u32..5) {
            let mut wheel = Wheel::new(0);
            for at in &ats {
                wheel.put(*at, *at);
            }
            let (mut now, mut seen) = (0, 0);
            while now < 130 {
                now += step;
                let mut due = Vec::new();
                wheel.advance(now, &mut due);
                seen += due.len();
                prop_assert!(due.iter().all(|at| *at <= now && *at + step > now));
            }
            prop_assert_eq!(seen, ats.len());
        }
    }
}
