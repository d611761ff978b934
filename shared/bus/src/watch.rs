//! [`StreamWatch`]: what a stream holds, and what comes.

use bytes::Bytes;
use pushmesh_protocol::name::{Filter, Stream};
use tokio::sync::mpsc;

use crate::{
    Bus, ConsumeError,
    ordered::{self, Begin},
};

/// What a watch of a stream tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    Message {
        subject: String,
        payload: Bytes,
        sequence: u64,
    },
    /// All that was stored has been told; what follows is live. Once after the start and after each `Restarted`.
    CaughtUp,
    /// The watch was made anew: the last message of every subject follows again, then `CaughtUp`.
    Restarted,
}

/// Follows a stream until dropped. Survives reconnects and restarts of the server.
pub struct StreamWatch {
    events: mpsc::Receiver<ordered::Event>,
}

impl Bus {
    /// The last message of every subject of `filter`, then live ones, in stream order.
    pub async fn watch_stream(&self, stream: &Stream, filter: Filter) -> Result<StreamWatch, ConsumeError> {
        let follow = ordered::follow(self, stream.clone(), filter.as_str().to_owned(), Begin::LastPerSubject);
        let events = follow.await.map_err(|error| ConsumeError::of(error, || format!("stream {stream}")))?;
        Ok(StreamWatch { events })
    }
}

impl StreamWatch {
    /// `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            return Some(match self.events.recv().await? {
                ordered::Event::Item(item) => {
                    StreamEvent::Message { subject: item.subject, payload: item.payload, sequence: item.sequence }
                }
                ordered::Event::CaughtUp => StreamEvent::CaughtUp,
                ordered::Event::Restarted | ordered::Event::Anew => StreamEvent::Restarted,
                // Told only behind a sequence.
                ordered::Event::Missing { .. } | ordered::Event::Reached(_) => continue,
            });
        }
    }
}
