//! [`Lobby`]: who waits to be let into rooms, and for whom their owners are asked when.
//!
//! Whoever loses frames here loses them for all of a room's members at once, and all of them come back within a moment, from a
//! few positions. So one ask is made for all who wait at one position, and while it is under way the others gather for the
//! next: an answer is for those who were members before it was asked for, since only they have all that comes behind it. The
//! first one is asked for at once; those of one position follow each other with jittered pauses, in which the others gather. A
//! room's asks are bounded, and after one that failed the room is left alone for a while that grows. Pure: time and dice are
//! arguments.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use pushmesh_protocol::{RoomId, frame::RoomPosition, room::JOINS_MAX};
use tokio::sync::watch;

use super::table::Listening;
use crate::{address::Dice, shard::outlet::JoinRequest};

/// Positions of one room that are asked for at once.
const POSITIONS_AT_ONCE: usize = 8;
/// From one ask for a position to the next: frames that all wait for go out meanwhile, and comets with members in the same
/// room get out of step.
const PACE: Duration = Duration::from_millis(20);
/// After one that failed: doubles from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Somebody who waits, until then.
#[derive(Debug)]
pub struct Waiting {
    pub request: JoinRequest,
    pub deadline: Instant,
}

/// What is to be asked now: all of them are members here already, so that what comes is held for them.
#[derive(Debug)]
pub struct Ask {
    pub room: RoomId,
    pub resume: Option<RoomPosition>,
    pub listening: watch::Receiver<Listening>,
    /// At least one.
    pub waiting: Vec<Waiting>,
}

/// What became of an ask.
#[derive(Debug)]
pub enum Outcome<W> {
    /// All were answered, but for these.
    Answered(Vec<Waiting>),
    Failed(Vec<Waiting>, W),
    /// Nobody knows.
    Lost,
}

#[derive(Debug)]
pub struct Lobby {
    rooms: HashMap<RoomId, Crowd>,
    /// Rooms of which something may be asked.
    ready: VecDeque<RoomId>,
    /// Rooms that are looked at then.
    resting: BinaryHeap<Reverse<(Instant, RoomId)>>,
    waiting: usize,
    asking: usize,
    at_once: usize,
}

/// Those who wait for one room.
#[derive(Debug)]
struct Crowd {
    listening: watch::Receiver<Listening>,
    parties: HashMap<Option<RoomPosition>, Party>,
    /// Those of which nobody is asked for, by turns.
    turn: VecDeque<Option<RoomPosition>>,
    asking: usize,
    /// Because an ask failed.
    not_before: Instant,
    pause: Duration,
    /// It stands in the lobby's list of rooms that are ready.
    is_ready: bool,
}

/// Those at one position, in the order they came.
#[derive(Debug)]
struct Party {
    waiting: VecDeque<Waiting>,
    is_asked: bool,
    not_before: Instant,
}

impl Lobby {
    /// So many asks at once.
    pub fn new(at_once: usize) -> Self {
        let (rooms, ready, resting) = (HashMap::new(), VecDeque::new(), BinaryHeap::new());
        Self { rooms, ready, resting, waiting: 0, asking: 0, at_once }
    }

