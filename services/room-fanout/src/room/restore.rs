//! How rooms come into memory: at a take-over, and one by one when they wake.

use std::collections::HashSet;

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    message::Millis,
    name::{Key, parse},
    wire::WireError,
};

use super::{
    limits::ms,
    live::Live,
    record::{self, Checkpoint, Positions, RoomRecord, RowRecord},
    rooms::Rooms,
};

impl Rooms {
    /// Takes an entry of the bucket `ledger`: a room, a row, or the checkpoint, in any order; other keys mean nothing here.
    /// One that nobody can read must stop the take-over: without it sums would be wrong.
    pub fn restore(&mut self, key: &str, value: &[u8], revision: u64, now: Millis) -> Result<(), WireError> {
        if let Some((partition, room)) = parse::room_snapshot(key) {
            if partition == self.owner.partition {
                let record: RoomRecord = record::read(self.owner, &self.ends, value)?;
                self.entry(&room, now).restore(record, revision);
            }
        } else if let Some((partition, room, user)) = parse::ledger_row(key) {
            if partition == self.owner.partition {
                let row = record::read::<RowRecord>(self.owner, &self.ends, value)?.into_row(revision);
                self.entry(&room, now).ledger.restore(user, row, now);
            }
        } else if key == Key::checkpoint(self.owner.partition).as_str() {
            self.positions = record::read::<Checkpoint>(self.owner, &self.ends, value)?.positions;
            self.storing.revision = revision;
        }
        Ok(())
    }

    fn entry(&mut self, room: &RoomId, now: Millis) -> &mut Live {
        self.live.entry(room.clone()).or_insert_with(|| Live { at: 0, ..Live::new(now) })
    }

    /// The checkpoint and every room's own record have been taken. Rooms in which nothing was said for long, and of which
    /// nothing is left to do, fall asleep; returned are the others: their rows are needed.
    pub fn records_taken(&mut self, now: Millis) -> Vec<RoomId> {
        self.looked_up.extend(self.live.keys().cloned());
        let idle = ms(self.limits.idle_after);
        let is_idle = |live: &Live| live.at + idle <= now && live.stored.revision > 0 && !live.stored.levels_open;
        let asleep = &mut self.asleep;
        self.live.retain(|room, live| {
            let stays = !is_idle(live);
            if !stays {
                asleep.insert(room.clone(), live.at);
            }
            stays
        });
        self.live.keys().cloned().collect()
    }

    /// All that is needed has been taken. Returns behind which sequences each source has to be read.
    pub fn restored(&mut self, now: Millis) -> Positions {
        let awake: Vec<_> = self.live.keys().cloned().collect();
        for room in awake {
            self.settle_in(&room, now);
        }
        self.positions
    }

    // Its rows are all there.
    fn settle_in(&mut self, room: &RoomId, now: Millis) {
        self.with(room, now, |live, around, _| {
            let Live { top, ledger, .. } = live;
            for (user, row) in ledger.rows() {
                top.note(user, row.total, row.reached, around.limits.ranking_places);
            }
        });
    }

    /// ROOM_LOW holds less than the checkpoint says: it was lost and begins again. Likes are sums and lose nothing by it.
    pub fn low_began_again(&mut self) {
        (self.positions.likes, self.positions.notes) = (0, 0);
        for live in self.live.values_mut() {
            live.notes = 0;
        }
    }

    /// Everything that was stored before the take-over has been applied: from now on questions are answered.
    pub fn ready(&mut self, now: Millis) {
        self.ready = true;
        self.looked_up = HashSet::new();
        let awake: Vec<_> = self.live.keys().cloned().collect();
        for room in awake {
            let overseers = self.standing.overseers(&room);
            self.with(&room, now, |live, around, _| {
                for user in overseers {
                    live.order_oversee(user, true, now);
                }
                live.taken_over(around.limits, now);
            });
        }
    }

    /// Brings a sleeping room back, or one that nothing is known of: its own entry and all its rows' of the bucket `ledger`, in any order.
    pub fn wake(
        &mut self,
        room: &RoomId,
        entries: impl IntoIterator<Item = (String, Bytes, u64)>,
        now: Millis,
    ) -> Result<(), WireError> {
        let is_unknown = !self.ready && !self.looked_up.contains(room);
        if !is_unknown && !self.asleep.contains_key(room) {
            return Ok(());
        }
        let woken = self.wake_from(room, entries, now);
        if woken.is_err() {
            // Half a room would be worse than none.
            self.live.remove(room);
            return woken;
        }
        if self.asleep.remove(room).is_some() {
            self.tally.woken += 1;
        }
        if !self.ready {
            self.looked_up.insert(room.clone());
        }
        self.settle_in(room, now);
        Ok(())
    }

    fn wake_from(
        &mut self,
        room: &RoomId,
        entries: impl IntoIterator<Item = (String, Bytes, u64)>,
        now: Millis,
    ) -> Result<(), WireError> {
        for (key, value, revision) in entries {
            let is_its_own = parse::room_snapshot(&key).is_some_and(|(_, of)| of == *room)
                || parse::ledger_row(&key).is_some_and(|(_, of, _)| of == *room);
            if is_its_own {
                self.restore(&key, &value, revision, now)?;
            }
        }
        Ok(())
    }
}
