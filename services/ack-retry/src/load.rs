//! What a take-over needs, and where the owner before stopped.

use pushmesh_bus::{ConsumeError, Kv, KvError, PartitionConsumer, SubscribeError, TakeOver};
use pushmesh_protocol::{
    Partition,
    message::HandOver,
    name::{Bucket, Key},
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

pub fn pending_error(error: KvError) -> LoadError {
    LoadError::Bucket { bucket: Bucket::PENDING, error }
}

/// Up to which message of PUSH everything may have been sent once, and whether an owner left a note about it: what was
/// delivered to the owner before, unless that one handed over and says how far it had looked.
pub async fn looked_at(
    pending: &Kv,
    consumer: &PartitionConsumer,
    partition: Partition,
    how: TakeOver,
) -> Result<(u64, bool), KvError> {
    let delivered = consumer.delivered_before();
    let Some(entry) = pending.get(&Key::hand_over(partition)).await? else { return Ok((delivered, false)) };
    let note: Option<HandOver> = wire::decode(&entry.value).ok().filter(|_| how == TakeOver::HandedOver);
    Ok((note.map_or(delivered, |note| delivered.min(note.sequence)), true))
}
