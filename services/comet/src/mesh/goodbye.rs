//! A comet goes: its clients are sent elsewhere in slices, so that they don't all come to the next one at once.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    limit::Door,
    shard::command::{Queues, Urgent},
};

/// Between two slices.
const SLICE_EVERY: Duration = Duration::from_millis(50);

pub struct Goodbye {
    pub door: Arc<Door>,
    pub shards: Vec<Queues>,
    /// From the first RECONNECT to the last session written.
    pub within: Duration,
    /// Most of the random delay after which a client comes to its next comet.
    pub spread: Duration,
}

impl Goodbye {
    /// Returns when the last connection is closed and its session's end written, or when time is up.
    pub async fn run(self) {
        let begun = Instant::now();
        self.all(|| Urgent::StopAccepting).await;
        let (pace_until, all_by) = (begun + self.within / 2, begun + self.within);
        let slice = slice(self.door.open(), self.shards.len(), self.within / 2);
        let mut ticks = tokio::time::interval(SLICE_EVERY);
        while self.door.open() > 0 && Instant::now() < all_by {
            ticks.tick().await;
            // After the paced half whoever is left, or logged in meanwhile, goes at once.
            let count = if Instant::now() < pace_until { slice } else { usize::MAX >> 1 };
            let after_most_ms = self.spread.as_millis() as u32;
            self.all(|| Urgent::Goodbye { count, after_most_ms }).await;
        }
        tracing::info!(left = self.door.open(), took = ?begun.elapsed(), "goodbye said");
    }

    async fn all(&self, command: impl Fn() -> Urgent) {
        for queues in &self.shards {
            // Closed: that shard has ended, and its connections with it.
            let _ = queues.urgent.send(command()).await;
        }
    }
}

// How many connections each shard sends away at a time, to be through within `window`.
fn slice(open: usize, shards: usize, window: Duration) -> usize {
    let slices = (window.as_millis() / SLICE_EVERY.as_millis()).max(1) as usize;
    open.div_ceil(slices * shards.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_even_and_fit_the_window() {
        assert_eq!(slice(100_000, 2, Duration::from_secs(5)), 500);
        assert_eq!(slice(3, 2, Duration::from_secs(5)), 1);
        assert_eq!(slice(10, 1, Duration::ZERO), 10);
    }
}
