//! [`Cutter`]: into how many parts a room should be cut.

use pushmesh_protocol::message::Millis;

use super::limits::{PartLimits, ms};

/// What a room has to bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub members: u64,
    /// Chat messages a second.
    pub messages: u64,
    /// Bytes of chat a second to all members together, if the room were whole.
    pub bytes: u64,
}

/// Cuts at once, merges late: one half at a time, after the load was low for long.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    low_since: Option<Millis>,
}

impl Cutter {
    /// Another number of parts, if it is time.
    pub fn decide(&mut self, parts: u16, load: Load, limits: &PartLimits, now: Millis) -> Option<u16> {
        let needed = needed(load, limits);
        if needed > parts {
            self.low_since = None;
            return Some(needed);
        }
        // Merged, every limit must be kept twice over: else a room would be cut and merged for ever.
        let twice = |amount: u64| amount.saturating_mul(2);
        let doubled = Load { members: twice(load.members), messages: twice(load.messages), bytes: twice(load.bytes) };
        if parts == 1 || self::needed(doubled, limits) > parts / 2 {
            self.low_since = None;
            return None;
        }
        let since = *self.low_since.get_or_insert(now);
        if now < since + ms(limits.merge_after) {
            return None;
        }
        self.low_since = None;
        Some(parts / 2)
    }
}

/// The smallest power of two that keeps every limit.
fn needed(load: Load, limits: &PartLimits) -> u16 {
    let times = |amount: u64, limit: u64| amount.div_ceil(limit.max(1));
    let most = times(load.members, limits.members)
        .max(times(load.messages, limits.messages_per_second))
        .max(times(load.bytes, limits.bytes_per_second));
    most.min(u64::from(limits.max)).max(1).next_power_of_two().min(u64::from(limits.max)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> PartLimits {
        PartLimits { members: 100, messages_per_second: 10, bytes_per_second: 1_000, ..PartLimits::default() }
    }

    fn members(members: u64) -> Load {
        Load { members, ..Load::default() }
    }

    #[test]
    fn each_limit_alone_cuts_a_room() {
        assert_eq!(needed(members(100), &limits()), 1);
        assert_eq!(needed(members(101), &limits()), 2);
        assert_eq!(needed(members(301), &limits()), 4);
        assert_eq!(needed(Load { messages: 41, ..Load::default() }, &limits()), 8);
        assert_eq!(needed(Load { bytes: 2_001, ..Load::default() }, &limits()), 4);
        assert_eq!(needed(members(u64::MAX), &limits()), 64);
        assert_eq!(needed(members(u64::MAX), &PartLimits { max: 1, ..limits() }), 1);
    }

    #[test]
    fn it_is_cut_at_once_and_merged_by_halves_after_half_a_minute_below_half() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.decide(1, members(350), &limits(), 0), Some(4));
        // Two parts would do, but not with half of the limit to spare.
        assert_eq!(cutter.decide(4, members(150), &limits(), 100_000), None);
        assert_eq!(cutter.decide(4, members(150), &limits(), 200_000), None);
        assert_eq!(cutter.decide(4, members(20), &limits(), 200_000), None);
        assert_eq!(cutter.decide(4, members(20), &limits(), 229_999), None);
        assert_eq!(cutter.decide(4, members(20), &limits(), 230_000), Some(2));
        assert_eq!(cutter.decide(2, members(20), &limits(), 231_000), None);
        assert_eq!(cutter.decide(2, members(60), &limits(), 250_000), None);
        assert_eq!(cutter.decide(2, members(20), &limits(), 261_000), None, "the time below began again");
        assert_eq!(cutter.decide(2, members(20), &limits(), 291_000), Some(1));
    }

    proptest! {
        #[test]
        fn parts_are_a_power_of_two_and_a_steady_load_settles(
            loads in prop::collection::vec((0u64..100_000, 0u64..5_000, 0u64..100_000_000), 1..20)
        ) {
            let (mut cutter, mut parts, mut now) = (Cutter::default(), 1, 0);
            for (members, messages, bytes) in loads {
                let load = Load { members, messages, bytes };
                let mut changes = Vec::new();
                for _ in 0..400 {
                    now += 1_000;
                    if let Some(other) = cutter.decide(parts, load, &limits(), now) {
                        prop_assert!(other.is_power_of_two() && other <= 64 && other != parts);
                        changes.push(other > parts);
                        parts = other;
                    }
                }
                prop_assert!(changes.iter().filter(|cut| **cut).count() <= 1);
                prop_assert!(changes.len() <= 7 && changes.windows(2).all(|pair| pair[0] == pair[1]), "{changes:?}");
                prop_assert!(parts >= needed(load, &limits()));
            }
        }
    }
}
