//! One file for each consumed message: what it means for the rooms.

pub mod chat;
pub mod event;
pub mod gift;
pub mod like;
pub mod note;

use pushmesh_bus::StreamMessage;
use pushmesh_protocol::{Partition, RoomId, name::parse, wire::WireError};

/// Why a message of a stream is none for these rooms.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("room: {said} is not the subject's")]
    Room { said: RoomId },
    #[error("subject: names no room of partition {0}")]
    Subject(Partition),
}

/// A message belongs to the room that its subject names, or to nobody.
fn belongs(message: &StreamMessage, partition: Partition, said: &RoomId) -> Result<(), Malformed> {
    match parse::room(&message.subject) {
        Some((of, room)) if of == partition && room == *said => Ok(()),
        Some((of, _)) if of == partition => Err(Malformed::Room { said: said.clone() }),
        _ => Err(Malformed::Subject(partition)),
    }
}
