//! [`StreamFollow`]: all of a stream behind a sequence, then live, in order.

use bytes::Bytes;
use pushmesh_protocol::{
    TraceContext,
    message::Millis,
    name::{Filter, Stream},
};
use tokio::sync::mpsc;

use crate::{
    Bus, ConsumeError,
    core::trace_of,
    ordered::{self, Begin},
};

/// A message as its stream holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamMessage {
    pub subject: String,
    pub payload: Bytes,
    pub sequence: u64,
    /// When it was stored.
    pub at: Millis,
    pub trace: Option<TraceContext>,
}

/// What following a stream tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowEvent {
    Message(StreamMessage),
    /// All that was stored when it began has been told; what follows is live. Once.
    CaughtUp,
    /// The stream's first message is `first`: of what came behind `after`, some may be gone. What is left follows.
    Missing {
        after: u64,
        first: u64,
    },
    /// The stream was made anew, or has lost its end: sequences begin again, and all that it holds follows.
    Anew,
    /// Nothing of the filter lies between the last message and this sequence: told every few seconds where others' messages
    /// go on. Whoever begins again may begin behind it.
    Reached(u64),
}

/// Follows a stream until dropped. Over a reconnect, a restart of the server or a gap it goes on behind the last message
/// that it handed on: none comes twice, and none is left out without a word.
pub struct StreamFollow {
    events: mpsc::Receiver<ordered::Event>,
}

impl Bus {
    /// The messages of `filter` whose sequence is greater than `after`, then live ones, in stream order.
    pub async fn follow_stream(
        &self,
        stream: &Stream,
        filter: Filter,
        after: u64,
    ) -> Result<StreamFollow, ConsumeError> {
        let follow = ordered::follow(self, stream.clone(), filter.as_str().to_owned(), Begin::After(after));
        let events = follow.await.map_err(|error| ConsumeError::of(error, || format!("stream {stream}")))?;
        Ok(StreamFollow { events })
    }
}

impl StreamFollow {
    /// `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<FollowEvent> {
        loop {
            if let Some(event) = read(self.events.recv().await?) {
                return Some(event);
            }
        }
    }

    /// An event that is already here.
    pub fn try_next(&mut self) -> Option<FollowEvent> {
        loop {
            if let Some(event) = read(self.events.try_recv().ok()?) {
                return Some(event);
            }
        }
    }
}

fn read(event: ordered::Event) -> Option<FollowEvent> {
    Some(match event {
        ordered::Event::Item(item) => FollowEvent::Message(StreamMessage {
            trace: trace_of(item.headers.as_ref()),
            subject: item.subject,
            payload: item.payload,
            sequence: item.sequence,
            at: item.at,
        }),
        ordered::Event::CaughtUp => FollowEvent::CaughtUp,
        ordered::Event::Missing { after, first } => FollowEvent::Missing { after, first },
        ordered::Event::Anew => FollowEvent::Anew,
        ordered::Event::Reached(sequence) => FollowEvent::Reached(sequence),
        // Said of snapshots alone.
        ordered::Event::Restarted => return None,
    })
}
