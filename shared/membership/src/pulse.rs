//! The pulse: whether this instance has heard itself lately enough to trust its leases.
//!
//! What counts is when a heard heartbeat was *sent*: one that lay in a buffer while the process stood still proves nothing.
//! Others replace an owner `dead_after` after its last heartbeat; it stops `fence_after` after sending the last one it heard.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Heartbeats whose echo may still come.
const SENT_MAX: u64 = 64;

#[derive(Debug)]
pub(crate) struct Pulse {
    base: Instant,
    fence_after: Duration,
    /// When the newest heard heartbeat was sent, in nanoseconds after `base`; 0: none yet.
    heard: AtomicU64,
    /// Grows whenever the pulse comes back after it stopped: what began before stays fenced.
    generation: AtomicU64,
    /// When the last heartbeats were sent, by sequence.
    sent: [AtomicU64; SENT_MAX as usize],
    next: AtomicU64,
}

/// A heartbeat of our own came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    pub sent: Instant,
    /// The pulse had stopped before it.
    pub revived: bool,
}

/// When the last heartbeat that came back was sent, and when it came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub sent: Instant,
    pub back: Instant,
}

impl Pulse {
    pub(crate) fn new(now: Instant, fence_after: Duration) -> Self {
        Self {
            base: now,
            fence_after,
            heard: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            sent: std::array::from_fn(|_| AtomicU64::new(0)),
            next: AtomicU64::new(0),
        }
    }

    /// The sequence of the heartbeat that is sent now. For one sender.
    pub(crate) fn send(&self, now: Instant) -> u64 {
        let sequence = self.next.load(Ordering::Relaxed);
        self.sent[(sequence % SENT_MAX) as usize].store(self.nanos(now), Ordering::Relaxed);
        self.next.store(sequence + 1, Ordering::Release);
        sequence
    }

    /// Our heartbeat was heard; `None` if it is too old to say anything. For one receiver.
    pub(crate) fn echo(&self, sequence: u64) -> Option<Echo> {
        let next = self.next.load(Ordering::Acquire);
        // One slot less than there are: the sender may be writing the oldest.
        if sequence >= next || next - sequence >= SENT_MAX {
            return None;
        }
        let sent = self.sent[(sequence % SENT_MAX) as usize].load(Ordering::Relaxed);
        let before = self.heard.load(Ordering::Relaxed);
        if sent <= before {
            return None;
        }
        let revived = sent - before >= self.fence_after.as_nanos() as u64;
        if revived {
            // Before `heard`: whoever sees the new pulse sees the new generation too.
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.heard.store(sent, Ordering::Release);
        Some(Echo { sent: self.base + Duration::from_nanos(sent), revived })
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the pulse has not stopped since `generation`.
    pub(crate) fn beats(&self, now: Instant, generation: u64) -> bool {
        let heard = self.heard.load(Ordering::Acquire);
        let age = self.nanos(now).saturating_sub(heard);
        heard > 0 && age < self.fence_after.as_nanos() as u64 && self.generation() == generation
    }

    // From 1: 0 stands for never.
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_began_before_the_pulse_stopped_stays_fenced() {
        let start = Instant::now();
        let pulse = Pulse::new(start, 900 * MS);
        assert!(!pulse.beats(start, 0), "never heard");
        let first = pulse.send(start + MS);
        assert!(pulse.echo(first).is_some());
        let held = pulse.generation();
        assert!(pulse.beats(start + 800 * MS, held));
        assert!(!pulse.beats(start + 901 * MS, held), "no echo for 900 ms");

        let second = pulse.send(start + 950 * MS);
        assert!(pulse.echo(second).expect("a new one").revived);
        assert!(!pulse.beats(start + 951 * MS, held), "it beats again, but not for the old lease");
        assert!(pulse.beats(start + 951 * MS, pulse.generation()));
    }

    #[test]
    fn an_echo_read_late_proves_nothing() {
        let start = Instant::now();
        let pulse = Pulse::new(start, 900 * MS);
        let first = pulse.send(start);
        let second = pulse.send(start + 250 * MS);
        pulse.echo(first);
        let held = pulse.generation();
        // The process stood still for 3 s; the second heartbeat's echo lay in the socket's buffer.
        pulse.echo(second);
        assert!(!pulse.beats(start + 3000 * MS, held));
    }

    #[test]
    fn an_echo_of_long_ago_is_not_taken_for_a_new_one() {
        let start = Instant::now();
        let pulse = Pulse::new(start, 900 * MS);
        for beat in 0..100 {
            pulse.send(start + beat * 250 * MS);
        }
        assert_eq!(pulse.echo(10), None);
        assert!(pulse.echo(99).is_some());
        assert_eq!(pulse.echo(98), None, "an older one changes nothing");
    }
}