    /// Those who wait and are not asked for.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn enter(&mut self, waiting: Waiting, listening: watch::Receiver<Listening>, now: Instant) {
        let (room, resume) = (waiting.request.room.clone(), waiting.request.resume);
        let crowd = self.rooms.entry(room.clone()).or_insert_with(|| Crowd {
            listening: listening.clone(),
            parties: HashMap::new(),
            turn: VecDeque::new(),
            asking: 0,
            not_before: now,
            pause: PAUSES.0,
            is_ready: false,
        });
        crowd.listening = listening;
        let party = crowd.party(resume, now);
        let (is_idle, not_before) = (party.waiting.is_empty() && !party.is_asked, party.not_before);
        party.waiting.push_back(waiting);
        self.waiting += 1;
        if is_idle {
            crowd.turn.push_back(resume);
            self.list(&room, not_before, now);
        }
    }

    /// What is to be asked now, if anything is.
    pub fn next(&mut self, now: Instant, dice: &mut Dice) -> Option<Ask> {
        while self.resting.peek().is_some_and(|Reverse((until, _))| *until <= now) {
            if let Some(Reverse((until, room))) = self.resting.pop() {
                self.list(&room, until, now);
            }
        }
        while self.asking < self.at_once {
            let room = self.ready.pop_front()?;
            let Some(crowd) = self.rooms.get_mut(&room) else { continue };
            crowd.is_ready = false;
            if crowd.asking >= POSITIONS_AT_ONCE {
                continue;
            }
            let Some((resume, waiting)) = crowd.take(now, dice) else {
                if let Some(until) = crowd.rests_until() {
                    self.list(&room, until, now);
                }
                continue;
            };
            crowd.asking += 1;
            let listening = crowd.listening.clone();
            self.asking += 1;
            self.waiting -= waiting.len();
            self.list(&room, now, now);
            return Some(Ask { room, resume, listening, waiting });
        }
        None
    }

    /// An ask has come to its end. Returns who is to be told that it failed: it would be too late to ask again.
    pub fn asked<W>(
        &mut self,
        room: &RoomId,
        resume: Option<RoomPosition>,
        outcome: Outcome<W>,
        now: Instant,
        dice: &mut Dice,
    ) -> Option<(Vec<Waiting>, W)> {
        self.asking -= 1;
        let crowd = self.rooms.get_mut(room)?;
        crowd.asking -= 1;
        let (again, refused) = match outcome {
            Outcome::Lost => (Vec::new(), None),
            Outcome::Answered(again) => {
                crowd.pause = PAUSES.0;
                (again, None)
            }
            Outcome::Failed(waiting, why) => {
                let again_at = now + jittered(crowd.pause, dice);
                crowd.pause = (crowd.pause * 2).min(PAUSES.1);
                crowd.not_before = crowd.not_before.max(again_at);
                let (again, late) = waiting.into_iter().partition(|waiting: &Waiting| waiting.deadline > again_at);
                (again, Some((late, why)))
            }
        };
        self.waiting += again.len();
        let party = crowd.party(resume, now);
        party.is_asked = false;
        again.into_iter().rev().for_each(|waiting| party.waiting.push_front(waiting));
        if !party.waiting.is_empty() {
            crowd.turn.push_back(resume);
        }
        self.list(room, now, now);
        refused
    }

    /// Those who have waited for too long without being asked for.
    pub fn late(&mut self, now: Instant) -> Vec<Waiting> {
        let mut late = Vec::new();
        self.rooms.retain(|_, crowd| {
            for party in crowd.parties.values_mut() {
                while party.waiting.front().is_some_and(|first| first.deadline <= now) {
                    late.extend(party.waiting.pop_front());
                }
            }
            crowd.parties.retain(|_, party| party.is_asked || !party.waiting.is_empty() || party.not_before > now);
            let Crowd { parties, turn, .. } = crowd;
            turn.retain(|resume| parties.get(resume).is_some_and(|party| !party.waiting.is_empty()));
            !parties.is_empty()
        });
        self.waiting -= late.len();
        late
    }

    /// When [`next`](Self::next) has something, unless something happens before.
    pub fn next_due(&self) -> Option<Instant> {
        let is_free = self.asking < self.at_once;
        self.resting.peek().filter(|_| is_free).map(|Reverse((until, _))| *until)
    }

    // Sees that a room has its turn then. One of which too much is asked has it when an ask ends.
    fn list(&mut self, room: &RoomId, due: Instant, now: Instant) {
        let Some(crowd) = self.rooms.get_mut(room) else { return };
        if crowd.turn.is_empty() || crowd.asking >= POSITIONS_AT_ONCE {
            return;
        }
        let due = due.max(crowd.not_before);
        if due > now {
            self.resting.push(Reverse((due, room.clone())));
        } else if !std::mem::replace(&mut crowd.is_ready, true) {
            self.ready.push_back(room.clone());
        }
    }
}

impl Crowd {
    fn party(&mut self, resume: Option<RoomPosition>, now: Instant) -> &mut Party {
        let new = || Party { waiting: VecDeque::new(), is_asked: false, not_before: now };
        self.parties.entry(resume).or_insert_with(new)
    }

    // The next ones that may be asked for now.
    fn take(&mut self, now: Instant, dice: &mut Dice) -> Option<(Option<RoomPosition>, Vec<Waiting>)> {
        if self.not_before > now {
            return None;
        }
        for _ in 0..self.turn.len() {
            let resume = self.turn.pop_front()?;
            let Some(party) = self.parties.get_mut(&resume) else { continue };
            if party.not_before > now {
                self.turn.push_back(resume);
                continue;
            }
            let count = party.waiting.len().min(JOINS_MAX);
            (party.is_asked, party.not_before) = (true, now + jittered(PACE, dice));
            return Some((resume, party.waiting.drain(..count).collect()));
        }
        None
    }

