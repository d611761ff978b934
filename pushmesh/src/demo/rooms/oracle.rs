//! What every member of a room must have seen, what the ledger must say, and how many likes must have been counted: from
//! what was asked at the doors and what they answered. It uses no code and no counter of a service.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use pushmesh_protocol::UserId;
use serde::{Deserialize, Serialize};

use crate::demo::oracle::Moment;

/// Numbers of a room's gifts or lines in the order in which a member saw them: runs of (first, how many).
pub type Runs = Vec<(u32, u32)>;

/// What a member saw while he was in a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stay {
    pub viewer: usize,
    pub room: usize,
    /// When he was told that he is in, and when he first wanted to leave, in microseconds of the demo's clock.
    pub joined_us: u64,
    pub left_us: Option<u64>,
    pub gifts: Runs,
    pub lines: Runs,
    /// The client library said that something is missing for good. Nothing dies in a demo, and all that is said lies in the
    /// streams: it is never right.
    pub gaps: u32,
}

/// When each gift and line of a room was shown to the last of those who stay there, in microseconds of the demo's clock.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub gifts: BTreeMap<u32, u64>,
    pub lines: BTreeMap<u32, u64>,
}

/// Something that a door accepted.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    at: Moment,
    /// In the stream: the order in which everybody must see it.
    sequence: u64,
}

#[derive(Debug, Default)]
struct Room {
    gifts: BTreeMap<u32, Accepted>,
    lines: BTreeMap<u32, Accepted>,
    ledger: HashMap<UserId, u64>,
    likes: u64,
    shown: Shown,
}

/// What the oracle knows of an evening.
#[derive(Debug)]
pub struct Oracle {
    rooms: Vec<Room>,
    /// Answers that contradict each other.
    contradictions: Vec<String>,
    /// Viewers that asked a room for something and were never answered.
    astray: Vec<String>,
}

/// What the room's owner says in the end.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Books {
    pub ranking: Vec<(UserId, u64)>,
    pub gifts_total: u64,
    pub likes_total: u64,
}

/// The outcome; right if nothing was lost, twice or out of order, the ledger is exact and no like is missing.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub gifts: u64,
    pub gifts_lost: u64,
    pub gifts_twice: u64,
    pub ledger_exact: bool,
    pub likes_accepted: u64,
    pub likes_counted: u64,
    pub chat_lost: u64,
    pub chat_out_of_order: u64,
    /// Viewers whom no room answered.
    #[serde(skip)]
    pub astray: u64,
    /// Gaps that viewers were told of.
    #[serde(skip)]
    pub gaps: u64,
    /// The first few breaches, for people.
    #[serde(skip)]
    pub breaches: Vec<String>,
}

impl Oracle {
    pub fn new(rooms: usize) -> Self {
        Self { rooms: (0..rooms).map(|_| Room::default()).collect(), contradictions: Vec::new(), astray: Vec::new() }
    }

    pub fn given(&mut self, room: usize, number: u32, user: &UserId, value: u64, at: Moment, sequence: u64) {
        let room = &mut self.rooms[room];
        room.gifts.insert(number, Accepted { at, sequence });
        *room.ledger.entry(user.clone()).or_default() += value;
    }

    pub fn is_given(&self, room: usize, number: u32) -> bool {
        self.rooms[room].gifts.contains_key(&number)
    }

    /// A gift said again must have the first answer.
    pub fn given_again(&mut self, room: usize, number: u32, sequence: u64, repeated: bool) {
        let first = self.rooms[room].gifts.get(&number).map(|gift| gift.sequence);
        if first != Some(sequence) || !repeated {
            let text = format!("gift {number} of room {room} was answered {first:?}, then {sequence} ({repeated})");
            self.contradictions.push(text);
        }
    }

    pub fn said(&mut self, room: usize, number: u32, at: Moment, sequence: u64) {
        self.rooms[room].lines.insert(number, Accepted { at, sequence });
    }

    /// What the viewers of one process who stay in a room have been shown there.
    pub fn shown(&mut self, room: usize, shown: &Shown) {
        let all = &mut self.rooms[room].shown;
        for (all, shown) in [(&mut all.gifts, &shown.gifts), (&mut all.lines, &shown.lines)] {
            for (number, at) in shown {
                let last = all.entry(*number).or_default();
                *last = (*last).max(*at);
            }
        }
    }

    /// A viewer asked this of a room, and was never told.
    pub fn astray(&mut self, viewer: u64, room: usize, asked: &str) {
        self.astray.push(format!("viewer {viewer} asked room {room} {asked}, and was never told"));
    }

    pub fn liked(&mut self, room: usize, count: u64) {
        self.rooms[room].likes += count;
    }

    pub fn likes(&self) -> u64 {
        self.rooms.iter().map(|room| room.likes).sum()
    }

    pub fn gifts(&self) -> u64 {
        self.rooms.iter().map(|room| room.gifts.len() as u64).sum()
    }

    pub fn lines(&self) -> u64 {
        self.rooms.iter().map(|room| room.lines.len() as u64).sum()
    }

