//! Reads from the streams what memory does not hold any more, for somebody who came back.

use std::time::Duration;

use pushmesh_bus::{Bus, ConsumeError, StreamMessage};
use pushmesh_protocol::{
    Partition, RoomId,
    name::{Stream, Subject},
    wire,
};
use serde::de::DeserializeOwned;

use crate::room::{Past, PastAsk, PastOf, Span};

/// Tries of one reading, and how long each may take.
const TRIES: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);
/// A replica that answers may be so far behind the owner.
const LAG: Duration = Duration::from_millis(20);

/// What reading brought; `None`: three tries failed.
pub type PastRead = Option<Past>;

pub async fn read(bus: &Bus, partition: Partition, room: &RoomId, ask: &PastAsk) -> PastRead {
    for _ in 0..TRIES {
        match tokio::time::timeout(WITHIN, read_once(bus, partition, room, ask)).await {
            Ok(Ok(past)) => return Some(past),
            Ok(Err(error)) => tracing::warn!(%partition, %error, "could not read a room's history; again"),
            Err(_) => tracing::warn!(%partition, within = ?WITHIN, "a room's history took too long; again"),
        }
    }
    None
}

async fn read_once(bus: &Bus, partition: Partition, room: &RoomId, ask: &PastAsk) -> Result<Past, ConsumeError> {
    let (gift, chat) = (Subject::gift(partition, room), Subject::room_chat(partition, room));
    let event = Subject::room_event(partition, room);
    let (gifts, high, normal) = tokio::try_join!(
        read_chain(bus, Stream::ROOM_HIGH, gift, ask.gifts),
        read_chain(bus, Stream::ROOM_HIGH, chat, ask.high),
        read_chain(bus, Stream::ROOM_NORMAL, event, ask.normal),
    )?;
    Ok(Past { gifts, high, normal })
}

async fn read_chain<T: DeserializeOwned>(
    bus: &Bus,
    stream: Stream,
    subject: Subject,
    span: Option<Span>,
) -> Result<Option<PastOf<T>>, ConsumeError> {
    let Some(span) = span else { return Ok(None) };
    let mut tries = 0;
    let history = loop {
        let filter = subject.clone().into();
        let history = bus.read_history(&stream, filter, span.after, span.max_messages, span.max_bytes).await?;
        tries += 1;
        let reached = history.messages.last().map_or(span.after, |last| last.sequence);
        // The owner has applied up to there: a stream that ends before is a replica's that lags.
        if reached >= span.upto || history.pending > 0 || tries >= TRIES {
            break history;
        }
        tokio::time::sleep(LAG).await;
    };
    // Asked after the reading: what has gone from the stream by now may have been missing already.
    let first = bus.stream_state(&stream).await?.first;
    let reached = history.messages.last().map_or(span.after, |last| last.sequence);
    // The span's end was told: it was there. It was read, or it is gone, or too much lies before it; or a replica lags for long:
    // that says nothing, and is read again.
    let to_end = reached >= span.upto || first > span.upto;
    if !to_end && history.pending == 0 {
        return Ok(None);
    }
    let until = |message: &StreamMessage| message.sequence <= span.upto;
    let messages = history.messages.into_iter().take_while(until);
    // What nobody can read was passed over by the owner too.
    let read = |message: StreamMessage| Some((message.sequence, wire::decode(&message.payload).ok()?));
    Ok(Some(PastOf { span, messages: messages.filter_map(read).collect(), to_end, first }))
}
