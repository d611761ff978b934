//! What a delivered message becomes: an event of the machine, or a dead letter.

pub mod late_record;
pub mod login_record;

use std::time::Instant;

use pushmesh_bus::Acker;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Span;

/// A delivered message until it is done. Dropped, it comes again: to the partition's next owner.
pub struct Handle {
    acker: Acker,
    received: Instant,
    // Open until every kind has it.
    _process: Span,
    // Its place among those that may wait.
    _place: OwnedSemaphorePermit,
}

impl Handle {
    pub fn new(acker: Acker, process: Span, place: OwnedSemaphorePermit) -> Self {
        Self { acker, received: Instant::now(), _process: process, _place: place }
    }

    /// Acknowledges the message. Gives how long it was here.
    pub fn done(self) -> std::time::Duration {
        self.acker.ack();
        self.received.elapsed()
    }
}

/// Why a message is no record.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Wire(#[from] pushmesh_protocol::wire::WireError),
    #[error("the user is of partition {of}, not of {here}")]
    Misplaced { of: pushmesh_protocol::Partition, here: pushmesh_protocol::Partition },
}