    /// Whether the books say what was accepted: all likes may take a tick to be counted.
    pub fn balanced(&self, books: &[Books]) -> bool {
        self.rooms.iter().zip(books).all(|(room, books)| room.likes == books.likes_total && exact(room, books))
    }

    /// Holds what was seen, and what the books say, against what was accepted.
    pub fn judge(&self, stays: &[Stay], books: &[Books]) -> Judgement {
        let mut judgement = Judgement {
            gifts: self.gifts(),
            ledger_exact: self.contradictions.is_empty(),
            likes_accepted: self.likes(),
            likes_counted: books.iter().map(|books| books.likes_total).sum(),
            ..Default::default()
        };
        judgement.astray = self.astray.len() as u64;
        self.contradictions.iter().chain(&self.astray).for_each(|text| judgement.breach(|| text.clone()));
        for (number, (room, books)) in self.rooms.iter().zip(books).enumerate() {
            if !exact(room, books) {
                judgement.ledger_exact = false;
                judgement.breach(|| format!("the ledger of room {number} is not what was given"));
            }
        }
        for stay in stays {
            self.judge_stay(stay, &mut judgement);
        }
        judgement
    }

    fn judge_stay(&self, stay: &Stay, judgement: &mut Judgement) {
        let room = &self.rooms[stay.room];
        let gifts = seen(&stay.gifts, &room.gifts, &room.shown.gifts, stay);
        judgement.gifts_lost += gifts.lost;
        judgement.gifts_twice += gifts.twice + gifts.unknown;
        let lines = seen(&stay.lines, &room.lines, &room.shown.lines, stay);
        judgement.chat_lost += lines.lost;
        judgement.chat_out_of_order += lines.disorder + lines.twice + lines.unknown;
        judgement.gaps += u64::from(stay.gaps);
        if stay.gaps > 0 {
            judgement.breach(|| format!("viewer {} in room {} was told of {} gaps", stay.viewer, stay.room, stay.gaps));
        }
        if gifts != Seen::default() {
            judgement.breach(|| format!("viewer {} in room {}, gifts: {gifts:?}", stay.viewer, stay.room));
        }
        if lines != Seen::default() {
            judgement.breach(|| format!("viewer {} in room {}, chat: {lines:?}", stay.viewer, stay.room));
        }
    }
}

/// Each number counts.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    lost: u64,
    twice: u64,
    /// Never accepted, or not in this room.
    unknown: u64,
    disorder: u64,
}

/// He must have seen what was asked for after he was in; and if he left, only what all of those who stay had been shown before.
fn seen(runs: &Runs, accepted: &BTreeMap<u32, Accepted>, shown: &BTreeMap<u32, u64>, stay: &Stay) -> Seen {
    let mut outcome = Seen::default();
    let (mut numbers, mut last) = (HashSet::new(), 0);
    for number in runs.iter().flat_map(|(first, count)| *first..first + count) {
        match accepted.get(&number) {
            None => outcome.unknown += 1,
            Some(_) if !numbers.insert(number) => outcome.twice += 1,
            Some(item) if item.sequence <= last => outcome.disorder += 1,
            Some(item) => last = item.sequence,
        }
    }
    let joined = Duration::from_micros(stay.joined_us);
    let must = |number: &u32, item: &Accepted| {
        let in_time = |left: u64| shown.get(number).is_some_and(|last| *last <= left);
        item.at.earliest >= joined && stay.left_us.is_none_or(in_time)
    };
    let missed = accepted.iter().filter(|(number, item)| must(number, item) && !numbers.contains(number));
    outcome.lost = missed.count() as u64;
    outcome
}

/// The ranking is what was given, in its order; the sum is the sum.
fn exact(room: &Room, books: &Books) -> bool {
    let told: HashMap<_, _> = books.ranking.iter().cloned().collect();
    let in_order = books.ranking.windows(2).all(|pair| pair[0].1 >= pair[1].1);
    in_order && told == room.ledger && books.gifts_total == room.ledger.values().sum::<u64>()
}

impl Stay {
    pub fn begin(viewer: usize, room: usize, joined_us: u64) -> Self {
        Self { viewer, room, joined_us, left_us: None, gifts: vec![], lines: vec![], gaps: 0 }
    }
}

impl Judgement {
    pub fn is_right(&self) -> bool {
        let none = [self.gifts_lost, self.gifts_twice, self.chat_lost, self.chat_out_of_order, self.astray, self.gaps];
        none.iter().all(|count| *count == 0) && self.ledger_exact && self.likes_accepted == self.likes_counted
    }

    pub fn breach(&mut self, text: impl FnOnce() -> String) {
        if self.breaches.len() < 10 {
            self.breaches.push(text());
        }
    }
}

