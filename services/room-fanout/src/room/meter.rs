//! [`Meter`]: how much is said in a room.

use pushmesh_protocol::message::Millis;

/// Seconds that a rate is an average of.
const WINDOW: usize = 4;

/// Messages and bytes a second, over the last whole seconds.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The second that is being counted.
    second: u64,
    seconds: [Amount; WINDOW + 1],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub messages: u64,
    pub bytes: u64,
}

impl Meter {
    pub fn note(&mut self, bytes: usize, now: Millis) {
        self.turn(now);
        let current = &mut self.seconds[0];
        current.messages += 1;
        current.bytes += bytes as u64;
    }

    /// A second, on average.
    pub fn rate(&mut self, now: Millis) -> Amount {
        self.turn(now);
        let whole = &self.seconds[1..];
        let average = |of: fn(&Amount) -> u64| whole.iter().map(of).sum::<u64>() / WINDOW as u64;
        Amount { messages: average(|amount| amount.messages), bytes: average(|amount| amount.bytes) }
    }

    /// Whether nothing was said lately.
    pub fn is_still(&mut self, now: Millis) -> bool {
        self.turn(now);
        self.seconds.iter().all(|amount| amount.messages == 0)
    }

    fn turn(&mut self, now: Millis) {
        let second = now / 1_000;
        let passed = second.saturating_sub(self.second).min(WINDOW as u64 + 1) as usize;
        self.seconds.rotate_right(passed % (WINDOW + 1));
        self.seconds[..passed].fill(Amount::default());
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_whole_seconds_and_ends() {
        let mut meter = Meter::default();
        for at in (10_000..14_000).step_by(100) {
            meter.note(50, at);
        }
        assert_eq!(meter.rate(14_001), Amount { messages: 10, bytes: 500 });
        assert_eq!(meter.rate(16_001), Amount { messages: 5, bytes: 250 });
        assert!(!meter.is_still(16_001));
        assert!(meter.is_still(18_000));
        assert_eq!(meter.rate(1_000_000), Amount::default());
    }
}
