//! The bucket `ledger`, as the owner of one partition reads and writes it.
//!
//! Every record is written at the revision that was read: a late write of an owner that stood still changes nothing that a
//! newer one has written, and a newer one that has read too early finds out.

use bytes::Bytes;
use futures_util::future::try_join_all;
use pushmesh_bus::{Bus, Entry, Kv, KvError};
use pushmesh_membership::Lease;
use pushmesh_protocol::{
    RoomId,
    message::Epoch,
    name::{Bucket, Key, KeyFilter, parse},
};

use crate::room::lease_of;

/// Times that a record is said again when somebody else has written it.
const TRIES: usize = 3;

#[derive(Clone)]
pub struct Ledger {
    kv: Kv,
    lease: Lease,
}

/// What became of records that were to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The new revision of each; `None`: not now.
    Revisions(Vec<Option<u64>>),
    /// The bucket holds what this owner does not know: a newer owner's word, or one that came after this owner had read.
    /// Nothing may be written any more.
    Foreign { key: String, by: Option<Epoch> },
}

impl Ledger {
    pub async fn open(bus: &Bus, lease: Lease) -> Result<Self, KvError> {
        Ok(Self { kv: bus.bucket(&Bucket::LEDGER).await?, lease })
    }

    /// To be read before the others: what is written meanwhile by an owner that does not know its end is then at most newer
    /// than the checkpoint says.
    pub async fn checkpoint(&self) -> Result<Option<Entry>, KvError> {
        self.kv.get(&Key::checkpoint(self.lease.partition())).await
    }

    /// Every room's own record: a small one for each room that ever was. Rows are read of those rooms that need them.
    pub async fn rooms(&self) -> Result<Vec<Entry>, KvError> {
        self.kv.entries(KeyFilter::room_snapshots_of(self.lease.partition())).await
    }

    /// What is given in one room.
    pub async fn rows(&self, room: &RoomId) -> Result<Vec<Entry>, KvError> {
        self.kv.entries(KeyFilter::ledger_rows_in(self.lease.partition(), room)).await
    }

    /// A sleeping room's records.
    pub async fn load_room(&self, room: &RoomId) -> Result<Vec<Entry>, KvError> {
        let mut entries = self.rows(room).await?;
        entries.extend(self.kv.get(&Key::room_snapshot(self.lease.partition(), room)).await?);
        Ok(entries)
    }

    /// All that is stored of a room, at which revisions: its own record first.
    pub async fn revisions(&self, room: &RoomId) -> Result<Vec<(Key, u64)>, KvError> {
        let partition = self.lease.partition();
        let own = Key::room_snapshot(partition, room);
        let mut all: Vec<_> = self.kv.get(&own).await?.map(|entry| (own, entry.revision)).into_iter().collect();
        let rows = self.rows(room).await?;
        let users = rows.iter().filter_map(|entry| Some((parse::ledger_row(&entry.key)?.2, entry.revision)));
        all.extend(users.map(|(user, revision)| (Key::ledger_row(partition, room, &user), revision)));
        Ok(all)
    }

    /// Removes records, each at its revision. [`KvError::WrongRevision`]: somebody else has written one.
    pub async fn remove(&self, records: &[(Key, u64)]) -> Result<(), KvError> {
        let removing = records.iter().map(|(key, revision)| async move {
            match self.kv.delete_expect(key, *revision).await {
                // By a try whose answer was lost.
                Err(KvError::WrongRevision) if self.kv.get(key).await?.is_none() => Ok(()),
                outcome => outcome,
            }
        });
        try_join_all(removing).await.map(drop)
    }

    /// Writes records, each at its revision (0: it was never written).
    pub async fn write(&self, records: Vec<(Key, Bytes, u64)>) -> Written {
        if !self.lease.held() {
            return Written::Revisions(vec![None; records.len()]);
        }
        let outcomes = self.kv.update_all(records.clone()).await;
        let mut revisions = Vec::with_capacity(records.len());
        for ((key, value, _), outcome) in records.into_iter().zip(outcomes) {
            let outcome = match outcome {
                Err(KvError::WrongRevision) => match self.write_again(&key, &value).await {
                    Ok(outcome) => outcome,
                    Err(by) => return Written::Foreign { key: key.to_string(), by },
                },
                outcome => outcome,
            };
            let revision = outcome.inspect_err(|error| tracing::warn!(%key, %error, "a record was not written"));
            revisions.push(revision.ok());
        }
        Written::Revisions(revisions)
    }

    /// A record stands at another revision: mostly because the answer to its own write was lost. `Err`: another's, by the
    /// lease named.
    async fn write_again(&self, key: &Key, value: &Bytes) -> Result<Result<u64, KvError>, Option<Epoch>> {
        for _ in 0..TRIES {
            let stored = match self.kv.get(key).await {
                Ok(stored) => stored,
                Err(error) => return Ok(Err(error)),
            };
            if !self.lease.held() {
                break;
            }
            let written = match stored {
                Some(stored) if stored.value == *value => return Ok(Ok(stored.revision)),
                Some(stored) => match lease_of(&stored.value) {
                    Ok(by) if by == self.lease.epoch() => self.kv.update(key, value.clone(), stored.revision).await,
                    Ok(by) => return Err(Some(by)),
                    Err(_) => return Err(None),
                },
                // Removed by people: what is known here holds.
                None => self.kv.create(key, value.clone()).await,
            };
            match written {
                Err(KvError::WrongRevision | KvError::Exists) => {}
                outcome => return Ok(outcome),
            }
        }
        Ok(Err(KvError::WrongRevision))
    }
}
