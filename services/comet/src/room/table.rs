//! All rooms with a member on one shard, and whose turn it is.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use pushmesh_protocol::RoomId;

use super::{
    Room, Tally,
    frame::Frame,
    sweep::{Urgency, WAIT_LIMITS},
};
use crate::lane::Drops;

/// One turn in so many is for the rooms that have nothing of class high, if there are any.
const LOW_TURN: u32 = 8;
/// Rooms in one message to the mesh.
const TALLIES: usize = 512;

#[derive(Debug, Default)]
pub struct Rooms {
    by_id: HashMap<RoomId, u32>,
    rooms: Vec<Option<Box<Room>>>,
    free: Vec<u32>,
    queues: [VecDeque<u32>; 2],
    turns: u32,
    changed: Vec<u32>,
    waiting_bytes: usize,
    members: u64,
}

impl Rooms {
    pub fn find(&self, id: &RoomId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The room's number: until its emptiness has been told.
    pub fn find_or_open(&mut self, id: &RoomId) -> u32 {
        if let Some(number) = self.find(id) {
            return number;
        }
        let room = Some(Box::new(Room::new(id.clone())));
        let number = match self.free.pop() {
            Some(number) => {
                self.rooms[number as usize] = room;
                number
            }
            None => {
                self.rooms.push(room);
                (self.rooms.len() - 1) as u32
            }
        };
        self.by_id.insert(id.clone(), number);
        number
    }

    /// A room that a membership names, or that is on its turn, is there.
    pub fn room(&mut self, number: u32) -> &mut Room {
        self.rooms[number as usize].as_mut().expect("a room stays while it has members or is not told to be empty")
    }

    /// Takes a frame for all members of a room.
    pub fn push(&mut self, number: u32, frame: Arc<Frame>, drops: &mut Drops) {
        let room = self.room(number);
        let before = room.sweep.waiting_bytes();
        room.sweep.push(frame, WAIT_LIMITS, drops);
        let after = room.sweep.waiting_bytes();
        self.waiting_bytes = self.waiting_bytes - before + after;
        self.queue(number);
    }

    /// Lets frames of a room begin.
    pub fn begin(&mut self, number: u32) {
        let room = self.room(number);
        let before = room.sweep.waiting_bytes();
        room.sweep.begin(room.crowd.places());
        let after = room.sweep.waiting_bytes();
        self.waiting_bytes = self.waiting_bytes - before + after;
    }

    /// Bytes that wait to begin, over all rooms.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether anything is under way.
    pub fn is_busy(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Whose turn it is; afterwards it has to [`queue`](Self::queue) again.
    pub fn turn(&mut self) -> Option<u32> {
        self.turns = self.turns.wrapping_add(1);
        let order = if self.turns.is_multiple_of(LOW_TURN) {
            [Urgency::Low, Urgency::High]
        } else {
            [Urgency::High, Urgency::Low]
        };
        for urgency in order {
            while let Some(number) = self.queues[urgency as usize].pop_front() {
                // It may have moved to the other queue, or be gone.
                if let Some(room) = &mut self.rooms[number as usize]
                    && room.queued == Some(urgency)
                {
                    room.queued = None;
                    return Some(number);
                }
            }
        }
        None
    }

    /// Waits for its turn, if it has anything to do.
    pub fn queue(&mut self, number: u32) {
        let room = self.room(number);
        let Some(urgency) = room.sweep.urgency() else { return };
        if room.queued == Some(urgency) || room.queued == Some(Urgency::High) {
            return;
        }
        room.queued = Some(urgency);
        self.queues[urgency as usize].push_back(number);
    }

    /// Its numbers have changed: the mesh is to be told.
    pub fn changed(&mut self, number: u32) {
        let room = self.room(number);
        if room.crowd.is_empty() {
            let waiting = room.sweep.waiting_bytes();
            room.sweep.clear();
            room.queued = None;
            self.waiting_bytes -= waiting;
        }
        let room = self.room(number);
        if !std::mem::replace(&mut room.is_changed, true) {
            self.changed.push(number);
        }
    }

    pub fn joined(&mut self) {
        self.members += 1;
    }

    pub fn left(&mut self, count: u64) {
        self.members -= count;
    }

    /// Memberships, over all rooms.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Tells the mesh of what has changed, some rooms at a time, until it takes no more. Empty rooms are closed then.
    pub fn tell(&mut self, mut take: impl FnMut(Vec<Tally>) -> bool) {
        while !self.changed.is_empty() {
            let from = self.changed.len().saturating_sub(TALLIES);
            let told = self.changed.split_off(from);
            let tallies = told.iter().map(|number| self.tally(*number)).collect();
            if !take(tallies) {
                self.changed.extend(told);
                return;
            }
            for number in told {
                let room = self.room(number);
                room.is_changed = false;
                room.came.clear();
                room.went.clear();
                if room.crowd.is_empty() {
                    self.close(number);
                }
            }
        }
    }

    fn tally(&mut self, number: u32) -> Tally {
        let room = self.room(number);
        Tally {
            room: room.id.clone(),
            members: room.crowd.len() as u32,
            present: room.present,
            dialects: room.dialects,
            came: room.came.clone(),
            went: room.went.clone(),
        }
    }

    fn close(&mut self, number: u32) {
        if let Some(room) = self.rooms[number as usize].take() {
            self.by_id.remove(&room.id);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use pushmesh_protocol::room::{Audience, RoomClass, RoomFrame};

    use super::*;
    use crate::framing::Dialect;

    fn id(name: &str) -> RoomId {
        name.parse().unwrap()
    }

    fn frame(class: RoomClass) -> Arc<Frame> {
        let frame = RoomFrame {
            audience: Audience::Everybody,
            urgent: false,
            conflate: None,
            frame: Bytes::from_static(b"12345"),
        };
        Arc::new(Frame::new(&id("r"), class, frame, Instant::now(), None))
    }

    fn open(rooms: &mut Rooms, name: &str) -> u32 {
        let number = rooms.find_or_open(&id(name));
        rooms.room(number).crowd.join(5, 1, Dialect::TcpPack, 7, false);
        number
    }

    #[test]
    fn rooms_with_something_urgent_have_their_turn_first_and_the_others_are_not_forgotten() {
        let (mut rooms, mut drops) = (Rooms::default(), Drops::default());
        let numbers: Vec<u32> = (0..20).map(|number| open(&mut rooms, &format!("r{number}"))).collect();
        rooms.push(numbers[19], frame(RoomClass::Low), &mut drops);
        numbers[..18].iter().for_each(|number| rooms.push(*number, frame(RoomClass::High), &mut drops));
        rooms.push(numbers[18], frame(RoomClass::Low), &mut drops);
        // A gift for a room that waits with something else: it moves up, and has one turn.
        rooms.push(numbers[18], frame(RoomClass::High), &mut drops);
        assert_eq!(rooms.waiting_bytes(), 21 * 5);
        let turns: Vec<u32> = std::iter::from_fn(|| rooms.turn()).collect();
        let at = |number: u32| turns.iter().position(|turn| *turn == number).unwrap();
        assert_eq!(turns.len(), 20);
        assert_eq!(at(numbers[0]), 0);
        assert_eq!(at(numbers[19]), 7, "one turn in eight");
        assert_eq!(at(numbers[18]), 19);
        assert!(!rooms.is_busy());
    }

    #[test]
    fn an_empty_room_stays_until_the_mesh_knows() {
        let mut rooms = Rooms::default();
        let (first, second) = (open(&mut rooms, "a"), open(&mut rooms, "b"));
        rooms.changed(first);
        rooms.changed(second);
        rooms.changed(first);
        let mut told = Vec::new();
        rooms.tell(|_| false);
        rooms.tell(|tallies| {
            told.extend(tallies);
            true
        });
        assert_eq!(told.iter().map(|tally| tally.members).collect::<Vec<_>>(), [1, 1]);
        rooms.push(first, frame(RoomClass::High), &mut Drops::default());
        rooms.room(first).crowd.leave(0);
        rooms.changed(first);
        assert_eq!(rooms.waiting_bytes(), 0);
        rooms.tell(|_| false);
        assert_eq!(rooms.find(&id("a")), Some(first));
        told.clear();
        rooms.tell(|tallies| {
            told.extend(tallies);
            true
        });
        assert_eq!((told.len(), told[0].members, rooms.find(&id("a"))), (1, 0, None));
        assert_eq!(rooms.turn(), None, "what was queued is gone with it");
        assert_eq!(rooms.find_or_open(&id("c")), first, "numbers are used again");
    }
}
