//! Key-value buckets: raw publishes on `$KV.<bucket>.<key>`, since lifetimes need headers that the client's own API lacks.
//!
//! Other key-value clients understand what is written here.

mod read;
pub(crate) mod time;
mod watch;
mod write;

use std::{collections::HashMap, sync::MutexGuard, time::Duration};

use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use pushmesh_protocol::{
    message::Millis,
    name::{Bucket, Key, Stream, header},
};
use serde::Deserialize;
use tokio::time::Instant;

pub use watch::{GoneReason, KvEvent, KvWatch};
use write::Write;

use crate::{
    Bus,
    api::{CallError, Tries, code, subject},
    store::group::Publish,
};

/// Most writes of [`Kv::put_all`] that are on their way at once.
const PUT_GROUP_MAX: usize = 500;

pub(crate) const OPERATION: &str = "KV-Operation";
pub(crate) const MARKER_REASON: &str = "Nats-Marker-Reason";
const PURGE: &str = "PURGE";

/// Why a key-value operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    #[error("the key exists")]
    Exists,
    /// Somebody else wrote the key.
    #[error("the key has another revision")]
    WrongRevision,
    #[error("bucket {0} does not exist: run `pushmesh provision`")]
    NoBucket(String),
    #[error("the bucket is full: {0}")]
    Full(String),
    /// It may have been done.
    #[error("NATS did not answer: {0}")]
    Outage(String),
    #[error("the value has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("NATS refused: {0}")]
    Rejected(String),
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Bytes,
    /// Grows with every write in the bucket.
    pub revision: u64,
    /// When it was written.
    pub at: Millis,
}

/// A bucket. Operations are tried for `nats.kv_timeout` each; or longer, where somebody waits for them: see [`Kv::patient`].
#[derive(Clone)]
pub struct Kv {
    bus: Bus,
    bucket: Bucket,
    stream: Stream,
    /// How long the marker of a purged key stays.
    marker_lifetime: Duration,
    patience: Patience,
}

/// How long operations are tried.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Each(Duration),
    /// All of them together; what is written counts as held meanwhile.
    Until(Instant),
}

impl Bus {
    /// Opens a bucket that was provisioned. Asks the server once a connection: a bucket is not taken away while the mesh runs.
    pub async fn bucket(&self, bucket: &Bucket) -> Result<Kv, KvError> {
        let timeout = self.inner.config.kv_timeout;
        // Each partition opens its buckets anew, 64 of them at a time.
        let known = self.buckets().get(bucket.as_str()).copied();
        match known {
            Some(marker_lifetime) => Ok(self.open_bucket(bucket, marker_lifetime, timeout)),
            None => self.bucket_within(bucket, timeout).await,
        }
    }

    /// Opens a bucket whose operations are tried for `timeout`, and this one too. Asks the server each time.
    pub(crate) async fn bucket_within(&self, bucket: &Bucket, timeout: Duration) -> Result<Kv, KvError> {
        #[derive(Deserialize)]
        struct Info {
            config: Config,
        }
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            subject_delete_marker_ttl: u64,
        }
        let deadline = Instant::now() + timeout;
        let info_of = subject::stream_info(&Stream::of_bucket(bucket));
        let info: Info = self.call(&info_of, Bytes::new(), deadline).await.map_err(|error| {
            if error.has_code(code::STREAM_NOT_FOUND) { KvError::NoBucket(bucket.to_string()) } else { of(error) }
        })?;
        let marker_lifetime = match info.config.subject_delete_marker_ttl {
            0 => Duration::from_secs(60),
            nanos => Duration::from_nanos(nanos),
        };
        self.buckets().insert(bucket.to_string(), marker_lifetime);
        Ok(self.open_bucket(bucket, marker_lifetime, timeout))
    }

    fn open_bucket(&self, bucket: &Bucket, marker_lifetime: Duration, timeout: Duration) -> Kv {
        let (stream, patience) = (Stream::of_bucket(bucket), Patience::Each(timeout));
        Kv { bus: self.clone(), bucket: bucket.clone(), stream, marker_lifetime, patience }
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.inner.buckets.lock().expect("no holder of this lock can panic")
    }
}

impl Kv {
    /// The same bucket for one request whose answer says that something is stored: as patient with an outage as
    /// [`Bus::store`]. Its operations together are tried for `nats.outage_hold` from now on; what it writes counts towards
    /// `nats.hold_max_bytes`, and is refused beyond.
    pub fn patient(&self) -> Kv {
        let until = Instant::now() + self.bus.inner.config.outage_hold;
        Kv { patience: Patience::Until(until), ..self.clone() }
    }

