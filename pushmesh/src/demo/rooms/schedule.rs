//! What happens in the demo's rooms and when: real chat, gifts and likes from a seed. Pure.

use std::{collections::HashMap, time::Duration};

use pushmesh_protocol::{RoomId, Token, UserId};

/// One big room and some small ones.
pub const ROOMS: usize = 9;
/// Of ten viewers, so many are in the big one.
const STAGE_SHARE: usize = 8;
/// One viewer in so many walks from room to room.
const WANDERER: usize = 20;
/// Lines of chat a second at most, in all rooms: a replay may be a hundred times faster than life.
const CHAT_PER_SECOND: f64 = 20.0;
const GIFTS_PER_SECOND: f64 = 10.0;
/// Requests a second, each of several likes.
const LIKES_PER_SECOND: f64 = 200.0;
/// Most likes of one request: what one user may give a second.
const LIKES_AT_ONCE: u32 = 20;
/// One gift in so many is sent again under its key, as after a timeout: it must have no second effect.
const AGAIN: u32 = 8;
/// Longest line that is said, in bytes of UTF-8.
const LINE_MAX_BYTES: usize = 1024;

/// A line that somebody said.
#[derive(Debug, Clone)]
pub struct Line {
    pub at: Duration,
    pub user: UserId,
    pub discussion: Option<Token>,
    pub text: String,
}

/// Who watches, and where he begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Viewer {
    pub user: UserId,
    pub room: usize,
    /// From room to room; the others stay.
    pub walks: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// `number` counts the room's lines.
    Say {
        room: usize,
        number: u32,
        user: UserId,
        text: String,
    },
    /// `number` counts the room's gifts.
    Give {
        room: usize,
        number: u32,
        user: UserId,
        gift: &'static str,
        count: u32,
        value: u64,
    },
    /// The gift of this number once more, under the same key.
    GiveAgain {
        room: usize,
        number: u32,
    },
    Like {
        room: usize,
        user: UserId,
        count: u32,
    },
    Walk {
        viewer: usize,
        from: usize,
        to: usize,
    },
}

#[derive(Debug)]
pub struct Schedule {
    pub rooms: Vec<RoomId>,
    pub viewers: Vec<Viewer>,
    /// In time order.
    pub acts: Vec<(Duration, Act)>,
}

/// Gifts and what one costs.
const SHOP: [(&str, u64); 4] = [("rose", 1), ("cake", 20), ("rocket", 500), ("castle", 3000)];

/// Lays the rooms' evening out over `length`: `lines` where there is room for them, the rest from `seed`.
pub fn schedule(lines: &[Line], viewers: usize, length: Duration, seed: u64) -> Schedule {
    let mut rng = fastrand::Rng::with_seed(seed);
    let rooms: Vec<_> = (0..ROOMS)
        .map(|number| if number == 0 { "stage".to_owned() } else { format!("side-{number}") })
        .map(|name| RoomId::new(&name).expect("a token"))
        .collect();
    let viewers: Vec<_> = (0..viewers)
        .map(|number| Viewer {
            user: UserId::new(&format!("viewer-{number}")).expect("a token"),
            room: if number % 10 < STAGE_SHARE { 0 } else { 1 + number % (ROOMS - 1) },
            walks: number % WANDERER == WANDERER - 1,
        })
        .collect();
    let mut evening = Evening { rng: &mut rng, acts: Vec::new(), gifts: vec![0; ROOMS], lines: vec![0; ROOMS] };
    evening.chat(lines);
    evening.gifts(length);
    evening.likes(length);
    evening.walks(&viewers, length);
    let mut acts = evening.acts;
    acts.sort_by_key(|(at, _)| *at);
    Schedule { rooms, viewers, acts }
}

struct Evening<'a> {
    rng: &'a mut fastrand::Rng,
    acts: Vec<(Duration, Act)>,
    gifts: Vec<u32>,
    lines: Vec<u32>,
}

