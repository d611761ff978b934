//! Finds where a stream that has lost its end goes on with other messages than those that were applied.
//!
//! What is left of the old ones was stored no later than the last of its kind that was applied; what came since, after it. So
//! nothing new is taken for old, however much came before anybody looked.

use pushmesh_bus::{Bus, ConsumeError};
use pushmesh_protocol::{
    Partition,
    message::Millis,
    name::{Filter, Stream},
};

use crate::room::Positions;

/// Messages and bytes read at a time.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 1 << 20;

/// Up to which sequences of gifts, chats and events the streams hold what was applied.
pub async fn ends(bus: &Bus, partition: Partition, applied: &Positions) -> Result<(u64, u64, u64), ConsumeError> {
    let [gift, chat, event] = applied.newest;
    tokio::try_join!(
        end(bus, Stream::ROOM_HIGH, Filter::gifts_of(partition), applied.gifts, gift),
        end(bus, Stream::ROOM_HIGH, Filter::chats_of(partition), applied.chats, chat),
        end(bus, Stream::ROOM_NORMAL, Filter::room_events_of(partition), applied.events, event),
    )
}

async fn end(bus: &Bus, stream: Stream, filter: Filter, upto: u64, newest: Millis) -> Result<u64, ConsumeError> {
    // What is stored after this has a later sequence than all that is read here.
    let upto = bus.stream_state(&stream).await?.last.min(upto);
    let mut after = 0;
    loop {
        let history = bus.read_history(&stream, filter.clone(), after, PAGE, PAGE_BYTES).await?;
        let new = history.messages.iter().find(|message| message.sequence > upto || message.at > newest);
        if let Some(new) = new {
            return Ok(upto.min(new.sequence - 1));
        }
        match history.messages.last() {
            Some(last) if history.pending > 0 => after = last.sequence,
            _ => return Ok(upto),
        }
    }
}
