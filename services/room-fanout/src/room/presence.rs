//! [`Presence`]: how many are in which room, as comets say.

use std::collections::HashMap;

use pushmesh_protocol::{
    Instance, RoomId,
    message::{Epoch, Millis},
    room::{RoomCount, RoomPresence},
};

/// Sums over comets; a comet that is not heard, or begins a new life, has nobody until it says so.
#[derive(Debug, Default)]
pub(super) struct Presence {
    comets: HashMap<Instance, Comet>,
    rooms: HashMap<RoomId, u64>,
}

#[derive(Debug, Default)]
struct Comet {
    epoch: Epoch,
    heard: Millis,
    rooms: HashMap<RoomId, u32>,
}

impl Presence {
    pub fn of(&self, room: &RoomId) -> u64 {
        self.rooms.get(room).copied().unwrap_or(0)
    }

    /// Takes a report; returns the counts it carried, and each room whose number changed.
    pub fn report(&mut self, report: RoomPresence, now: Millis) -> (Vec<RoomCount>, Vec<RoomId>) {
        let known = self.comets.get(&report.comet).map(|comet| comet.epoch);
        if known.is_some_and(|epoch| epoch > report.comet_epoch) {
            return (Vec::new(), Vec::new());
        }
        let mut changed = Vec::new();
        if known.is_some_and(|epoch| epoch < report.comet_epoch) {
            changed.extend(self.gone(&report.comet));
        }
        let comet = self.comets.entry(report.comet).or_default();
        comet.epoch = report.comet_epoch;
        comet.heard = comet.heard.max(now);
        if report.whole {
            let named: std::collections::HashSet<&RoomId> = report.rooms.iter().map(|count| &count.room).collect();
            let unnamed: Vec<_> = comet.rooms.keys().filter(|room| !named.contains(*room)).cloned().collect();
            for room in unnamed {
                let members = comet.rooms.remove(&room).unwrap_or(0);
                change(&mut self.rooms, &room, members, 0);
                changed.push(room);
            }
        }
        for count in &report.rooms {
            let before = match count.members {
                0 => comet.rooms.remove(&count.room),
                members => comet.rooms.insert(count.room.clone(), members),
            };
            if before.unwrap_or(0) != count.members {
                change(&mut self.rooms, &count.room, before.unwrap_or(0), count.members);
                changed.push(count.room.clone());
            }
        }
        (report.rooms, changed)
    }

    /// Nobody is there any more; returns the rooms this changes.
    pub fn gone(&mut self, comet: &Instance) -> Vec<RoomId> {
        let Some(comet) = self.comets.remove(comet) else { return Vec::new() };
        let leave = |(room, members): (RoomId, u32)| {
            change(&mut self.rooms, &room, members, 0);
            room
        };
        comet.rooms.into_iter().map(leave).collect()
    }

    /// Comets that were not heard for `silent`.
    pub fn expired(&self, silent: Millis, now: Millis) -> Vec<Instance> {
        let is_silent = |(_, comet): &(&Instance, &Comet)| comet.heard + silent <= now;
        self.comets.iter().filter(is_silent).map(|(name, _)| name.clone()).collect()
    }

    /// When the next comet will have been silent for so long.
    pub fn next_expiry(&self, silent: Millis) -> Option<Millis> {
        self.comets.values().map(|comet| comet.heard + silent).min()
    }
}

fn change(rooms: &mut HashMap<RoomId, u64>, room: &RoomId, before: u32, members: u32) {
    let sum = rooms.entry(room.clone()).or_default();
    *sum = (*sum + u64::from(members)).saturating_sub(u64::from(before));
    if *sum == 0 {
        rooms.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(comet: &str, epoch: Epoch, whole: bool, rooms: &[(&str, u32)]) -> RoomPresence {
        let count = |(room, members): &(&str, u32)| RoomCount {
            room: RoomId::new(room).unwrap(),
            members: *members,
            came: vec![],
            went: vec![],
        };
        let comet = Instance::new(comet).unwrap();
        RoomPresence { comet, comet_epoch: epoch, whole, rooms: rooms.iter().map(count).collect() }
    }

    #[test]
    fn it_is_the_sum_over_comets_that_are_heard() {
        let mut presence = Presence::default();
        let room = RoomId::new("a").unwrap();
        presence.report(report("c1", 5, true, &[("a", 3), ("b", 1)]), 1_000);
        presence.report(report("c2", 9, false, &[("a", 4)]), 2_000);
        assert_eq!(presence.of(&room), 7);
        presence.report(report("c2", 8, true, &[("a", 100)]), 2_000);
        assert_eq!(presence.of(&room), 7, "an older life is not believed");
        presence.report(report("c1", 5, false, &[("b", 0)]), 3_000);
        presence.report(report("c1", 6, false, &[("a", 1)]), 4_000);
        assert_eq!(presence.of(&room), 5, "a new life begins with nobody");
        let (_, changed) = presence.report(report("c1", 6, true, &[]), 5_000);
        assert_eq!((presence.of(&room), changed), (4, vec![room.clone()]));
        assert_eq!(presence.next_expiry(30_000), Some(32_000));
        let silent = presence.expired(30_000, 32_000);
        assert_eq!(silent, [Instance::new("c2").unwrap()]);
        assert_eq!(presence.gone(&silent[0]), std::slice::from_ref(&room));
        assert_eq!(presence.of(&room), 0);
        assert!(presence.rooms.is_empty());
    }
}
