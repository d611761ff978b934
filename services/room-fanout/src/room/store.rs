//! [`Writes`]: what has to be stored, and what becomes of it.

use bytes::Bytes;
use pushmesh_protocol::{RoomId, UserId, message::Millis, name::Key};

use super::{
    effect::Effect,
    outbox::Outbox,
    record::{self, Checkpoint, RowRecord},
    rooms::{Rooms, around},
    tell::Turn,
};

/// What there is to store.
#[derive(Debug, Default)]
pub(super) struct Storing {
    pub dirty: Vec<RoomId>,
    /// Messages were applied since the last checkpoint.
    pub passed: bool,
    /// Of the checkpoint's record.
    pub revision: u64,
    /// A [`Writes`] is out: two would overtake each other.
    pub is_out: bool,
}

/// Records to be written, and the checkpoint that holds once all of them are.
#[derive(Debug)]
pub struct Writes {
    records: Vec<Record>,
    checkpoint: Checkpoint,
}

#[derive(Debug)]
struct Record {
    room: RoomId,
    /// None: the room's own.
    user: Option<UserId>,
    value: Bytes,
    revision: u64,
}

impl Writes {
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Rooms {
    /// What changed since it was stored, or `None` if nothing did or the last writes are not settled. The effects come
    /// first: what a record says was told must have been, on the connection that the record goes out on.
    pub fn writes(&mut self, now: Millis) -> Option<(Vec<Effect>, Writes)> {
        if self.storing.is_out || (self.storing.dirty.is_empty() && !self.storing.passed) {
            return None;
        }
        let mut out = Outbox::default();
        let mut records = Vec::new();
        for room in std::mem::take(&mut self.storing.dirty) {
            let Some(live) = self.live.get_mut(&room) else { continue };
            let around = around!(self, &room);
            live.turn(&room, Turn::Everything, around, now, &mut out, &mut self.tally);
            live.stored.listed = false;
            for (user, row) in live.ledger.take_dirty() {
                live.stored.writing = true;
                let (value, revision) = (record::write(self.owner, &RowRecord::from(&row)), row.revision);
                records.push(Record { room: room.clone(), user: Some(user), value, revision });
            }
            if std::mem::take(&mut live.stored.dirty) {
                live.stored.writing = true;
                let (value, revision) = (record::write(self.owner, &live.record()), live.stored.revision);
                records.push(Record { room, user: None, value, revision });
            }
        }
        (self.storing.is_out, self.storing.passed) = (true, false);
        Some((out.into_effects(), Writes { records, checkpoint: self.at_now() }))
    }

    /// The records with the revision that each is expected to have; 0: none.
    pub fn entries(&self, writes: &Writes) -> Vec<(Key, Bytes, u64)> {
        let partition = self.owner.partition;
        let entry = |record: &Record| {
            let key = match &record.user {
                Some(user) => Key::ledger_row(partition, &record.room, user),
                None => Key::room_snapshot(partition, &record.room),
            };
            (key, record.value.clone(), record.revision)
        };
        writes.records.iter().map(entry).collect()
    }

    /// What became of each: its new revision, or `None` where it was not written and stays to be. Where all were, the
    /// checkpoint is to be written too.
    pub fn written(&mut self, writes: Writes, revisions: &[Option<u64>], now: Millis) -> Option<(Key, Bytes, u64)> {
        let Writes { records, checkpoint } = writes;
        let mut all = true;
        let outcomes = revisions.iter().copied().chain(std::iter::repeat(None));
        for (Record { room, user, .. }, revision) in records.into_iter().zip(outcomes) {
            all &= revision.is_some();
            self.with(&room, now, |live, _, _| {
                live.stored.writing = false;
                match (user, revision) {
                    (Some(user), Some(revision)) => live.ledger.written(&user, revision),
                    (Some(user), None) => live.ledger.unwritten(&user),
                    (None, Some(revision)) => live.stored.revision = revision,
                    (None, None) => live.stored.dirty = true,
                }
            });
        }
        if !all {
            (self.storing.is_out, self.storing.passed) = (false, true);
            return None;
        }
        Some(self.checkpoint_of(&checkpoint))
    }

    /// The checkpoint as it holds now, where every record is written: at a take-over.
    pub fn checkpoint(&self) -> (Key, Bytes, u64) {
        self.checkpoint_of(&self.at_now())
    }

    fn at_now(&self) -> Checkpoint {
        Checkpoint { positions: self.positions, ends: self.ends.all.clone() }
    }

    fn checkpoint_of(&self, checkpoint: &Checkpoint) -> (Key, Bytes, u64) {
        (Key::checkpoint(self.owner.partition), record::write(self.owner, checkpoint), self.storing.revision)
    }

    /// Its new revision, or `None` if it was not written: then more is applied again after a crash, and nothing is lost.
    pub fn checkpoint_written(&mut self, revision: Option<u64>) {
        self.storing.is_out = false;
        match revision {
            Some(revision) => self.storing.revision = revision,
            None => self.storing.passed = true,
        }
    }

    /// A level-up is stored.
    pub fn level_stored(&mut self, room: &RoomId, user: &UserId, level: u32, now: Millis) {
        if self.live.contains_key(room) {
            self.with(room, now, |live, _, _| {
                live.ledger.level_stored(user, level);
                live.stored.dirty |= !live.ledger.has_open_levels();
            });
        }
    }

    /// Everything that was gathered, for whoever comes after; what has to be stored is asked for by [`writes`](Self::writes).
    pub fn close(&mut self, now: Millis) -> Vec<Effect> {
        let mut out = Outbox::default();
        for (room, live) in &mut self.live {
            let around = around!(self, room);
            live.turn(room, Turn::Everything, around, now, &mut out, &mut self.tally);
            if live.stored.dirty && !std::mem::replace(&mut live.stored.listed, true) {
                self.storing.dirty.push(room.clone());
            }
        }
        out.into_effects()
    }
}
