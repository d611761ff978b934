//! A room's members on one shard: dense vectors, so that a sweep over them is a scan.

use std::os::fd::RawFd;

use pushmesh_protocol::{UserId, partition::fnv1a32, room::Audience};

use crate::framing::Dialect;

/// Bits of a mark that are the slot.
const SLOT_BITS: u32 = 28;
/// Most slots that a mark can name.
pub const SLOTS_MAX: u32 = 1 << SLOT_BITS;
const SLOW: u32 = 1 << 30;
const JOINING: u32 = 1 << 31;
const HOLE: RawFd = -1;
/// The group of those who see all parts.
const OVERSEER: u8 = u8::MAX;
/// Most parts a room is ever cut into.
pub(super) const PARTS_MAX: u16 = 64;

/// A member as a sweep sees it: 8 bytes, and nothing else is touched for one whose socket takes what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    fd: RawFd,
    /// Slot, dialect, and whether it needs more than a write.
    mark: u32,
}

impl Member {
    pub fn fd(self) -> RawFd {
        self.fd
    }

    pub fn slot(self) -> u32 {
        self.mark & (SLOTS_MAX - 1)
    }

    pub fn dialect(self) -> Dialect {
        Dialect::ALL[(self.mark >> SLOT_BITS & 3) as usize]
    }

    pub fn is_joining(self) -> bool {
        self.mark & JOINING != 0
    }

    /// Its place is empty until no sweep is under way.
    pub fn is_hole(self) -> bool {
        self.fd == HOLE
    }

    /// Its frames go straight to the socket.
    pub fn is_plain(self) -> bool {
        self.mark & (SLOW | JOINING) == 0
    }
}

/// Somebody's place changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub slot: u32,
    pub to: u32,
}

#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
    /// What parts are computed from, and users are found by.
    hashes: Vec<u32>,
    /// The part of each of [`Self::parts`], or [`OVERSEER`].
    groups: Vec<u8>,
    parts: u16,
    holes: Vec<u32>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { members: Vec::new(), hashes: Vec::new(), groups: Vec::new(), parts: 1, holes: Vec::new() }
    }
}

/// By which users are told apart fast; the part of a user is its remainder.
pub fn hash(user: &UserId) -> u32 {
    fnv1a32(user.as_str().as_bytes())
}

impl Crowd {
    /// Places, holes among them: what a sweep goes over.
    pub fn places(&self) -> usize {
        self.members.len()
    }

