//! [`Tally`]: what the clients of one group have seen, by class.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::{
    latency::{Counted, Latencies},
    schedule::Schedule,
};

/// As the results name them; gifts are the part of high that goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Gift,
    High,
    Normal,
    Low,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Gift, Self::High, Self::Normal, Self::Low];
}

/// What is counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Watch {
    /// What was due before is of an earlier run.
    pub from_us: u64,
    /// Latencies are of what was due since.
    pub latencies_from_us: u64,
    pub likes: Option<LikesPlan>,
}

/// Which like was due when: each request has so many.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LikesPlan {
    /// The room's total before.
    pub before: u64,
    pub each: u64,
    pub schedule: Schedule,
}

impl LikesPlan {
    /// When the like was due that made the total what it is.
    fn due(&self, total: u64) -> Option<Duration> {
        let number = total.checked_sub(self.before + 1)?;
        Some(self.schedule.at(number / self.each))
    }
}

/// Likes of a sum whose latencies are noted, each for its share of it.
const LIKES_NOTED: u64 = 8;

#[derive(Debug, Default)]
pub struct Tally {
    watch: Watch,
    classes: [Count; Class::ALL.len()],
}

#[derive(Debug, Default)]
struct Count {
    told: ClassTold,
    latencies: Latencies,
}

/// What is told of a group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Told {
    pub classes: [ClassTold; Class::ALL.len()],
}

/// Each message counts once for each client.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClassTold {
    pub delivered: u64,
    /// Likes that came in a sum with others.
    pub merged: u64,
    /// Of those delivered: missed at first, and asked for.
    pub recovered: u64,
    /// Sum of all latencies.
    pub sum_us: u64,
    pub latencies: Counted,
}

impl Tally {
    /// Begins anew.
    pub fn watch(&mut self, watch: Watch) {
        *self = Self { watch, ..Self::default() };
    }

    /// Something of a chain.
    pub fn said(&mut self, class: Class, due_us: u64, recovered: bool, now: Duration) {
        if due_us < self.watch.from_us {
            return;
        }
        let Count { told, latencies } = &mut self.classes[class as usize];
        told.delivered += 1;
        told.recovered += u64::from(recovered);
        let latency = now.saturating_sub(Duration::from_micros(due_us));
        told.sum_us += latency.as_micros() as u64;
        if due_us >= self.watch.latencies_from_us {
            latencies.record(latency);
        }
    }

    /// A room's likes have grown.
    pub fn liked(&mut self, before: u64, total: u64, now: Duration) {
        let Some(plan) = self.watch.likes else { return };
        let count = total.saturating_sub(before.max(plan.before));
        if count == 0 {
            return;
        }
        let Count { told, latencies } = &mut self.classes[Class::Low as usize];
        told.delivered += 1;
        told.merged += count - 1;
        let noted = count.min(LIKES_NOTED);
        for part in 1..=noted {
            let Some(due) = plan.due(total - count + count * part / noted) else { continue };
            let latency = now.saturating_sub(due);
            told.sum_us += latency.as_micros() as u64;
            if due.as_micros() as u64 >= self.watch.latencies_from_us {
                latencies.record_many(latency, count * part / noted - count * (part - 1) / noted);
            }
        }
    }

    /// What was counted so far; with latencies if they are asked for.
    pub fn tell(&self, latencies: bool) -> Told {
        let tell = |count: &Count| {
            let latencies = if latencies { count.latencies.counted() } else { Counted::default() };
            ClassTold { latencies, ..count.told.clone() }
        };
        Told { classes: self.classes.each_ref().map(tell) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likes_count_one_by_one_from_when_each_was_due() {
        let mut tally = Tally::default();
        let schedule = Schedule { start: Duration::from_secs(1), per_s: 10.0 };
        tally.watch(Watch { likes: Some(LikesPlan { before: 100, each: 2, schedule }), ..Watch::default() });
        // The likes 101 to 104 were due at 1.0, 1.0, 1.1 and 1.1 s.
        tally.liked(90, 104, Duration::from_millis(1300));
        tally.liked(104, 104, Duration::from_millis(1300));
        let low = tally.tell(true).classes[Class::Low as usize].clone();
        assert_eq!((low.delivered, low.merged, low.sum_us), (1, 3, 1_000_000));
        let mut latencies = Latencies::default();
        latencies.add(&low.latencies);
        assert!(
            (latencies.percentile_ms(1.0) - 300.0).abs() < 1.0 && (latencies.percentile_ms(0.5) - 200.0).abs() < 1.0
        );
    }

    #[test]
    fn what_is_of_an_earlier_run_does_not_count() {
        let mut tally = Tally::default();
        tally.watch(Watch { from_us: 10, latencies_from_us: 20, likes: None });
        for due in [5, 15, 25] {
            tally.said(Class::Gift, due, false, Duration::from_millis(1));
        }
        let gift = tally.tell(false).classes[Class::Gift as usize].clone();
        assert_eq!((gift.delivered, gift.sum_us), (2, 985 + 975));
    }
}