/// Adds a number to the runs.
pub fn note(runs: &mut Runs, number: u32) {
    match runs.last_mut() {
        Some((first, count)) if *first + *count == number => *count += 1,
        _ => runs.push((number, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        let moment = Duration::from_secs_f64(seconds);
        Moment { earliest: moment, latest: moment + Duration::from_millis(5) }
    }

    fn evening() -> Oracle {
        let mut oracle = Oracle::new(1);
        let (bob, eve) = (UserId::new("bob").unwrap(), UserId::new("eve").unwrap());
        oracle.given(0, 0, &bob, 5, at(2.0), 11);
        oracle.given(0, 1, &eve, 7, at(3.0), 13);
        oracle.said(0, 0, at(2.5), 12);
        oracle.said(0, 1, at(3.5), 14);
        oracle.liked(0, 30);
        oracle
    }

    fn books() -> Vec<Books> {
        let ranking = [("eve", 7), ("bob", 5)].map(|(user, total)| (UserId::new(user).unwrap(), total)).to_vec();
        vec![Books { ranking, gifts_total: 12, likes_total: 30 }]
    }

    fn stay(gifts: &[(u32, u32)], lines: &[(u32, u32)]) -> Stay {
        let (gifts, lines) = (gifts.to_vec(), lines.to_vec());
        Stay { viewer: 0, room: 0, joined_us: 1_000_000, left_us: None, gifts, lines, gaps: 0 }
    }

    #[test]
    fn who_saw_everything_once_and_in_order_is_content() {
        let judgement = evening().judge(&[stay(&[(0, 2)], &[(0, 2)])], &books());
        assert!(judgement.is_right(), "{judgement:?}");
        assert!(evening().balanced(&books()));
    }

    #[test]
    fn every_breach_is_counted_as_what_it_is() {
        let counts = |stay: Stay| {
            let judgement = evening().judge(&[stay], &books());
            (judgement.gifts_lost, judgement.gifts_twice, judgement.chat_lost, judgement.chat_out_of_order)
        };
        assert_eq!(counts(stay(&[(0, 1)], &[(0, 2)])), (1, 0, 0, 0));
        assert_eq!(counts(stay(&[(0, 2), (1, 1)], &[(0, 2)])), (0, 1, 0, 0));
        assert_eq!(counts(stay(&[(0, 3)], &[(0, 2)])), (0, 1, 0, 0));
        assert_eq!(counts(stay(&[(0, 2)], &[(1, 1)])), (0, 0, 1, 0));
        assert_eq!(counts(stay(&[(0, 2)], &[(1, 1), (0, 1)])), (0, 0, 0, 1));
    }

    #[test]
    fn what_happened_before_or_at_the_end_of_a_stay_is_not_missed() {
        let late = Stay { joined_us: 2_600_000, ..stay(&[(1, 1)], &[(1, 1)]) };
        assert!(evening().judge(&[late], &books()).is_right());
    }

    #[test]
    fn who_left_must_have_seen_what_all_who_stayed_had_been_shown_before() {
        let mut oracle = evening();
        // The first gift was shown at 2.1 s to some and at 2.9 s to the last; the second line to nobody who stayed.
        let shown =
            |at, lines: &[(u32, u64)]| Shown { gifts: [(0, at)].into(), lines: lines.iter().copied().collect() };
        oracle.shown(0, &shown(2_900_000, &[(0, 2_600_000)]));
        oracle.shown(0, &shown(2_100_000, &[]));
        let lost = |left_us| {
            let judgement = oracle.judge(&[Stay { left_us: Some(left_us), ..stay(&[], &[]) }], &books());
            (judgement.gifts_lost, judgement.chat_lost)
        };
        assert_eq!([lost(2_599_999), lost(2_600_000), lost(2_899_999)], [(0, 0), (0, 1), (0, 1)]);
        assert_eq!([lost(2_900_000), lost(9_000_000)], [(1, 1), (1, 1)]);
    }

    #[test]
    fn whom_no_room_answers_and_whoever_is_told_of_a_gap_is_a_breach() {
        let whole = stay(&[(0, 2)], &[(0, 2)]);
        let told = evening().judge(&[Stay { gaps: 1, ..whole.clone() }], &books());
        assert!(!told.is_right() && told.breaches.len() == 1, "{told:?}");
        let mut oracle = evening();
        oracle.astray(7, 0, "to be let in");
        let lost = oracle.judge(&[whole], &books());
        assert!(!lost.is_right() && lost.breaches[0].contains("viewer 7"), "{lost:?}");
    }

    #[test]
    fn the_books_must_say_what_was_given() {
        let mut oracle = evening();
        let mut wrong = books();
        wrong[0].ranking[0].1 += 1;
        assert!(!oracle.judge(&[], &wrong).ledger_exact);
        let mut few = books();
        few[0].likes_total -= 1;
        assert!(!oracle.judge(&[], &few).is_right() && !oracle.balanced(&few));
        oracle.given_again(0, 0, 11, true);
        assert!(oracle.judge(&[], &books()).is_right());
        oracle.given_again(0, 0, 15, false);
        assert!(!oracle.judge(&[], &books()).ledger_exact);
    }

    #[test]
    fn runs_are_short() {
        let mut runs = Runs::new();
        [0, 1, 2, 5, 6, 1].into_iter().for_each(|number| note(&mut runs, number));
        assert_eq!(runs, [(0, 3), (5, 2), (1, 1)]);
    }
}
