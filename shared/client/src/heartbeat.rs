//! When to ping, and when a silent connection is taken for dead.

use std::time::{Duration, Instant};

use pushmesh_protocol::frame;

/// Shortest interval that is believed: a comet's 0 would mean a busy loop.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The heartbeat of one connection, as LOGIN_OK chose it.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    interval: Duration,
    silence: Duration,
    pinged: Instant,
    heard: Instant,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    /// Nothing was heard for all the misses allowed.
    Dead,
}

impl Heartbeat {
    pub fn new(chosen: frame::Heartbeat, now: Instant) -> Self {
        let interval = Duration::from_millis(chosen.interval_ms.into()).max(INTERVAL_MIN);
        Self { interval, silence: interval * u32::from(chosen.misses.max(1)), pinged: now, heard: now }
    }

    /// Bytes came, or none could be expected: time in which we don't read is not the comet's silence.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Decides, and notes a ping as sent.
    pub fn due(&mut self, now: Instant) -> Due {
        if now >= self.heard + self.silence {
            return Due::Dead;
        }
        if now >= self.pinged + self.interval {
            self.pinged = now;
            return Due::Ping;
        }
        Due::Nothing
    }

    /// When to decide again.
    pub fn next(&self) -> Instant {
        (self.pinged + self.interval).min(self.heard + self.silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_at_the_interval_and_gives_up_after_the_misses() {
        let start = Instant::now();
        let second = |n: u64| start + Duration::from_secs(n);
        let mut heartbeat = Heartbeat::new(frame::Heartbeat { interval_ms: 5_000, misses: 3 }, start);
        assert_eq!(heartbeat.next(), second(5));
        assert_eq!(heartbeat.due(second(4)), Due::Nothing);
        assert_eq!(heartbeat.due(second(5)), Due::Ping);
        assert_eq!(heartbeat.due(second(5)), Due::Nothing);
        heartbeat.heard(second(6));
        assert_eq!(heartbeat.due(second(10)), Due::Ping);
        assert_eq!(heartbeat.due(second(20)), Due::Ping);
        assert_eq!(heartbeat.next(), second(21));
        assert_eq!(heartbeat.due(second(21)), Due::Dead);
    }

    #[test]
    fn an_absurd_choice_is_no_busy_loop() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(frame::Heartbeat { interval_ms: 0, misses: 0 }, start);
        assert_eq!(heartbeat.due(start), Due::Nothing);
        assert!(heartbeat.next() > start);
    }
}