    pub fn len(&self) -> usize {
        self.members.len() - self.holes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn holes(&self) -> usize {
        self.holes.len()
    }

    pub fn member(&self, at: usize) -> Member {
        self.members[at]
    }

    pub fn group(&self, at: usize) -> u8 {
        self.groups[at]
    }

    pub fn hash(&self, at: usize) -> u32 {
        self.hashes[at]
    }

    /// One more, joining, at the end: its place.
    pub fn join(&mut self, fd: RawFd, slot: u32, dialect: Dialect, hash: u32, is_slow: bool) -> u32 {
        debug_assert!(slot < SLOTS_MAX && fd >= 0);
        let slow = if is_slow { SLOW } else { 0 };
        self.members.push(Member { fd, mark: slot | (dialect as u32) << SLOT_BITS | JOINING | slow });
        self.hashes.push(hash);
        self.groups.push(part(hash, self.parts));
        (self.members.len() - 1) as u32
    }

    /// Leaves a hole: a sweep under way neither misses nor repeats anybody.
    pub fn leave(&mut self, at: u32) {
        self.members[at as usize] = Member { fd: HOLE, mark: 0 };
        self.holes.push(at);
    }

    /// Takes the last one's place in each hole, when no sweep is under way.
    pub fn fill_holes(&mut self, moved: &mut Vec<Moved>) {
        self.holes.sort_unstable();
        while let Some(at) = self.holes.pop() {
            let at = at as usize;
            self.members.swap_remove(at);
            self.hashes.swap_remove(at);
            self.groups.swap_remove(at);
            // Holes are filled from the end: whoever comes here is no hole.
            if let Some(member) = self.members.get(at) {
                moved.push(Moved { slot: member.slot(), to: at as u32 });
            }
        }
    }

    /// Closes the ranks without changing their order, also while a sweep is under way: the holes there were, ascending.
    pub fn close_ranks(&mut self, moved: &mut Vec<Moved>) -> Vec<u32> {
        self.holes.sort_unstable();
        let holes = std::mem::take(&mut self.holes);
        let mut to = 0;
        for at in 0..self.members.len() {
            if self.members[at].is_hole() {
                continue;
            }
            if to != at {
                self.members[to] = self.members[at];
                self.hashes[to] = self.hashes[at];
                self.groups[to] = self.groups[at];
                moved.push(Moved { slot: self.members[to].slot(), to: to as u32 });
            }
            to += 1;
        }
        self.members.truncate(to);
        self.hashes.truncate(to);
        self.groups.truncate(to);
        holes
    }

    pub fn set_slow(&mut self, at: u32, is_slow: bool) {
        self.set(at, SLOW, is_slow);
    }

    pub fn set_joining(&mut self, at: u32, is_joining: bool) {
        self.set(at, JOINING, is_joining);
    }

    fn set(&mut self, at: u32, flag: u32, is_set: bool) {
        let mark = &mut self.members[at as usize].mark;
        *mark = if is_set { *mark | flag } else { *mark & !flag };
    }

    pub fn set_overseer(&mut self, at: u32, is_overseer: bool) {
        let at = at as usize;
        self.groups[at] = if is_overseer { OVERSEER } else { part(self.hashes[at], self.parts) };
    }

    /// The room is cut into so many parts now.
    pub fn regroup(&mut self, parts: u16) {
        if parts == self.parts || !(1..=PARTS_MAX).contains(&parts) {
            return;
        }
        self.parts = parts;
        for (group, hash) in self.groups.iter_mut().zip(&self.hashes) {
            if *group != OVERSEER {
                *group = part(*hash, parts);
            }
        }
    }

    /// Whether the audience is a whole group, or all of them: then [`Self::sees`] tells from the group alone.
    pub fn is_grouped(&self, audience: &Audience) -> bool {
        match audience {
            Audience::Everybody | Audience::Overseers => true,
            Audience::Part { of, .. } => *of == self.parts,
            Audience::User(_) => false,
        }
    }

    /// Whether all of a group, one of [`Self::group`], are meant by a grouped audience.
    pub fn sees(group: u8, audience: &Audience) -> bool {
        match audience {
            Audience::Everybody => true,
            Audience::Overseers => group == OVERSEER,
            Audience::Part { part, .. } => group != OVERSEER && u16::from(group) == *part,
            Audience::User(_) => false,
        }
    }

    /// Whether the member at `at`, who is `user`, is meant.
    pub fn is_meant(&self, at: usize, user: &UserId, audience: &Audience) -> bool {
        match audience {
            Audience::User(meant) => meant == user,
            Audience::Part { part, of } if *of != self.parts => {
                self.groups[at] != OVERSEER && self.hashes[at] % u32::from((*of).max(1)) == u32::from(*part)
            }
            grouped => Self::sees(self.groups[at], grouped),
        }
    }

    /// Places of members whose user has this hash: his, and by chance another's.
    pub fn with_hash(&self, hash: u32) -> impl Iterator<Item = (u32, Member)> + '_ {
        self.hashes
            .iter()
            .zip(&self.members)
            .enumerate()
            .filter(move |(_, (theirs, member))| **theirs == hash && !member.is_hole())
            .map(|(at, (_, member))| (at as u32, *member))
    }
}

