//! One clock for all processes of a demo.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since the machine started: the same in every process, and it never steps.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
    Duration::from(time)
}
