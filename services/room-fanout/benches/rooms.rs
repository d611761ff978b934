//! What a room message costs its owner, one core, without I/O: `cargo bench -p room-fanout`.

use std::time::{Duration, Instant};

use pushmesh_protocol::{
    GiftKey, Instance, Partition, RoomId, Token, UserId,
    frame::RoomPosition,
    room::{Gift, JoinAsk, LikesTotal, RoomCount, RoomMessage, RoomPresence},
};
use room_fanout::room::{Asked, Effect, Event, Limits, Owner, PartLimits, Rooms, Sources};

const MESSAGES: usize = 500_000;
const USERS: usize = 10_000;
/// Applied between two looks at what is due, as the partition's task does.
const TURN: usize = 32;
/// Messages a millisecond: half a million take five seconds of the rooms' time.
const PER_MS: usize = 100;

fn main() {
    gifts("gifts, 1 room", 1);
    gifts("gifts, 100 rooms", 100);
    chat("chat, 1 room, whole", 1, 10_000);
    chat("chat, 1 room, 8 parts", 8, 80_000);
    chat("chat, 100 rooms", 100, 10);
    likes();
    joins();
}

struct Bench {
    rooms: Rooms,
    now: u64,
    applied: usize,
    frames: usize,
    bytes: usize,
    records: usize,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let owner = Owner { partition: Partition(0), lease: 1, streams: 1, low: 1 };
        let mut rooms = Rooms::new(limits, owner);
        let now = 1_700_000_000_000;
        rooms.restored(now);
        rooms.ready(now);
        Self { rooms, now, applied: 0, frames: 0, bytes: 0, records: 0 }
    }

    fn apply(&mut self, event: Event) {
        self.rooms.apply(event, self.now).expect("no room sleeps");
        self.applied += 1;
        if self.applied.is_multiple_of(PER_MS) {
            self.now += 1;
        }
        if self.applied.is_multiple_of(TURN) {
            let effects = self.rooms.tick(self.now);
            self.carry_out(effects);
        }
        // As often as a task does.
        if self.applied.is_multiple_of(1_000 * PER_MS) {
            self.store();
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Tell(batch) => {
                    self.frames += batch.frames.len();
                    self.bytes += pushmesh_protocol::wire::encode(&batch).len();
                }
                Effect::Level { note, user, level, .. } => self.rooms.level_stored(&note.room, &user, level, self.now),
                Effect::Ranking { .. } => {}
            }
        }
    }

    fn store(&mut self) {
        let Some((effects, writes)) = self.rooms.writes(self.now) else { return };
        self.carry_out(effects);
        let revisions: Vec<_> = (1..).take(self.rooms.entries(&writes).len()).map(Some).collect();
        self.records += revisions.len();
        if self.rooms.written(writes, &revisions, self.now).is_some() {
            self.rooms.checkpoint_written(Some(1));
        }
    }

    fn told(&self, what: &str, begun: Instant) {
        let taken: Duration = begun.elapsed();
        let each = taken.as_nanos() / self.applied.max(1) as u128;
        let rate = self.applied as f64 / taken.as_secs_f64() / 1e6;
        let Self { frames, records, .. } = self;
        println!("{what}: {each} ns each, {rate:.2} M/s; {frames} frames, {} MB, {records} records", self.bytes >> 20);
    }
}

fn room(n: usize) -> RoomId {
    RoomId::new(&format!("room-{n}")).expect("a token")
}

fn users() -> Vec<UserId> {
    (0..USERS).map(|n| UserId::new(&format!("user-{n}")).expect("a token")).collect()
}

fn gifts(what: &str, rooms: usize) {
    let (users, gift) = (users(), Token::new("rose").expect("a token"));
    let key = GiftKey::new("018cc251-f400-7000-8000-000000000001").expect("a key");
    let mut bench = Bench::new(Limits::default());
    let events: Vec<_> = (0..MESSAGES)
        .map(|n| {
            let (room, from) = (room(n % rooms), users[n * 7919 % USERS].clone());
            let (key, gift, at) = (key.clone(), gift.clone(), bench.now);
            let gift = Gift { key, room, from, to: None, gift, count: 1, value: 10, note: None, at, trace: None };
            Event::Gift { sequence: n as u64 + 1, gift }
        })
        .collect();
    let begun = Instant::now();
    for event in events {
        bench.apply(event);
    }
    bench.told(what, begun);
}

fn chat(what: &str, rooms: usize, members: u32) {
    let (users, kind) = (users(), Token::new("chat").expect("a token"));
    let parts =
        PartLimits { messages_per_second: u64::MAX / 4, bytes_per_second: u64::MAX / 4, ..PartLimits::default() };
    let mut bench = Bench::new(Limits { parts, ..Limits::default() });
    let counts = (0..rooms).map(|n| RoomCount { room: room(n), members, came: vec![], went: vec![] }).collect();
    let comet = Instance::new("comet").expect("a token");
    let report = RoomPresence { comet, comet_epoch: 1, whole: true, rooms: counts };
    bench.rooms.apply(Event::Presence(report), bench.now).expect("no room sleeps");
    bench.now += 1_000;
    bench.rooms.tick(bench.now);
    let events: Vec<_> = (0..MESSAGES)
        .map(|n| {
            let (room, from) = (room(n % rooms), Some(users[n * 7919 % USERS].clone()));
            let data = "eighty characters of something that somebody could have said in a room, or so.".into();
            let message = RoomMessage { room, kind: kind.clone(), from, at: bench.now, data, trace: None };
            Event::Chat { sequence: n as u64 + 1, message }
        })
        .collect();
    let begun = Instant::now();
    for event in events {
        bench.apply(event);
    }
    bench.told(what, begun);
}

fn likes() {
    let mut bench = Bench::new(Limits::default());
    let apis: Vec<_> = (0..4).map(|n| Instance::new(&format!("api-{n}")).expect("a token")).collect();
    let begun = Instant::now();
    for n in 0..MESSAGES {
        let likes = LikesTotal { room: room(n % 100), total: n as u64, at: bench.now };
        bench.apply(Event::Likes { sequence: n as u64 + 1, api: apis[n % 4].clone(), life: 1, likes });
    }
    bench.told("totals of likes, 100 rooms", begun);
}

/// Everybody comes back at once, and each missed a hundred messages.
fn joins() {
    const RETURNING: usize = 10_000;
    let (users, kind) = (users(), Token::new("chat").expect("a token"));
    let mut bench = Bench::new(Limits::default());
    for (n, from) in users.iter().take(400).enumerate() {
        let data = "sixty characters of something that somebody could have said.".into();
        let (room, kind, from) = (room(0), kind.clone(), Some(from.clone()));
        let message = RoomMessage { room, kind, from, at: bench.now, data, trace: None };
        bench.apply(Event::Chat { sequence: n as u64 + 1, message });
    }
    let begun = Instant::now();
    for user in users.iter().take(RETURNING) {
        let resume = Some(RoomPosition { epoch: 1, gifts: 0, high: 300, normal: 0 });
        let ask = JoinAsk { room: room(0), user: user.clone(), resume, trace: None };
        assert!(matches!(bench.rooms.join(&ask, Sources::Memory, bench.now), Asked::Answer(_)));
    }
    bench.applied = RETURNING;
    bench.told("who comes back and missed 100", begun);
}
