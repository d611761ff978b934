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
    ends::{End, Ends},
    ledger::Row,
    likes::Likes,
};

/// The lease under which a record was written: of two that write one key, the greater is the partition's owner.
pub fn lease_of(record: &[u8]) -> Result<Epoch, WireError> {
    wire::decode::<Stamped<IgnoredAny>>(record).map(|stamped| stamped.stamp.lease)
}

/// The last sequence of each source that is in the records: what is behind it is applied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    pub gifts: u64,
    pub chats: u64,
    pub events: u64,
    pub likes: u64,
    pub notes: u64,
    /// When the last gift, chat and event among them were stored, by the server's clock.
    pub newest: [Millis; 3],
}

/// A partition's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub(super) struct Checkpoint {
    pub positions: Positions,
    pub ends: Vec<End>,
}

/// As it is written: positions, then the rest.
#[derive(Serialize, Deserialize)]
struct Flat {
    gifts: u64,
    chats: u64,
    events: u64,
    likes: u64,
    notes: u64,
    #[serde(default)]
    newest: [Millis; 3],
    #[serde(default)]
    ends: Vec<End>,
}

impl From<Flat> for Checkpoint {
    fn from(flat: Flat) -> Self {
        let Flat { gifts, chats, events, likes, notes, newest, ends } = flat;
        Self { positions: Positions { gifts, chats, events, likes, notes, newest }, ends }
    }
}

impl From<Checkpoint> for Flat {
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint { positions: Positions { gifts, chats, events, likes, notes, newest }, ends } = checkpoint;
        Self { gifts, chats, events, likes, notes, newest, ends }
    }
}

/// One room, without its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RoomRecord {
    pub gifts: Chain,
    pub chat: ChatChain,
    pub normal: Chain,
    /// The last note that was told.
    pub notes: u64,
    /// Chats that lie in the stream and were told to nobody, gifts that were told without their note.
    pub skipped: Vec<u64>,
    pub gifts_count: u64,
    pub gifts_total: u64,
    /// The last gift whose ranking was told.
    pub ranked: u64,
    pub likes: Likes,
    /// When something was last said.
    pub at: Millis,
    /// Of `skipped`, those up to here are forgotten.
    #[serde(default)]
    pub skipped_forgotten: u64,
    /// A level-up among its rows is not known to be stored.
    #[serde(default = "maybe")]
    pub levels_open: bool,
    /// Messages of class normal that lie in the stream and were told to nobody.
    #[serde(default)]
    pub skipped_events: Vec<u64>,
    #[serde(default)]
    pub skipped_events_forgotten: u64,
}

