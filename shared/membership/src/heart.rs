//! [`Heart`]: a thread of its own for what must go on while the process is busy.
//!
//! Heartbeats, their echoes, and what is decided of them run here, on a runtime of one thread with a connection of its own:
//! a service that works at its limit is late with its work, and not with its pulse. The work itself stays on the runtime
//! that the membership was joined on; whether that one gets on at all is [`Diligence`]'s to know.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use metrics::Histogram;
use tokio::{
    runtime::{Builder, Handle},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often the runtime of the work is asked for a sign of life.
const LOOK: Duration = Duration::from_millis(100);
/// What the thread's tasks get to end by themselves when nobody has waited for them.
const END_WITHIN: Duration = Duration::from_millis(200);

/// The thread. It ends when `end` is cancelled and `jobs` are done, or a moment later.
pub(crate) struct Heart {
    runtime: Handle,
}

impl Heart {
    pub(crate) fn start(end: CancellationToken, jobs: TaskTracker) -> io::Result<Heart> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name("membership".to_owned()).spawn(move || {
            runtime.block_on(async {
                end.cancelled().await;
                jobs.close();
                let _ = tokio::time::timeout(END_WITHIN, jobs.wait()).await;
            });
            // A name that is being looked up would hold up its end.
            runtime.shutdown_background();
        })?;
        Ok(Heart { runtime: handle })
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// Whether the runtime of the work gets on. A thread of its own beats for a process whose work has died just as well:
/// that one must fall silent, so that others take over.
pub(crate) struct Diligence {
    base: Instant,
    /// When the runtime was last seen at work, in nanoseconds after `base`.
    seen: AtomicU64,
}

impl Diligence {
    pub(crate) fn new(now: Instant) -> Self {
        Self { base: now, seen: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, now: Instant) {
        self.seen.store(self.nanos(now), Ordering::Relaxed);
    }

    /// How long it has not been seen at work.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.nanos(now).saturating_sub(self.seen.load(Ordering::Relaxed)))
    }

    /// Runs on the runtime that is watched, until stopped; records how late that runtime is.
    pub(crate) async fn watch(&self, delays: Histogram, stop: CancellationToken) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(due) = stop.run_until_cancelled(every.tick()).await {
            delays.record(due.elapsed().as_secs_f64());
            self.note(Instant::now());
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_was_seen_a_moment_ago_is_at_work() {
        let start = Instant::now();
        let diligence = Diligence::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(diligence.silence(start + second), second, "from the start on it is expected");
        diligence.note(start + 5 * second);
        assert_eq!(diligence.silence(start + 7 * second), 2 * second);
        assert_eq!(diligence.silence(start + 4 * second), Duration::ZERO);
    }
}
