//! [`KvWatch`]: what a bucket holds, and what becomes of it.

use async_nats::HeaderMap;
use pushmesh_protocol::name::KeyFilter;
use tokio::sync::mpsc;

use super::{Entry, Kv, KvError, MARKER_REASON, is_marker, of};
use crate::{
    api::{code, subject},
    ordered::{self, Begin},
};

/// What a watch of keys tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvEvent {
    Put(Entry),
    /// Purged, deleted or expired. A snapshot may name keys that were never put before.
    Gone {
        key: String,
        revision: u64,
        reason: GoneReason,
    },
    /// The snapshot is complete.
    Current,
    /// The watch was made anew: a full snapshot follows; forget what it does not mention by the next `Current`.
    Restarted,
}

/// Why a key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// Somebody purged or deleted it.
    Deleted,
    /// Its lifetime ended.
    Expired,
}

/// Follows keys until dropped. Survives reconnects and restarts of the server.
pub struct KvWatch {
    /// `$KV.<bucket>.`
    prefix: String,
    events: mpsc::Receiver<ordered::Event>,
}

impl Kv {
    /// All keys of a filter, then what becomes of them, in the order of their revisions.
    pub async fn watch(&self, keys: KeyFilter) -> Result<KvWatch, KvError> {
        let filter = subject::keys(&self.bucket, keys.as_str());
        let events = ordered::follow(&self.bus, self.stream.clone(), filter, Begin::LastPerSubject);
        let events = events.await.map_err(|error| {
            if error.has_code(code::STREAM_NOT_FOUND) { KvError::NoBucket(self.bucket.to_string()) } else { of(error) }
        })?;
        Ok(KvWatch { prefix: subject::keys(&self.bucket, ""), events })
    }
}

impl KvWatch {
    /// `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<KvEvent> {
        loop {
            let event = self.events.recv().await?;
            if let Some(event) = self.read(event) {
                return Some(event);
            }
        }
    }

    fn read(&self, event: ordered::Event) -> Option<KvEvent> {
        Some(match event {
            ordered::Event::Item(item) => {
                let key = item.subject.strip_prefix(&self.prefix).unwrap_or(&item.subject).to_owned();
                let revision = item.sequence;
                match item.headers.as_ref().filter(|headers| is_marker(headers)) {
                    Some(headers) => KvEvent::Gone { key, revision, reason: reason(headers) },
                    None => KvEvent::Put(Entry { key, value: item.payload, revision, at: item.at }),
                }
            }
            ordered::Event::CaughtUp => KvEvent::Current,
            ordered::Event::Restarted | ordered::Event::Anew => KvEvent::Restarted,
            // Told only behind a sequence.
            ordered::Event::Missing { .. } | ordered::Event::Reached(_) => return None,
        })
    }
}

fn reason(marker: &HeaderMap) -> GoneReason {
    match marker.get(MARKER_REASON).map(|value| value.as_str()) {
        Some("MaxAge") => GoneReason::Expired,
        _ => GoneReason::Deleted,
    }
}
