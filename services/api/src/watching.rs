//! Follows the buckets `rooms` and `mutes` into [`Standing`].

use std::{sync::Arc, time::Duration};

use pushmesh_boot::Latch;
use pushmesh_bus::{Bus, KvError, KvEvent, KvWatch};
use pushmesh_protocol::name::{Bucket, KeyFilter};

use crate::{
    metrics::Metrics,
    standing::{Half, Standing},
};

/// Between two tries to open a watch.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Runs until the connection is closed. `unknown` keeps the service from being ready until both buckets are known: before
/// that a banned room would be open.
pub async fn watch(bus: Bus, standing: Arc<Standing>, metrics: Arc<Metrics>, unknown: Latch) {
    let mut unknown = Some(unknown);
    let (mut rooms, mut mutes) = tokio::join!(open(&bus, Bucket::ROOMS), open(&bus, Bucket::MUTES));
    loop {
        let (half, event) = tokio::select! {
            event = rooms.next() => (Half::Rooms, event),
            event = mutes.next() => (Half::Mutes, event),
        };
        let Some(event) = event else { return };
        let is_milestone = event == KvEvent::Current;
        if let Some(error) = standing.apply(half, event) {
            tracing::error!(bucket = ?half, %error, "a record can't be read");
            metrics.malformed.increment(1);
        }
        if is_milestone && standing.is_current() {
            unknown = None;
        }
        debug_assert!(unknown.is_none() || !standing.is_current());
    }
}

async fn open(bus: &Bus, bucket: Bucket) -> KvWatch {
    let once = async || -> Result<KvWatch, KvError> { bus.bucket(&bucket).await?.watch(KeyFilter::all()).await };
    loop {
        match once().await {
            Ok(watch) => return watch,
            Err(error) => tracing::warn!(%bucket, %error, "could not watch a bucket; again"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
