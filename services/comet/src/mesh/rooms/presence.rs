//! Who is in the rooms here, for their owners. Pure.
//!
//! Changes are told often, and everything now and then: what was lost is mended by the next whole report.

use std::collections::HashMap;

use pushmesh_protocol::{Partition, RoomId, UserId, room::RoomCount};

/// Empty whole reports before a partition is forgotten: its owner has missed none of them all.
const FAREWELLS: u8 = 3;

/// One report on a partition's rooms.
#[derive(Debug, PartialEq)]
pub struct Report {
    pub partition: Partition,
    pub whole: bool,
    pub rooms: Vec<RoomCount>,
}

#[derive(Debug)]
pub struct Presence {
    partitions: HashMap<Partition, Known>,
    names_up_to: u32,
    is_asked: bool,
}

#[derive(Debug, Default)]
struct Known {
    rooms: HashMap<RoomId, u32>,
    changed: HashMap<RoomId, Names>,
    is_asked: bool,
    farewells: u8,
}

#[derive(Debug, Default)]
struct Names {
    came: Vec<UserId>,
    went: Vec<UserId>,
}

impl Presence {
    pub fn new(names_up_to: u32) -> Self {
        Self { partitions: HashMap::new(), names_up_to, is_asked: false }
    }

    /// So many are in a room now; these came and went since the last time.
    pub fn note(&mut self, partition: Partition, room: &RoomId, present: u32, came: Vec<UserId>, went: Vec<UserId>) {
        let known = self.partitions.entry(partition).or_default();
        let before = match present {
            0 => known.rooms.remove(room),
            _ => known.rooms.insert(room.clone(), present),
        };
        if before.unwrap_or(0) == present && came.is_empty() && went.is_empty() {
            return;
        }
        let names = known.changed.entry(room.clone()).or_default();
        if present.max(before.unwrap_or(0)) > self.names_up_to {
            return *names = Names::default();
        }
        // Who goes and comes back has not moved.
        for user in came {
            toggle(&mut names.went, &mut names.came, user);
        }
        for user in went {
            toggle(&mut names.came, &mut names.went, user);
        }
    }

    /// A new owner wants to know everything.
    pub fn asked(&mut self, partition: Partition) {
        self.partitions.entry(partition).or_default().is_asked = true;
        self.is_asked = true;
    }

    /// What owners have asked for.
    pub fn answers(&mut self) -> Vec<Report> {
        if !std::mem::take(&mut self.is_asked) {
            return Vec::new();
        }
        let asked = self.partitions.iter_mut().filter(|(_, known)| known.is_asked);
        asked.map(|(partition, known)| known.whole(*partition)).collect()
    }

    /// What has changed since the last report.
    pub fn changes(&mut self) -> Vec<Report> {
        let changed = self.partitions.iter_mut().filter(|(_, known)| !known.changed.is_empty());
        changed
            .map(|(partition, known)| {
                let rooms = known.changed.drain().map(|(room, names)| {
                    let members = known.rooms.get(&room).copied().unwrap_or(0);
                    RoomCount { room, members, came: names.came, went: names.went }
                });
                Report { partition: *partition, whole: false, rooms: rooms.collect() }
            })
            .collect()
    }

    /// Everything.
    pub fn wholes(&mut self) -> Vec<Report> {
        let reports = self.partitions.iter_mut().map(|(partition, known)| {
            known.farewells = if known.rooms.is_empty() { known.farewells + 1 } else { 0 };
            known.whole(*partition)
        });
        let reports = reports.collect();
        self.partitions.retain(|_, known| known.farewells < FAREWELLS);
        reports
    }
}

impl Known {
    // Names that were not told yet go with it.
    fn whole(&mut self, partition: Partition) -> Report {
        self.is_asked = false;
        let rooms = self.rooms.iter().map(|(room, members)| {
            let names = self.changed.remove(room).unwrap_or_default();
            RoomCount { room: room.clone(), members: *members, came: names.came, went: names.went }
        });
        let rooms = rooms.collect();
        // What is left is rooms with nobody: they are not named.
        self.changed.clear();
        Report { partition, whole: true, rooms }
    }
}

fn toggle(undone: &mut Vec<UserId>, done: &mut Vec<UserId>, user: UserId) {
    match undone.iter().position(|other| *other == user) {
        Some(at) => drop(undone.swap_remove(at)),
        None => done.push(user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition(3);

    fn users(names: &[&str]) -> Vec<UserId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn count(room: &str, members: u32, came: &[&str], went: &[&str]) -> RoomCount {
        RoomCount { room: room.parse().unwrap(), members, came: users(came), went: users(went) }
    }

    #[test]
    fn changes_are_told_once_and_everything_now_and_then() {
        let (mut presence, a, b) = (Presence::new(0), "a".parse().unwrap(), "b".parse().unwrap());
        presence.note(P, &a, 2, users(&["ann"]), vec![]);
        presence.note(P, &a, 3, vec![], vec![]);
        presence.note(Partition(4), &b, 1, vec![], vec![]);
        let mut changes = presence.changes();
        changes.sort_by_key(|report| report.partition);
        assert_eq!(changes[0], Report { partition: P, whole: false, rooms: vec![count("a", 3, &[], &[])] });
        assert_eq!((changes.len(), presence.changes()), (2, vec![]));
        presence.note(P, &a, 3, vec![], vec![]);
        assert_eq!(presence.changes(), [], "nothing has changed");
        presence.asked(P);
        assert_eq!(presence.answers(), [Report { partition: P, whole: true, rooms: vec![count("a", 3, &[], &[])] }]);
        assert_eq!(presence.answers(), []);
        assert_eq!(presence.wholes().len(), 2);
    }

    #[test]
    fn a_partition_without_anybody_says_so_some_times() {
        let (mut presence, a) = (Presence::new(0), "a".parse().unwrap());
        presence.note(P, &a, 2, vec![], vec![]);
        presence.note(P, &a, 0, vec![], vec![]);
        assert_eq!(presence.changes()[0].rooms, [count("a", 0, &[], &[])]);
        for _ in 0..FAREWELLS {
            assert_eq!(presence.wholes(), [Report { partition: P, whole: true, rooms: vec![] }]);
        }
        assert_eq!(presence.wholes(), []);
    }

    #[test]
    fn names_are_told_of_small_rooms_and_who_came_back_has_not_moved() {
        let (mut presence, a) = (Presence::new(2), "a".parse().unwrap());
        presence.note(P, &a, 2, users(&["ann", "ben"]), vec![]);
        presence.note(P, &a, 1, vec![], users(&["ben"]));
        assert_eq!(presence.changes()[0].rooms, [count("a", 1, &["ann"], &[])]);
        presence.note(P, &a, 1, users(&["cid"]), users(&["ann"]));
        assert_eq!(presence.changes()[0].rooms, [count("a", 1, &["cid"], &["ann"])]);
        presence.note(P, &a, 3, users(&["ann", "dan"]), vec![]);
        assert_eq!(presence.changes()[0].rooms, [count("a", 3, &[], &[])]);
    }
}
