//! A note or a level-up, of ROOM_LOW.

use pushmesh_bus::StreamMessage;
use pushmesh_protocol::{Partition, room::Note, wire};

use super::{Malformed, belongs};
use crate::room::Event;

pub fn read(message: &StreamMessage, partition: Partition) -> Result<Event, Malformed> {
    let note: Note = wire::decode(&message.payload)?;
    belongs(message, partition, &note.room)?;
    Ok(Event::Note { sequence: message.sequence, note })
}
