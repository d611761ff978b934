//! [`Kv::entries`]: keys and values, read without a watch.

use pushmesh_protocol::name::KeyFilter;

use super::{Entry, Kv, KvError, of};
use crate::{api::subject, history::REQUEST_MAX};

/// Bytes of values that one request brings.
const REQUEST_MAX_BYTES: usize = 4 << 20;

impl Kv {
    /// The values of all keys of a filter, in the order of their revisions; a key written meanwhile may come twice, its
    /// newest last. Where the bucket is replicated they may be a moment old.
    pub async fn entries(&self, keys: KeyFilter) -> Result<Vec<Entry>, KvError> {
        let filter = subject::keys(&self.bucket, keys.as_str());
        let prefix = subject::keys(&self.bucket, "");
        let deadline = self.deadline();
        let (mut entries, mut after) = (Vec::new(), 0);
        loop {
            let part = self.bus.history_part(&self.stream, &filter, after, REQUEST_MAX, REQUEST_MAX_BYTES, deadline);
            let part = part.await.map_err(of)?;
            let Some(last) = part.messages.last() else { return Ok(entries) };
            after = last.message.sequence;
            let values = part.messages.into_iter().filter(|part| !part.is_marker).map(|part| part.message);
            entries.extend(values.map(|message| Entry {
                key: message.subject.strip_prefix(&prefix).unwrap_or(&message.subject).to_owned(),
                value: message.payload,
                revision: message.sequence,
                at: message.at,
            }));
            if part.pending == 0 {
                return Ok(entries);
            }
        }
    }
}
