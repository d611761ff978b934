//! Watching a stream.
use crate::{Bus, ConsumeError};
use bytes::Bytes;
use pushmesh_protocol::name::{Filter, Stream};

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

pub struct StreamWatch {
    events: tokio::sync::mpsc::Receiver<StreamEvent>,
}

impl Bus {
    /// The last message of every subject of `filter`, then live ones, in stream order.
    pub async fn watch_stream(&self, stream: &Stream, filter: Filter) -> Result<StreamWatch, ConsumeError> {
        let _ = filter;
        Err(ConsumeError::Outage(stream.to_string()))
    }
}

impl StreamWatch {
    /// `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        self.events.recv().await
    }
}
