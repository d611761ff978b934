//! Time, for a partition's owner.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pushmesh_protocol::message::Millis;
use tokio::time::Instant;

/// Wall time that no correction of the system's clock moves: deadlines keep their distance, and never go back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    at_start: Millis,
}

impl Clock {
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), at_start: u64::try_from(since.as_millis()).unwrap_or(0) }
    }

    pub fn now(&self) -> Millis {
        self.at_start + self.start.elapsed().as_millis() as u64
    }

    /// When a time of this clock is.
    pub fn instant(&self, at: Millis) -> Instant {
        self.start + Duration::from_millis(at.saturating_sub(self.at_start))
    }
}
