//! Trying again what an outage prevents, until it is done.

use std::{fmt::Display, time::Duration};

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(2);

/// Calls `action` until it succeeds. Cancel safe if `action` is: dropping it gives up.
pub(crate) async fn until_done<T, E, F>(what: &'static str, mut action: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut delay = FIRST;
    loop {
        match action().await {
            Ok(done) => return done,
            Err(error) => tracing::warn!(%error, retry_in = ?delay, "{what} failed"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(MAX);
    }
}