    /// The key's value. Where the bucket is replicated it may be a moment old: writes with a revision tell.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, KvError> {
        let subject = key.subject(&self.bucket);
        let mut tries = Tries::until(self.deadline());
        loop {
            let timeout = tries.this_try(self.bus.inner.config.ack_timeout);
            let ask = subject::direct_last(&self.stream, subject.as_str());
            let error = match self.bus.ask(&ask, None, Bytes::new(), timeout).await {
                Ok(message) if message.status == Some(StatusCode::NOT_FOUND) => return Ok(None),
                Ok(message) => return entry(key, message).map_err(KvError::Rejected),
                Err(error) => error,
            };
            if !error.is_passing() || !tries.again(&self.bus).await {
                return Err(of(error));
            }
        }
    }

    /// Writes, whatever was there; returns the revision.
    pub async fn put(&self, key: &Key, value: Bytes) -> Result<u64, KvError> {
        self.write(key, value, Write::default()).await
    }

    /// Writes a value that lives for `ttl`: whole seconds, rounded up.
    pub async fn put_for(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<u64, KvError> {
        self.write(key, value, Write { ttl: Some(ttl), ..Write::default() }).await
    }

    /// Writes a key that does not exist: never had a value, or it was purged or ran out.
    pub async fn create(&self, key: &Key, value: Bytes) -> Result<u64, KvError> {
        self.create_with(key, value, None).await
    }

    /// Like [`create`](Self::create), with a lifetime, kept also where the key has a marker.
    pub async fn create_for(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<u64, KvError> {
        self.create_with(key, value, Some(ttl)).await
    }

    /// Writes if the key still has this revision. A lifetime that it had is gone.
    pub async fn update(&self, key: &Key, value: Bytes, revision: u64) -> Result<u64, KvError> {
        self.write(key, value, Write { expect: Some(revision), ..Write::default() }).await
    }

    /// Writes if the key still has this revision, with a new lifetime.
    pub async fn update_for(&self, key: &Key, value: Bytes, revision: u64, ttl: Duration) -> Result<u64, KvError> {
        self.write(key, value, Write { expect: Some(revision), ttl: Some(ttl), ..Write::default() }).await
    }

    /// Removes the key; the marker that watchers see goes by itself.
    pub async fn purge(&self, key: &Key) -> Result<(), KvError> {
        let write = Write { ttl: Some(self.marker_lifetime), purge: true, ..Write::default() };
        self.write(key, Bytes::new(), write).await.map(drop)
    }

    /// Removes the key if it still has this revision.
    pub async fn delete_expect(&self, key: &Key, revision: u64) -> Result<(), KvError> {
        let write = Write { ttl: Some(self.marker_lifetime), purge: true, expect: Some(revision) };
        self.write(key, Bytes::new(), write).await.map(drop)
    }

    /// Writes many, in order and pipelined; one revision each.
    pub async fn put_all(&self, entries: Vec<(Key, Bytes)>) -> Vec<Result<u64, KvError>> {
        let publish = |(key, value): (Key, Bytes)| self.publish(&key, value, &Write::default());
        self.write_all(entries.into_iter().map(publish)).await
    }

    /// Writes many, in order and pipelined, each only if its key still has the revision named (0: it never had a value).
    /// A write whose answer was lost may fail against itself, as [`KvError::WrongRevision`].
    pub async fn update_all(&self, entries: Vec<(Key, Bytes, u64)>) -> Vec<Result<u64, KvError>> {
        let publish = |(key, value, revision): (Key, Bytes, u64)| {
            let mut publish = self.publish(&key, value, &Write::default());
            publish.headers.insert(header::EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
            publish
        };
        self.write_all(entries.into_iter().map(publish)).await
    }

    async fn write_all(&self, writes: impl ExactSizeIterator<Item = Publish>) -> Vec<Result<u64, KvError>> {
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut rest = writes.peekable();
        while rest.peek().is_some() {
            let fitting = |publish| self.fits(&publish).map(|()| publish);
            let group: Vec<_> = rest.by_ref().take(PUT_GROUP_MAX).map(fitting).collect();
            outcomes.extend(self.put_group(group).await);
        }
        outcomes
    }

    async fn put_group(&self, group: Vec<Result<Publish, KvError>>) -> Vec<Result<u64, KvError>> {
        let deadline = self.deadline();
        let mut outcomes: Vec<Result<u64, KvError>> = Vec::with_capacity(group.len());
        let mut fitting = Vec::with_capacity(group.len());
        for publish in group {
            outcomes.push(publish.map(|publish| {
                fitting.push(publish);
                0
            }));
        }
        let places = fitting.len().min(self.bus.inner.config.in_flight_max) as u32;
        let mut answers = match tokio::time::timeout_at(deadline, self.bus.inner.window.acquire_many(places)).await {
            Ok(Ok(_places)) => self.bus.publish_group(&fitting, deadline).await,
            Ok(Err(_)) | Err(_) => fitting.iter().map(|_| Err(CallError::Lost)).collect(),
        }
        .into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            let answer = answers.next().expect("one answer for each that was published");
            *outcome = answer.map(|ack| ack.seq).map_err(of);
        }
        outcomes
    }

    fn deadline(&self) -> Instant {
        match self.patience {
            Patience::Each(timeout) => Instant::now() + timeout,
            Patience::Until(deadline) => deadline,
        }
    }
}

/// Reads the answer of a direct get.
fn entry(key: &Key, message: async_nats::Message) -> Result<Option<Entry>, String> {
    let headers = message.headers.as_ref().ok_or("a direct get without headers")?;
    if is_marker(headers) {
        return Ok(None);
    }
    let header = |name: &'static str| headers.get_last(name).map(|value| value.as_str());
    let revision = header("Nats-Sequence").and_then(|text| text.parse().ok()).ok_or("a direct get without sequence")?;
    let at = header("Nats-Time-Stamp").and_then(time::rfc3339).ok_or("a direct get without time")?;
    Ok(Some(Entry { key: key.to_string(), value: message.payload, revision, at }))
}

/// Whether a message tells that its key is gone.
pub(crate) fn is_marker(headers: &HeaderMap) -> bool {
    let operation = headers.get(OPERATION).map(|value| value.as_str());
    matches!(operation, Some("DEL" | PURGE)) || headers.get(MARKER_REASON).is_some()
}

fn of(error: CallError) -> KvError {
    match error {
        CallError::Api(error)
            if [code::WRONG_LAST_SEQUENCE, code::WRONG_LAST_SEQUENCE_CONSTANT].contains(&error.err_code) =>
        {
            KvError::WrongRevision
        }
        CallError::Api(error) if error.is_full() => KvError::Full(error.description),
        error if error.is_passing() => KvError::Outage(error.to_string()),
        error => KvError::Rejected(error.to_string()),
    }
}