impl Evening<'_> {
    /// A conversation stays in one room; what belongs to none is said on the stage.
    fn chat(&mut self, lines: &[Line]) {
        let mut home: HashMap<&Token, usize> = HashMap::new();
        let mut free_at = Duration::ZERO;
        for line in lines.iter().filter(|line| !line.text.is_empty() && line.text.len() <= LINE_MAX_BYTES) {
            if line.at < free_at {
                continue;
            }
            free_at = line.at.max(free_at) + Duration::from_secs_f64(1.0 / CHAT_PER_SECOND);
            let homes = home.len();
            let room = line.discussion.as_ref().map_or(0, |talk| *home.entry(talk).or_insert(homes % ROOMS));
            let number = self.lines[room];
            self.lines[room] += 1;
            let (user, text) = (line.user.clone(), line.text.clone());
            self.acts.push((line.at, Act::Say { room, number, user, text }));
        }
    }

    fn gifts(&mut self, length: Duration) {
        let mut at = 0.0;
        loop {
            at += self.rng.f64() * 2.0 / GIFTS_PER_SECOND;
            if at >= length.as_secs_f64() {
                return;
            }
            let room = self.room();
            let (gift, price) = SHOP[self.rng.usize(..SHOP.len())];
            let count = self.rng.u32(1..=9);
            let user = self.giver();
            let number = self.gifts[room];
            self.gifts[room] += 1;
            let when = Duration::from_secs_f64(at);
            let value = price * u64::from(count);
            self.acts.push((when, Act::Give { room, number, user, gift, count, value }));
            if self.rng.u32(..AGAIN) == 0 {
                let later = when + Duration::from_secs_f64(0.5 + self.rng.f64());
                self.acts.push((later, Act::GiveAgain { room, number }));
            }
        }
    }

    fn likes(&mut self, length: Duration) {
        let mut at = 0.0;
        loop {
            at += self.rng.f64() * 2.0 / LIKES_PER_SECOND;
            if at >= length.as_secs_f64() {
                return;
            }
            let user = UserId::new(&format!("fan-{}", self.rng.u32(..400))).expect("a token");
            let (room, count) = (self.room(), self.rng.u32(1..=LIKES_AT_ONCE));
            self.acts.push((Duration::from_secs_f64(at), Act::Like { room, user, count }));
        }
    }

    fn walks(&mut self, viewers: &[Viewer], length: Duration) {
        for (viewer, start) in viewers.iter().enumerate().filter(|(_, viewer)| viewer.walks) {
            let (mut at, mut here) = (1.0 + self.rng.f64() * 5.0, start.room);
            while at < length.as_secs_f64() {
                let there = (here + self.rng.usize(1..ROOMS)) % ROOMS;
                self.acts.push((Duration::from_secs_f64(at), Act::Walk { viewer, from: here, to: there }));
                here = there;
                at += 4.0 + self.rng.f64() * 8.0;
            }
        }
    }

    /// Half of everything happens on the stage.
    fn room(&mut self) -> usize {
        if self.rng.bool() { 0 } else { self.rng.usize(1..ROOMS) }
    }

    /// A few give much, many a little.
    fn giver(&mut self) -> UserId {
        let rank = (self.rng.f64() * self.rng.f64() * 60.0) as u32;
        UserId::new(&format!("giver-{rank}")).expect("a token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: f64, text: &str) -> Line {
        let at = Duration::from_secs_f64(at);
        Line { at, user: UserId::new("ann").unwrap(), discussion: None, text: text.to_owned() }
    }

    #[test]
    fn a_seed_is_an_evening_and_numbers_count_each_rooms_own() {
        let lines: Vec<_> = (0..50).map(|n| line(f64::from(n) * 0.01, "hello")).collect();
        let length = Duration::from_secs(10);
        let (one, two) = (schedule(&lines, 200, length, 7), schedule(&lines, 200, length, 7));
        assert_eq!(one.acts, two.acts);
        assert_ne!(one.acts, schedule(&lines, 200, length, 8).acts);
        let said = one.acts.iter().filter(|(_, act)| matches!(act, Act::Say { .. })).count();
        assert_eq!(said, 10, "a replay faster than {CHAT_PER_SECOND} lines a second leaves lines out");
        for room in 0..ROOMS {
            let given: Vec<_> = one
                .acts
                .iter()
                .filter_map(|(_, act)| match act {
                    Act::Give { room: at, number, .. } if *at == room => Some(*number),
                    _ => None,
                })
                .collect();
            assert_eq!(given, (0..given.len() as u32).collect::<Vec<_>>());
        }
        assert!(one.acts.iter().any(|(_, act)| matches!(act, Act::GiveAgain { .. })));
        assert!(one.acts.iter().any(|(_, act)| matches!(act, Act::Walk { .. })));
    }
}
