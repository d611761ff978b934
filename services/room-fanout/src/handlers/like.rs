//! A running total of likes, of ROOM_LOW.

use pushmesh_bus::StreamMessage;
use pushmesh_protocol::{Partition, name::parse, room::LikesTotal, wire};

use super::{Malformed, belongs};
use crate::room::Event;

pub fn read(message: &StreamMessage, partition: Partition) -> Result<Event, Malformed> {
    let likes: LikesTotal = wire::decode(&message.payload)?;
    belongs(message, partition, &likes.room)?;
    let (_, _, api, life) = parse::likes(&message.subject).ok_or(Malformed::Subject(partition))?;
    Ok(Event::Likes { sequence: message.sequence, api, life, likes })
}