    // When somebody may be asked for, where nobody may now.
    fn rests_until(&self) -> Option<Instant> {
        self.turn.iter().filter_map(|resume| self.parties.get(resume)).map(|party| party.not_before).min()
    }
}

/// Between half and one and a half of it.
fn jittered(pause: Duration, dice: &mut Dice) -> Duration {
    pause / 2 + Duration::from_micros(dice.up_to(pause.as_micros() as u32).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::Address, framing::Dialect};

    const WITHIN: Duration = Duration::from_secs(5);

    fn at(high: u64) -> Option<RoomPosition> {
        Some(RoomPosition { epoch: 1, gifts: 0, high, normal: 0 })
    }

    /// A lobby with a clock and dice.
    struct Door {
        lobby: Lobby,
        now: Instant,
        dice: Dice,
        slots: u32,
    }

    impl Door {
        fn new(at_once: usize) -> Self {
            Self { lobby: Lobby::new(at_once), now: Instant::now(), dice: Dice::default(), slots: 0 }
        }

        fn enter(&mut self, room: &str, resume: Option<RoomPosition>, count: usize) {
            for _ in 0..count {
                self.slots += 1;
                let from = Address { shard: 0, slot: self.slots, nonce: 1, dialect: Dialect::TcpPack };
                let user = format!("user-{}", self.slots).parse().unwrap();
                let request = JoinRequest { from, attempt: 1, room: room.parse().unwrap(), user, resume };
                let listening = watch::Sender::new(Listening::Yes).subscribe();
                self.lobby.enter(Waiting { request, deadline: self.now + WITHIN }, listening, self.now);
            }
        }

        fn ask(&mut self) -> Option<Ask> {
            self.lobby.next(self.now, &mut self.dice)
        }

        /// Nothing is left once the pauses are over.
        fn assert_forgets(&mut self) {
            self.now += PACE * 2;
            assert!(self.lobby.late(self.now).is_empty() && self.ask().is_none());
            assert!(self.lobby.rooms.is_empty() && self.lobby.ready.is_empty() && self.lobby.resting.is_empty());
            assert_eq!((self.lobby.waiting(), self.lobby.asking), (0, 0));
        }

        fn asked(&mut self, ask: &Ask, outcome: Outcome<&'static str>) -> Option<(Vec<Waiting>, &'static str)> {
            self.lobby.asked(&ask.room, ask.resume, outcome, self.now, &mut self.dice)
        }
    }

    #[test]
    fn who_waits_at_one_position_is_asked_for_together_and_who_comes_later_with_the_next() {
        let mut door = Door::new(10);
        door.enter("a", at(7), 1);
        let first = door.ask().unwrap();
        assert_eq!((first.waiting.len(), first.resume), (1, at(7)));
        door.enter("a", at(7), 300);
        assert!(door.ask().is_none(), "one at a time from one position");
        door.enter("a", at(8), 20);
        door.enter("a", None, 3);
        let others: Vec<_> = [door.ask(), door.ask()].into_iter().flatten().collect();
        assert_eq!(others.iter().map(|ask| ask.waiting.len()).collect::<Vec<_>>(), [20, 3]);
        assert!(door.ask().is_none());
        assert!(door.asked(&first, Outcome::Answered(vec![])).is_none());
        assert!(door.ask().is_none(), "others gather");
        door.enter("a", at(7), 100);
        door.now = door.lobby.next_due().unwrap();
        let second = door.ask().unwrap();
        assert_eq!((second.waiting.len(), second.resume), (400, at(7)));
        for ask in others.iter().chain([&second]) {
            door.asked(ask, Outcome::Answered(vec![]));
        }
        assert!(door.ask().is_none());
        door.assert_forgets();
    }

    #[test]
    fn a_large_crowd_is_let_in_by_parts_with_pauses_that_differ() {
        let mut door = Door::new(10);
        door.enter("a", at(7), 15_000);
        let (mut asks, mut pauses) = (0, Vec::new());
        while door.lobby.waiting() > 0 {
            let ask = door.ask().unwrap();
            asks += 1;
            door.asked(&ask, Outcome::Answered(vec![]));
            assert!(door.ask().is_none(), "not in one go");
            if let Some(due) = door.lobby.next_due() {
                pauses.push(due - door.now);
                door.now = due;
            }
        }
        assert_eq!(asks, 15_000usize.div_ceil(JOINS_MAX));
        assert!(pauses.iter().all(|pause| (PACE / 2..=PACE * 3 / 2).contains(pause)), "{pauses:?}");
        pauses.dedup();
        assert!(pauses.len() > 5);
    }

    #[test]
    fn asks_are_bounded_in_all_and_by_room_and_no_room_waits_for_another() {
        let mut door = Door::new(12);
        for high in 0..100 {
            door.enter("a", at(high), 1);
        }
        door.enter("b", None, 5);
        let mut asks: Vec<_> = std::iter::from_fn(|| door.ask()).collect();
        let of = |asks: &[Ask], room: &str| asks.iter().filter(|ask| ask.room.as_str() == room).count();
        assert_eq!((of(&asks, "a"), of(&asks, "b")), (POSITIONS_AT_ONCE, 1));
        for room in ["c", "d", "e", "f"] {
            door.enter(room, None, 1);
        }
        asks.extend(std::iter::from_fn(|| door.ask()));
        assert_eq!(asks.len(), 12);
        let mut done = asks.len();
        while let Some(ask) = asks.pop() {
            door.asked(&ask, Outcome::Answered(vec![]));
            let more: Vec<_> = std::iter::from_fn(|| door.ask()).collect();
            done += more.len();
            asks.extend(more);
        }
        assert_eq!(done, 105);
        door.assert_forgets();
    }

    #[test]
    fn an_ask_that_failed_is_made_again_after_growing_pauses_until_it_is_too_late() {
        let mut door = Door::new(10);
        let begun = door.now;
        door.enter("a", at(7), 40);
        let (mut asks, mut asked_at) = (0, begun);
        let last = loop {
            let ask = loop {
                match door.ask() {
                    Some(ask) => break ask,
                    None => door.now = door.lobby.next_due().unwrap(),
                }
            };
            let passed = door.now - asked_at;
            (asks, asked_at) = (asks + 1, door.now);
            let Ask { room, resume, waiting, .. } = ask;
            let failed = Outcome::Failed(waiting, "nobody");
            let (late, _) = door.lobby.asked(&room, resume, failed, door.now, &mut door.dice).unwrap();
            if !late.is_empty() {
                assert_eq!(late.len(), 40);
                break passed;
            }
            assert!(door.ask().is_none(), "not at once");
        };
        assert!((10..30).contains(&asks), "{asks}");
        assert!(last >= PAUSES.1 / 2 && door.now - begun <= WITHIN);
        door.now += PAUSES.1 * 2;
        door.assert_forgets();
    }

    #[test]
    fn who_is_asked_for_by_nobody_in_time_is_told_so_and_a_lost_ask_holds_up_nothing() {
        let mut door = Door::new(1);
        door.enter("a", None, 1);
        let ask = door.ask().unwrap();
        door.enter("a", None, 2);
        door.enter("b", at(1), 3);
        assert!(door.ask().is_none() && door.lobby.late(door.now).is_empty());
        door.now += WITHIN;
        assert_eq!((door.lobby.late(door.now).len(), door.lobby.waiting()), (5, 0));
        door.asked(&ask, Outcome::Lost);
        door.assert_forgets();
        door.enter("a", None, 1);
        assert_eq!(door.ask().unwrap().waiting.len(), 1);
        // The answer got too long for some: they are next.
        door.enter("a", None, 1);
        let again = Waiting {
            request: JoinRequest {
                from: Address { shard: 0, slot: 99, nonce: 1, dialect: Dialect::TcpPack },
                attempt: 1,
                room: "a".parse().unwrap(),
                user: "zoe".parse().unwrap(),
                resume: None,
            },
            deadline: door.now + WITHIN,
        };
        let room = "a".parse().unwrap();
        let outcome = Outcome::<()>::Answered(vec![again]);
        assert!(door.lobby.asked(&room, None, outcome, door.now, &mut door.dice).is_none());
        assert!(door.ask().is_none());
        door.now = door.lobby.next_due().unwrap();
        let next = door.ask().unwrap();
        assert_eq!(next.waiting.iter().map(|waiting| waiting.request.from.slot).collect::<Vec<_>>(), [99, 8]);
    }
}
