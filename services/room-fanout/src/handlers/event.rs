//! State, mutes, roles, kicks and the like, of ROOM_NORMAL.

use pushmesh_bus::StreamMessage;
use pushmesh_protocol::{Partition, room::RoomEvent, wire};
use pushmesh_telemetry::span::{self, Role};

use super::{Malformed, belongs};
use crate::room::Event;

/// Reads it. Its processing is a span of the event's trace, and the context that goes on to the comets.
pub fn read(message: &StreamMessage, partition: Partition) -> Result<Event, Malformed> {
    let mut event: RoomEvent = wire::decode(&message.payload)?;
    belongs(message, partition, &event.room)?;
    let parent = event.trace.take().or(message.trace);
    let process = span::child("process pm.v1.room.normal.event.{p}.{room}", Role::Consumer, parent);
    event.trace = span::context(&process);
    Ok(Event::Happening { sequence: message.sequence, event })
}
