//! How rooms come into memory: at a take-over, and one by one when they wake.

use std::collections::HashSet;

use bytes::Bytes;
use pushmesh_protocol::{RoomId, message::Millis, name::parse, wire::WireError};

use super::{
    limits::ms,
    live::Live,
    record::{self, Positions, RoomRecord, RowRecord},
    rooms::Rooms,
};

impl Rooms {
    /// Takes an entry of the bucket `ledger`: a room, a row, or the checkpoint, in any order; other keys mean nothing here.
    /// One that nobody can read must stop the take-over: without it sums would be wrong.
    pub fn restore(&mut self, key: &str, value: &[u8], revision: u64, now: Millis) -> Result<(), WireError> {
        if let Some((partition, room)) = parse::room_snapshot(key) {
            if partition == self.owner.partition {
                let record: RoomRecord = record::read(self.owner, value)?;
                self.entry(&room, now).restore(record, revision);
            }
        } else if let Some((partition, room, user)) = parse::ledger_row(key) {
            if partition == self.owner.partition {
                let row = record::read::<RowRecord>(self.owner, value)?.into_row(revision);
                self.entry(&room, now).ledger.restore(user, row, now);
            }
        } else if key == pushmesh_protocol::name::Key::checkpoint(self.owner.partition).as_str() {
            self.positions = record::read::<Positions>(self.owner, value)?;
            self.storing.revision = revision;
        }
        Ok(())
    }

    fn entry(&mut self, room: &RoomId, now: Millis) -> &mut Live {
        self.live.entry(room.clone()).or_insert_with(|| Live { at: 0, ..Live::new(now) })
    }

    /// All entries have been taken. Returns behind which sequences each source has to be read. Rooms in which nothing was
    /// said for long fall asleep.
    pub fn restored(&mut self, now: Millis) -> Positions {
        let idle = ms(self.limits.idle_after);
        let is_idle = |live: &Live| live.at + idle <= now && live.stored.revision > 0 && live.ledger.is_clean();
        let idle: HashSet<RoomId> =
            self.live.iter().filter(|(_, live)| is_idle(live)).map(|(room, _)| room.clone()).collect();
        self.live.retain(|room, _| !idle.contains(room));
        self.asleep.extend(idle);
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

    /// Brings a sleeping room back: its own entry and all its rows' of the bucket `ledger`, in any order.
    pub fn wake(
        &mut self,
        room: &RoomId,
        entries: impl IntoIterator<Item = (String, Bytes, u64)>,
        now: Millis,
    ) -> Result<(), WireError> {
        if !self.asleep.contains(room) {
            return Ok(());
        }
        let woken = self.wake_from(room, entries, now);
        if woken.is_err() {
            // Half a room would be worse than none.
            self.live.remove(room);
            return woken;
        }
        self.asleep.remove(room);
        self.entry(room, now);
        self.settle_in(room, now);
        self.tally.woken += 1;
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
