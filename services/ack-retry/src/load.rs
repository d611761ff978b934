//! What a take-over needs, and where the owner before stopped.

use pushmesh_bus::{Bus, ConsumeError, Kv, KvError, SubscribeError, TakeOver};
use pushmesh_protocol::{
    Partition,
    message::HandOver,
    name::{Bucket, Key, Stream},
    wire,
};

/// Why a partition could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("no consumer of PUSH: {0}")]
    Consume(#[from] ConsumeError),
    #[error("no subscription: {0}")]
    Subscribe(#[from] SubscribeError),
    #[error("bucket {bucket}: {error}")]
    Bucket { bucket: Bucket, error: KvError },
    #[error("the watch of {0} ended")]
    WatchEnded(Bucket),
}

fn pending_error(error: KvError) -> LoadError {
    LoadError::Bucket { bucket: Bucket::PENDING, error }
}

/// Up to which message of PUSH everything may have been sent once: what was delivered to the owners before, unless the last
/// one handed over and said how far it had looked.
///
/// To be asked before the take-over, which sets the consumer back; noted, so that whoever comes next still knows it should
/// this owner end before it has come that far.
pub async fn sent_before(bus: &Bus, pending: &Kv, partition: Partition, how: TakeOver) -> Result<u64, LoadError> {
    let delivered = bus.delivered(&Stream::PUSH, partition).await?;
    let key = Key::hand_over(partition);
    let entry = pending.get(&key).await.map_err(pending_error)?;
    let note = entry.and_then(|entry| wire::decode::<HandOver>(&entry.value).ok()).map(|note| note.sequence);
    let sent = match note {
        None => delivered,
        Some(looked_at) if how == TakeOver::HandedOver => looked_at,
        Some(sent_before_that) => delivered.max(sent_before_that),
    };
    if sent > 0 && note != Some(sent) {
        let value = wire::encode(&HandOver { sequence: sent }).into();
        pending.put(&key, value).await.map_err(pending_error)?;
    }
    Ok(sent)
}