fn part(hash: u32, parts: u16) -> u8 {
    (hash % u32::from(parts)) as u8
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::room::part_of;

    use super::*;

    fn user(number: u32) -> UserId {
        format!("user-{number}").parse().unwrap()
    }

    fn crowd(count: u32) -> Crowd {
        let mut crowd = Crowd::default();
        for number in 0..count {
            let at = crowd.join(100 + number as RawFd, number, Dialect::TcpPack, hash(&user(number)), false);
            crowd.set_joining(at, false);
        }
        crowd
    }

    #[test]
    fn a_mark_keeps_slot_dialect_and_flags_apart() {
        let mut crowd = Crowd::default();
        for dialect in Dialect::ALL {
            let at = crowd.join(5, SLOTS_MAX - 1, dialect, 7, false);
            let member = crowd.member(at as usize);
            assert!(member.is_joining() && !member.is_plain() && !member.is_hole());
            assert_eq!((member.slot(), member.dialect(), member.fd()), (SLOTS_MAX - 1, dialect, 5));
            crowd.set_joining(at, false);
            assert!(crowd.member(at as usize).is_plain());
            crowd.set_slow(at, true);
            assert!(!crowd.member(at as usize).is_plain() && !crowd.member(at as usize).is_joining());
        }
        assert_eq!(size_of::<Member>(), 8);
    }

    #[test]
    fn parts_are_those_of_the_protocol_and_overseers_are_in_none() {
        let mut crowd = crowd(200);
        for parts in [1, 2, 8, 64] {
            crowd.regroup(parts);
            crowd.set_overseer(3, true);
            for number in 0..200 {
                let (part, me) = (part_of(&user(number), parts), user(number));
                let at = number as usize;
                let mine = Audience::Part { part, of: parts };
                assert_eq!(crowd.is_meant(at, &me, &mine), number != 3);
                assert_eq!(Crowd::sees(crowd.group(at), &mine), number != 3);
                assert_eq!(crowd.is_meant(at, &me, &Audience::Overseers), number == 3);
                // A frame from before the cut, or after it: slower, and right too.
                let other = Audience::Part { part: part_of(&me, 16), of: 16 };
                assert!(!crowd.is_grouped(&other));
                assert_eq!(crowd.is_meant(at, &me, &other), number != 3);
            }
        }
        crowd.set_overseer(3, false);
        assert_eq!(u16::from(crowd.group(3)), part_of(&user(3), 64));
        assert!(crowd.is_meant(9, &user(9), &Audience::User(user(9))));
        assert!(!crowd.is_meant(9, &user(9), &Audience::User(user(8))));
    }

    #[test]
    fn nobody_is_lost_or_doubled_when_holes_are_filled_or_ranks_closed() {
        for fills in [true, false] {
            let (mut crowd, mut moved) = (crowd(10), Vec::new());
            for at in [9, 0, 4, 5] {
                crowd.leave(at);
            }
            assert_eq!((crowd.len(), crowd.places(), crowd.holes()), (6, 10, 4));
            assert_eq!(crowd.with_hash(hash(&user(4))).count(), 0);
            if fills {
                crowd.fill_holes(&mut moved);
            } else {
                assert_eq!(crowd.close_ranks(&mut moved), [0, 4, 5, 9]);
            }
            assert_eq!((crowd.len(), crowd.places(), crowd.holes()), (6, 6, 0));
            let mut slots: Vec<_> = (0..6).map(|at| crowd.member(at).slot()).collect();
            for Moved { slot, to } in moved {
                assert_eq!(crowd.member(to as usize).slot(), slot);
            }
            for (at, slot) in slots.iter().enumerate() {
                assert_eq!(crowd.hash(at), hash(&user(*slot)));
                assert_eq!(crowd.with_hash(hash(&user(*slot))).next().map(|(found, _)| found), Some(at as u32));
            }
            slots.sort_unstable();
            assert_eq!(slots, [1, 2, 3, 6, 7, 8]);
        }
    }
}