fn maybe() -> bool {
    true
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

/// A record as it counts under this owner: sequences of streams that are gone are forgotten, and those behind the end that a
/// stream has lost; sums are not.
pub(super) fn read<T: DeserializeOwned + Renewed>(owner: Owner, ends: &Ends, bytes: &[u8]) -> Result<T, WireError> {
    let Stamped { stamp, mut body } = wire::decode::<Stamped<T>>(bytes)?;
    if stamp.streams < ends.created {
        body.streams_are_new();
    } else {
        for end in ends.since(stamp.streams) {
            body.end_was_lost(end);
        }
    }
    if stamp.low != owner.low || stamp.streams < ends.created {
        body.low_is_new();
    }
    Ok(body)
}

/// A checkpoint as it was written, with the epoch of its sequences.
pub(super) fn read_checkpoint(bytes: &[u8]) -> Result<(u64, Checkpoint), WireError> {
    let Stamped { stamp, body } = wire::decode::<Stamped<Checkpoint>>(bytes)?;
    Ok((stamp.streams, body))
}

pub(super) trait Renewed {
    fn streams_are_new(&mut self);
    fn end_was_lost(&mut self, end: &End);
    fn low_is_new(&mut self);
}

impl Renewed for RoomRecord {
    fn streams_are_new(&mut self) {
        let Self { gifts, chat, normal, ranked, skipped, skipped_forgotten, .. } = self;
        (*gifts, *chat, *normal, *ranked, *skipped_forgotten) = Default::default();
        skipped.clear();
        self.skipped_events.clear();
        self.skipped_events_forgotten = 0;
    }

    fn end_was_lost(&mut self, end: &End) {
        self.gifts.cut(end.gifts);
        self.chat.cut(end.chats);
        self.normal.cut(end.events);
        self.ranked = end.gifts.min(self.ranked);
        let high = end.chats.max(end.gifts);
        self.skipped.retain(|offset| *offset <= high);
        self.skipped_forgotten = high.min(self.skipped_forgotten);
        self.skipped_events.retain(|offset| *offset <= end.events);
        self.skipped_events_forgotten = end.events.min(self.skipped_events_forgotten);
    }

    fn low_is_new(&mut self) {
        self.notes = 0;
    }
}

impl Renewed for RowRecord {
    fn streams_are_new(&mut self) {
        (self.applied, self.reached) = (0, 0);
    }

    fn end_was_lost(&mut self, end: &End) {
        (self.applied, self.reached) = (end.gifts.min(self.applied), end.gifts.min(self.reached));
    }

    fn low_is_new(&mut self) {}
}

impl Renewed for Checkpoint {
    fn streams_are_new(&mut self) {
        let Positions { gifts, chats, events, newest, .. } = &mut self.positions;
        (*gifts, *chats, *events, *newest) = Default::default();
        self.ends.clear();
    }

    fn end_was_lost(&mut self, end: &End) {
        let Positions { gifts, chats, events, .. } = &mut self.positions;
        (*gifts, *chats, *events) = (end.gifts.min(*gifts), end.chats.min(*chats), end.events.min(*events));
    }

    fn low_is_new(&mut self) {
        (self.positions.likes, self.positions.notes) = (0, 0);
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
    use crate::room::ends::Begin;

    #[test]
    fn a_record_tells_its_lease_and_forgets_the_sequences_of_streams_that_are_gone() {
        let owner = Owner { partition: Partition(3), lease: 7, streams: 100, low: 5 };
        let row = RowRecord { total: 50, gifts: 2, level: 1, level_told: 1, applied: 9, reached: 9 };
        let bytes = write(owner, &row);
        assert_eq!(lease_of(&bytes).unwrap(), 7);
        assert_eq!(read::<RowRecord>(Owner { lease: 8, ..owner }, &Ends::of(100), &bytes).unwrap(), row);
        let renewed = read::<RowRecord>(Owner { streams: 101, ..owner }, &Ends::of(101), &bytes).unwrap();
        assert_eq!((renewed.total, renewed.applied), (50, 0));
        let positions = Positions { gifts: 1, chats: 2, events: 3, likes: 4, notes: 5, newest: [6, 7, 8] };
        let checkpoint = Checkpoint { positions, ends: vec![] };
        let bytes = write(owner, &checkpoint);
        let read: Checkpoint = read(Owner { low: 6, ..owner }, &Ends::of(100), &bytes).unwrap();
        assert_eq!(read.positions, Positions { likes: 0, notes: 0, ..positions });
        assert!(lease_of(b"junk").is_err());
        // As it was before there were ends.
        let bytes = write(owner, &(1u64, 2u64, 3u64, 4u64, 5u64));
        assert_eq!(read_checkpoint(&bytes).unwrap().1.positions, Positions { newest: [0; 3], ..positions });
    }

    #[test]
    fn of_a_stream_that_lost_its_end_the_rest_stays_applied_through_every_such_epoch() {
        let owner = Owner { partition: Partition(3), lease: 7, streams: 100, low: 5 };
        let row = RowRecord { total: 50, gifts: 2, level: 0, level_told: 0, applied: 90, reached: 70 };
        let first = write(owner, &row);
        let begin = |at: Positions, streams| {
            let ends = if streams > 100 { vec![End { epoch: 101, gifts: 80, chats: 81, events: 8 }] } else { vec![] };
            let checkpoint = write(Owner { streams, ..owner }, &Checkpoint { positions: at, ends });
            Begin::of(Some(&checkpoint), 100, 99).unwrap()
        };
        let at = Positions { gifts: 90, chats: 95, events: 9, ..Positions::default() };
        let mut begun = begin(at, 100);
        assert!(!begun.is_ahead(95, 9) && begun.is_ahead(94, 9) && begun.is_ahead(95, 8));
        begun.lost_end(80, 81, 8);
        let applied = |begun: &Begin, bytes| {
            let row: RowRecord = read(Owner { streams: begun.streams, ..owner }, &begun.ends, bytes).unwrap();
            (row.total, row.applied, row.reached)
        };
        assert_eq!((begun.streams, applied(&begun, &first)), (101, (50, 80, 70)));
        // The next owner knows it by the checkpoint; and then it happens again.
        let second = write(Owner { streams: 101, ..owner }, &RowRecord { applied: 120, ..row.clone() });
        let mut begun = begin(Positions { gifts: 120, ..at }, 101);
        assert_eq!((begun.streams, applied(&begun, &second)), (101, (50, 120, 70)));
        assert_eq!(applied(&begun, &first), (50, 80, 70));
        begun.lost_end(60, 60, 6);
        assert_eq!((applied(&begun, &first), applied(&begun, &second)), ((50, 60, 60), (50, 60, 60)));
        // Made anew, the streams have nothing of all that.
        let anew = Begin::of(
            Some(&write(Owner { streams: 102, ..owner }, &Checkpoint { positions: at, ends: vec![] })),
            200,
            190,
        );
        let applied = Positions::default();
        assert_eq!(anew.unwrap(), Begin { streams: 200, ends: Ends::of(200), applied, is_news: false });
    }

    #[test]
    fn room_normal_alone_made_anew_leaves_gifts_counted() {
        let owner = Owner { partition: Partition(3), lease: 7, streams: 101, low: 5 };
        let row = RowRecord { total: 50, gifts: 2, level: 0, level_told: 0, applied: 90, reached: 70 };
        let at = Positions { gifts: 90, chats: 95, events: 9, newest: [6, 7, 8], ..Positions::default() };
        let checkpoint = write(owner, &Checkpoint { positions: at, ends: vec![] });
        let begun = Begin::of(Some(&checkpoint), 100, 200).unwrap();
        assert_eq!((begun.streams, begun.is_news), (200, true));
        assert_eq!(begun.applied, Positions { events: 0, newest: [6, 7, 0], ..at });
        assert!(!begun.is_ahead(95, 0));
        let kept: RowRecord = read(Owner { streams: 200, ..owner }, &begun.ends, &write(owner, &row)).unwrap();
        assert_eq!(kept, row);
        // The next owner knows it by the checkpoint.
        let ends = begun.ends.all.clone();
        let checkpoint = write(Owner { streams: 200, ..owner }, &Checkpoint { positions: begun.applied, ends });
        let next = Begin::of(Some(&checkpoint), 100, 200).unwrap();
        assert_eq!((next.streams, next.is_news), (200, false));
        let kept: RowRecord = read(Owner { streams: 200, ..owner }, &next.ends, &write(owner, &row)).unwrap();
        assert_eq!(kept.applied, 90);
    }
}
