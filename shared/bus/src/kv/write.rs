//! One write: said until it is answered, and done once.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use pushmesh_protocol::name::{Key, header};
use serde::Deserialize;
use serde_json::json;

use super::{Kv, KvError, MARKER_REASON, OPERATION, PURGE, Patience, of, time};
use crate::{
    api::{self, Tries, code, subject},
    backoff::random_token,
    store::{OVERHEAD_BYTES, PubAck, group::Publish, hold::Hold, ttl_text},
};

const ROLLUP: &str = "Nats-Rollup";

/// One write, beside key and value.
#[derive(Default)]
pub(super) struct Write {
    pub ttl: Option<Duration>,
    /// The revision the key must have; 0: no value and no marker.
    pub expect: Option<u64>,
    pub purge: bool,
}

impl Kv {
    pub(super) async fn create_with(&self, key: &Key, value: Bytes, ttl: Option<Duration>) -> Result<u64, KvError> {
        let mut expect = 0;
        // Each turn somebody else was faster: ten times in a row is no accident.
        for _ in 0..10 {
            match self.write(key, value.clone(), Write { ttl, expect: Some(expect), purge: false }).await {
                Err(KvError::WrongRevision) => {}
                outcome => return outcome,
            }
            match self.last(key).await? {
                Some(Last { is_marker: false, .. }) => return Err(KvError::Exists),
                Some(Last { sequence, .. }) => expect = sequence,
                None => expect = 0,
            }
        }
        Err(KvError::WrongRevision)
    }

    pub(super) async fn write(&self, key: &Key, value: Bytes, write: Write) -> Result<u64, KvError> {
        let publish = self.publish(key, value, &write);
        self.fits(&publish)?;
        let _held = self.hold(&publish)?;
        let deadline = self.deadline();
        let place = tokio::time::timeout_at(deadline, self.bus.inner.window.acquire()).await;
        let _place = place.map_err(|_| KvError::Outage("too many writes are waiting".to_owned()))?;
        let mut tries = Tries::until(deadline);
        let mut unheard = false;
        loop {
            let timeout = tries.this_try(self.bus.inner.config.ack_timeout);
            let Publish { subject, headers, payload } = &publish;
            let answer = self.bus.ask(subject, Some(headers.clone()), payload.clone(), timeout).await;
            let error = match answer.and_then(|message| api::read::<PubAck>(&message.payload)) {
                Ok(ack) => return Ok(ack.seq),
                Err(error) => error,
            };
            if unheard
                && let KvError::WrongRevision = of(error.clone())
                && let Some(revision) = self.own(key, payload, &write).await
            {
                return Ok(revision);
            }
            if !error.is_passing() || !tries.again(&self.bus).await {
                return Err(of(error));
            }
            unheard = true;
        }
    }

    /// The revision that an earlier try wrote: a server that was restarted may check the expected revision before it
    /// remembers the write's id.
    async fn own(&self, key: &Key, value: &Bytes, write: &Write) -> Option<u64> {
        let expected = write.expect?;
        let last = self.last(key).await.ok().flatten()?;
        if last.sequence <= expected || last.is_marker != write.purge {
            return None;
        }
        if write.purge {
            return Some(last.sequence);
        }
        let entry = self.get(key).await.ok().flatten()?;
        (entry.revision == last.sequence && entry.value == *value).then_some(entry.revision)
    }

    pub(super) fn publish(&self, key: &Key, value: Bytes, write: &Write) -> Publish {
        let mut headers = HeaderMap::new();
        if let Some(ttl) = write.ttl {
            headers.insert(header::TTL, ttl_text(ttl));
        }
        if let Some(revision) = write.expect {
            headers.insert(header::EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        }
        // Said again after a lost answer, it is recognised instead of failing against itself, or undoing what somebody wrote after
        // it; the latter only where that may be long after.
        if write.expect.is_some() || matches!(self.patience, Patience::Until(_)) {
            headers.insert(header::MESSAGE_ID, random_token());
        }
        if write.purge {
            headers.insert(OPERATION, PURGE);
            headers.insert(ROLLUP, "sub");
        }
        Publish { subject: key.subject(&self.bucket).as_str().to_owned(), headers, payload: value }
    }

    pub(super) fn fits(&self, publish: &Publish) -> Result<(), KvError> {
        let bytes = publish.payload.len();
        self.bus
            .fits(bytes + publish.subject.len() + OVERHEAD_BYTES)
            .map_err(|(_, limit)| limit.saturating_sub(publish.subject.len() + OVERHEAD_BYTES))
            .map_err(|limit| KvError::TooLarge { bytes, limit })
    }

    /// What stands last in the stream for a key, as the stream's leader knows it.
    async fn last(&self, key: &Key) -> Result<Option<Last>, KvError> {
        #[derive(Deserialize)]
        struct Answer {
            message: Stored,
        }
        #[derive(Deserialize)]
        struct Stored {
            seq: u64,
            /// Base64.
            #[serde(default)]
            hdrs: String,
        }
        let request = json!({ "last_by_subj": key.subject(&self.bucket).as_str() }).to_string();
        match self.bus.call::<Answer>(&subject::stream_message(&self.stream), request, self.deadline()).await {
            // Values have no headers of these names; a marker has one of them, and none has a body that looks like it.
            Ok(Answer { message }) => {
                let headers = time::base64(&message.hdrs);
                let has = |name: &str| headers.windows(name.len()).any(|window| window == name.as_bytes());
                Ok(Some(Last { sequence: message.seq, is_marker: has(OPERATION) || has(MARKER_REASON) }))
            }
            Err(error) if error.has_code(code::MESSAGE_NOT_FOUND) => Ok(None),
            Err(error) => Err(of(error)),
        }
    }

    /// The bytes of a patient write count as held until it is done.
    fn hold(&self, publish: &Publish) -> Result<Option<Hold>, KvError> {
        let held = &self.bus.inner.held;
        match self.patience {
            Patience::Each(_) => Ok(None),
            Patience::Until(_) => match held.take(publish.payload.len() + publish.subject.len() + OVERHEAD_BYTES) {
                Some(hold) => Ok(Some(hold)),
                None => {
                    Err(KvError::Outage(format!("{} bytes are waiting already (nats.hold_max_bytes)", held.limit())))
                }
            },
        }
    }
}

struct Last {
    sequence: u64,
    is_marker: bool,
}
