//! A gift, of ROOM_HIGH.

use pushmesh_bus::StreamMessage;
use pushmesh_protocol::{Partition, room::Gift, wire};
use pushmesh_telemetry::span::{self, Role};

use super::{Malformed, belongs};
use crate::room::Event;

/// Reads it. Its processing is a span of the gift's trace, and the context that goes on to the comets.
pub fn read(message: &StreamMessage, partition: Partition) -> Result<Event, Malformed> {
    let mut gift: Gift = wire::decode(&message.payload)?;
    belongs(message, partition, &gift.room)?;
    let parent = gift.trace.take().or(message.trace);
    let process = span::child("process pm.v1.room.high.gift.{p}.{room}", Role::Consumer, parent);
    gift.trace = span::context(&process);
    Ok(Event::Gift { sequence: message.sequence, gift })
}
