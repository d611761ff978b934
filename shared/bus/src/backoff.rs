//! Pauses between tries.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// A random part of `limit`: no two instances come back in step.
pub(crate) fn jitter(limit: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    limit.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}

/// Doubles from 50 ms to a ceiling, each pause jittered by half.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    ceiling: Duration,
}

impl Backoff {
    pub(crate) fn new(ceiling: Duration) -> Self {
        Self { next: Duration::from_millis(50), ceiling }
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let now = self.next.min(self.ceiling);
        self.next = now * 2;
        now / 2 + jitter(now / 2)
    }

    pub(crate) fn reset(&mut self) {
        self.next = Duration::from_millis(50);
    }
}

/// 128 random bits as hexadecimal: tells connections apart.
pub(crate) fn random_token() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
