//! Waiting for a condition.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Asks every few milliseconds until `Ok`, and returns it.
///
/// # Panics
/// When `limit` has passed: with `what` and the last reason.
#[track_caller]
pub fn wait_for<T, E, F, A>(what: &str, limit: Duration, mut ask: A) -> impl Future<Output = T>
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
    A: FnMut() -> F,
{
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(2);
        let mut last = String::from("never asked to the end");
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left.max(Duration::from_millis(1)), ask()).await {
                Ok(Ok(found)) => return found,
                Ok(Err(reason)) => last = reason.to_string(),
                // The reason before says more than that the last try took too long.
                Err(_) => {}
            }
            if begun.elapsed() >= limit {
                panic!("waited {limit:?} for {what} at {caller}; last reason: {last}");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
