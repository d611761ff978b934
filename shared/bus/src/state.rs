//! [`StreamState`]: since when a stream is there, and from where to where it goes.

use bytes::Bytes;
use pushmesh_protocol::{message::Millis, name::Stream};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    Bus, ConsumeError,
    api::{CallError, subject},
    kv::time::rfc3339,
};

/// What the server says of a stream. An empty one has `first == last + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// When it was made: another stream of the same name has sequences of its own.
    pub created: Millis,
    /// Sequence of the first message that is still there.
    pub first: u64,
    /// Sequence of the last message that was stored.
    pub last: u64,
}

impl Bus {
    pub async fn stream_state(&self, stream: &Stream) -> Result<StreamState, ConsumeError> {
        let state = self.stream_state_until(stream, Instant::now() + self.inner.config.outage_hold);
        state.await.map_err(|error| ConsumeError::of(error, || format!("stream {stream}")))
    }

    pub(crate) async fn stream_state_until(&self, stream: &Stream, until: Instant) -> Result<StreamState, CallError> {
        #[derive(Deserialize)]
        struct Info {
            created: String,
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            first_seq: u64,
            last_seq: u64,
        }
        let info: Info = self.call_in_turn(&subject::stream_info(stream), Bytes::new, until).await?;
        let unreadable = || CallError::Unreadable(format!("{} is no time", info.created));
        let created = rfc3339(&info.created).ok_or_else(unreadable)?;
        Ok(StreamState { created, first: info.state.first_seq, last: info.state.last_seq })
    }
}
