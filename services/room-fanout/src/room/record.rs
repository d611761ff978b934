//! What stands in the bucket `ledger`: one record a room, a user's row in it, a partition's checkpoint.
//!
//! Each says whose it is, and up to which sequence of which streams it is true: no two have to be written together.

use bytes::Bytes;
use pushmesh_protocol::{
    message::{Epoch, Millis},
    wire::{self, WireError},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::{
    around::Owner,
    chain::{Chain, ChatChain},
    ledger::Row,
    likes::Likes,
};

/// The lease under which a record was written: of two that write one key, the greater is the partition's owner.
pub fn lease_of(record: &[u8]) -> Result<Epoch, WireError> {
    wire::decode::<Stamped<IgnoredAny>>(record).map(|stamped| stamped.stamp.lease)
}

/// The last sequence of each source that is in the records: what is behind it is applied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Positions {
    pub gifts: u64,
    pub chats: u64,
    pub events: u64,
    pub likes: u64,
    pub notes: u64,
}

/// One room, without its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RoomRecord {
    pub gifts: Chain,
    pub chat: ChatChain,
    pub normal: Chain,
    /// The last note that was told.
    pub notes: u64,
    /// Chats that lie in the stream and were told to nobody.
    pub skipped: Vec<u64>,
    pub gifts_count: u64,
    pub gifts_total: u64,
    /// The last gift whose ranking was told.
    pub ranked: u64,
    pub likes: Likes,
    /// When something was last said.
    pub at: Millis,
}

/// What one user has given in one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowRecord {
    total: u64,
    gifts: u64,
    level: u32,
    level_told: u32,
    applied: u64,
    reached: u64,
}

#[derive(Serialize, Deserialize)]
struct Stamped<T> {
    stamp: Stamp,
    body: T,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Stamp {
    lease: Epoch,
    streams: u64,
    low: u64,
}

pub(super) fn write<T: Serialize>(owner: Owner, body: &T) -> Bytes {
    let Owner { lease, streams, low, .. } = owner;
    wire::encode(&Stamped { stamp: Stamp { lease, streams, low }, body }).into()
}

/// A record as it counts under this owner: sequences of streams that are gone are forgotten, sums are not.
pub(super) fn read<T: DeserializeOwned + Renewed>(owner: Owner, bytes: &[u8]) -> Result<T, WireError> {
    let Stamped { stamp, mut body } = wire::decode::<Stamped<T>>(bytes)?;
    if stamp.streams != owner.streams {
        body.streams_are_new();
    }
    if stamp.low != owner.low || stamp.streams != owner.streams {
        body.low_is_new();
    }
    Ok(body)
}

pub(super) trait Renewed {
    fn streams_are_new(&mut self);
    fn low_is_new(&mut self);
}

impl Renewed for RoomRecord {
    fn streams_are_new(&mut self) {
        let Self { gifts, chat, normal, notes: _, skipped, gifts_count: _, gifts_total: _, ranked, likes: _, at: _ } =
            self;
        (*gifts, *chat, *normal, *ranked) = Default::default();
        skipped.clear();
    }

    fn low_is_new(&mut self) {
        self.notes = 0;
    }
}

impl Renewed for RowRecord {
    fn streams_are_new(&mut self) {
        (self.applied, self.reached) = (0, 0);
    }

    fn low_is_new(&mut self) {}
}

impl Renewed for Positions {
    fn streams_are_new(&mut self) {
        (self.gifts, self.chats, self.events) = (0, 0, 0);
    }

    fn low_is_new(&mut self) {
        (self.likes, self.notes) = (0, 0);
    }
}

impl From<&Row> for RowRecord {
    fn from(row: &Row) -> Self {
        let Row { total, gifts, reached, applied, level, level_told, .. } = *row;
        Self { total, gifts, level, level_told, applied, reached }
    }
}

impl RowRecord {
    pub fn into_row(self, revision: u64) -> Row {
        let Self { total, gifts, level, level_told, applied, reached } = self;
        Row { total, gifts, reached, applied, level, level_told, revision, dirty: false }
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::Partition;

    use super::*;

    #[test]
    fn a_record_tells_its_lease_and_forgets_the_sequences_of_streams_that_are_gone() {
        let owner = Owner { partition: Partition(3), lease: 7, streams: 100, low: 5 };
        let row = RowRecord { total: 50, gifts: 2, level: 1, level_told: 1, applied: 9, reached: 9 };
        let bytes = write(owner, &row);
        assert_eq!(lease_of(&bytes).unwrap(), 7);
        assert_eq!(read::<RowRecord>(Owner { lease: 8, ..owner }, &bytes).unwrap(), row);
        let renewed = read::<RowRecord>(Owner { streams: 101, ..owner }, &bytes).unwrap();
        assert_eq!((renewed.total, renewed.applied), (50, 0));
        let positions = Positions { gifts: 1, chats: 2, events: 3, likes: 4, notes: 5 };
        let read: Positions = read(Owner { low: 6, ..owner }, &write(owner, &positions)).unwrap();
        assert_eq!(read, Positions { likes: 0, notes: 0, ..positions });
        assert!(lease_of(b"junk").is_err());
    }
}
