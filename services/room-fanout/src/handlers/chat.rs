//! Chat, danmaku and the like, of ROOM_HIGH.

use pushmesh_bus::StreamMessage;
use pushmesh_protocol::{Partition, room::RoomMessage, wire};
use pushmesh_telemetry::span::{self, Role};

use super::{Malformed, belongs};
use crate::room::Event;

/// Reads it. Its processing is a span of the message's trace, and the context that goes on to the comets.
pub fn read(message: &StreamMessage, partition: Partition) -> Result<Event, Malformed> {
    let mut chat: RoomMessage = wire::decode(&message.payload)?;
    belongs(message, partition, &chat.room)?;
    let parent = chat.trace.take().or(message.trace);
    let process = span::child("process pm.v1.room.high.chat.{p}.{room}", Role::Consumer, parent);
    chat.trace = span::context(&process);
    Ok(Event::Chat { sequence: message.sequence, message: chat })
}
