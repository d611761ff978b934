//! What a take-over needs, and where the owner before stopped.

use pushmesh_bus::{Bus, ConsumeError, Kv, KvError, SubscribeError};
use pushmesh_protocol::{
    Partition,
    name::{Bucket, Stream},
};

use crate::note::Note;

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

/// Up to which message of PUSH everything may have been sent once; and the note of it, which says so to whoever comes next
/// should this owner end before it has come that far.
///
/// To be asked before the take-over, which sets the consumer, and what it says it has delivered, back.
pub async fn sent_before(bus: &Bus, pending: &Kv, partition: Partition) -> Result<(u64, Note), LoadError> {
    let mut note = Note::read(pending, partition).await.map_err(pending_error)?;
    let sent = note.sent(bus.delivered(&Stream::PUSH, partition).await?);
    note.owned(sent).await.map_err(pending_error)?;
    Ok((sent, note))
}
