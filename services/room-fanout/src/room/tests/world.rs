//! Streams, a bucket, an owner that may die, and connections: what lies around [`Rooms`], without time of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use pushmesh_protocol::{
    GiftKey, Instance, Partition, RoomId, Token, UserId,
    frame::{Chain, Encoding, Ranked, Role, RoomItem, ServerFrame},
    message::Millis,
    room::{
        Audience, Gift, JoinAsk, LikesTotal, MuteRecord, Note, RoomAnswer, RoomBatch, RoomCount, RoomEvent,
        RoomHappening, RoomMessage, RoomOrder, RoomPresence,
    },
};

use super::{
    client::{Client, State},
    streams::{High, Low, Streams, at},
};
use crate::room::{
    Asked, Effect, Ends, Event, Limits, Owner, PartLimits, Past, Positions, Rooms, Source, Sources, record,
};

pub const STREAMS: u64 = 77;

pub struct World {
    pub limits: Limits,
    pub now: Millis,
    pub lease: u64,
    pub streams: Streams,
    pub bucket: BTreeMap<String, (Bytes, u64)>,
    revision: u64,
    pub rooms: Rooms,
    read: Positions,
    /// Where the streams ended at the take-over.
    until: Positions,
    pub clients: Vec<Client>,
    present: HashMap<RoomId, u32>,
    roles: HashMap<(RoomId, UserId), Role>,
    mutes: HashMap<(RoomId, UserId), MuteRecord>,
    pub likes: HashMap<(u64, RoomId), u64>,
    /// In how many parts the room was when a chat was told: more than one number where it was told again.
    pub parts_at: HashMap<u64, BTreeSet<u16>>,
    pub levels: Vec<(Token, Note)>,
    pub rankings: HashMap<RoomId, Vec<Ranked>>,
    /// What was told, and when.
    pub told: Vec<(Millis, RoomBatch)>,
}

pub fn user(n: u8) -> UserId {
    UserId::new(&format!("user{n}")).unwrap()
}

pub fn room(n: u8) -> RoomId {
    RoomId::new(&format!("room{n}")).unwrap()
}

pub fn limits() -> Limits {
    Limits {
        levels: vec![50, 100, 500],
        parts: PartLimits { members: 10, merge_after: Duration::from_secs(2), max: 8, ..PartLimits::default() },
        tail_items: 4,
        idle_after: Duration::from_secs(5),
        ..Limits::default()
    }
}

impl World {
    pub fn new(limits: Limits) -> Self {
        let rooms = Rooms::new(limits.clone(), Owner { partition: Partition(0), lease: 0, streams: STREAMS, low: 1 });
        let mut world = Self {
            limits,
            now: 0,
            lease: 0,
            streams: Streams::default(),
            bucket: BTreeMap::new(),
            revision: 0,
            rooms,
            read: Positions::default(),
            until: Positions::default(),
            clients: vec![],
            present: HashMap::new(),
            roles: HashMap::new(),
            mutes: HashMap::new(),
            likes: HashMap::new(),
            parts_at: HashMap::new(),
            levels: vec![],
            rankings: HashMap::new(),
            told: vec![],
        };
        world.take_over();
        world
    }

    /// The owner is gone, with all it had not told or stored; another one comes.
    pub fn take_over(&mut self) {
        self.lease += 1;
        let owner = Owner { partition: Partition(0), lease: self.lease, streams: STREAMS, low: 1 };
        self.rooms = Rooms::new(self.limits.clone(), owner);
        let take = |rooms: &mut Rooms, of: &dyn Fn(&str) -> bool| {
            for (key, (value, revision)) in self.bucket.iter().filter(|(key, _)| of(key)) {
                rooms.restore(key, value, *revision, self.now).unwrap();
            }
        };
        take(&mut self.rooms, &|key| !key.starts_with("u."));
        for room in self.rooms.records_taken(self.now) {
            take(&mut self.rooms, &|key| key.starts_with(&format!("u.0.{room}.")));
        }
        for ((room, user), role) in self.roles.clone() {
            self.apply(Event::Role { room, user, role: Some(role) });
        }
        for ((room, user), mute) in self.mutes.clone() {
            self.apply(Event::Mute { room: Some(room), user, mute: Some(mute) });
        }
        self.read = self.rooms.restored(self.now);
        let Streams { high, normal, low, gone: _ } = &self.streams;
        let (high, normal, low) = (high.len() as u64, normal.len() as u64, low.len() as u64);
        self.until = Positions { gifts: high, chats: high, events: normal, likes: low, notes: low, newest: [0; 3] };
        self.read_on(Source::Gifts, 0);
    }

    pub fn apply(&mut self, event: Event) {
        if let Err(asleep) = self.rooms.apply(event, self.now) {
            self.wake(&asleep.room);
            self.rooms.apply(*asleep.event, self.now).expect("it was woken");
        }
    }

    fn wake(&mut self, room: &RoomId) {
        let all = self.bucket.iter().map(|(key, (value, revision))| (key.clone(), value.clone(), *revision));
        self.rooms.wake(room, all.collect::<Vec<_>>(), self.now).unwrap();
    }

    pub fn gift(&mut self, room: RoomId, from: UserId, value: u64) -> u64 {
        let key = GiftKey::new("018cc251-f400-7000-8000-000000000001").unwrap();
        let gift = Token::new("rose").unwrap();
        let gift = Gift { key, room, from, to: None, gift, count: 1, value, note: None, at: self.now, trace: None };
        self.streams.high.push(High::Gift(gift));
        self.streams.high.len() as u64
    }

    pub fn chat(&mut self, room: RoomId, from: Option<UserId>) -> u64 {
        let (kind, data) = (Token::new("chat").unwrap(), "hello".into());
        self.streams.high.push(High::Chat(RoomMessage { room, kind, from, at: self.now, data, trace: None }));
        self.streams.high.len() as u64
    }

    pub fn event(&mut self, room: RoomId, what: RoomHappening) -> u64 {
        self.streams.normal.push(RoomEvent { room, by: None, at: self.now, what, trace: None });
        self.streams.normal.len() as u64
    }

    pub fn like(&mut self, api: u64, room: RoomId, count: u64) {
        let total = self.likes.entry((api, room.clone())).or_default();
        *total += count;
        self.streams.low.push(Low::Likes(api, LikesTotal { room, total: *total, at: self.now }));
    }

    pub fn mute(&mut self, room: RoomId, user: UserId) {
        // What was said in this very millisecond may have been told.
        let mute = MuteRecord { until: self.now + 1_000, by: None, at: self.now + 1 };
        if self.mutes.contains_key(&(room.clone(), user.clone())) {
            return;
        }
        self.mutes.insert((room.clone(), user.clone()), mute.clone());
        self.apply(Event::Mute { room: Some(room), user, mute: Some(mute) });
    }

    /// What the bucket holds of mutes is gone: a later owner knows of none.
    pub fn mutes_end(&mut self) {
        self.mutes.clear();
    }

    pub fn was_muted(&self, message: &RoomMessage) -> bool {
        let Some(from) = &message.from else { return false };
        let mute = self.mutes.get(&(message.room.clone(), from.clone()));
        mute.is_some_and(|mute| (mute.at..mute.until).contains(&message.at))
    }

    pub fn role(&mut self, room: RoomId, user: UserId, role: Option<Role>) {
        match role {
            Some(role) => self.roles.insert((room.clone(), user.clone()), role),
            None => self.roles.remove(&(room.clone(), user.clone())),
        };
        self.apply(Event::Role { room, user, role });
    }

    pub fn present(&mut self, room: RoomId, members: u32) {
        self.present.insert(room, members);
        self.recount();
    }

    pub fn recount(&mut self) {
        let count = |(room, members): (&RoomId, &u32)| RoomCount {
            room: room.clone(),
            members: *members,
            came: vec![],
            went: vec![],
        };
        let rooms = self.present.iter().map(count).collect();
        let comet = Instance::new("comet").unwrap();
        self.apply(Event::Presence(RoomPresence { comet, comet_epoch: 1, whole: true, rooms }));
    }

    /// The owner hears some more of a source.
    pub fn read_on(&mut self, source: Source, mut count: usize) {
        while count > 0
            && let Some(event) = self.streams.next(source, &mut self.read)
        {
            self.apply(event);
            count -= 1;
        }
        let all = [Source::Gifts, Source::Chats, Source::Events, Source::Likes, Source::Notes];
        if !self.rooms.is_ready() && all.into_iter().all(|source| self.is_past_take_over(source)) {
            self.rooms.ready(self.now);
        }
    }

    fn is_past_take_over(&self, source: Source) -> bool {
        let mut read = self.read;
        self.streams.next(source, &mut read).is_none() || *at(&mut read, source) > *at(&mut self.until.clone(), source)
    }

    /// Time passes, turn by turn.
    pub fn pass(&mut self, millis: Millis) {
        let end = self.now + millis;
        loop {
            let next = self.rooms.next_deadline().map_or(end, |at| at.max(self.now));
            self.now = next.min(end);
            let effects = self.rooms.tick(self.now);
            self.carry_out(effects);
            if self.now >= end {
                return;
            }
            self.now += 1;
        }
    }

    pub fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Tell(batch) => self.tell(batch),
                Effect::Ranking { ranking, .. } => drop(self.rankings.insert(ranking.room, ranking.top)),
                Effect::Level { note, id, user, level } => {
                    // Its subject takes one message.
                    if self.levels.iter().all(|(known, _)| *known != id) {
                        self.levels.push((id, note.clone()));
                        self.streams.low.push(Low::Note(note.clone()));
                    }
                    self.rooms.level_stored(&note.room, &user, level, self.now);
                }
            }
        }
    }

    fn tell(&mut self, batch: RoomBatch) {
        assert_eq!(batch.epoch, self.lease);
        for frame in &batch.frames {
            let Ok(ServerFrame::Room(room)) = ServerFrame::decode(Encoding::MessagePack, &frame.frame) else {
                panic!("a ROOM frame was expected");
            };
            assert!(frame.frame.len() <= 1_396 || room.items.len() == 1);
            assert!(frame.conflate.is_none() || room.items.iter().all(|item| item.chain == Chain::Loose));
            let of = match frame.audience {
                Audience::Everybody => 1,
                Audience::Part { of, .. } => of,
                Audience::Overseers | Audience::User(_) => continue,
            };
            for item in room.items.iter().filter(|item| item.chain == Chain::High && item.kind.as_str() != "parts") {
                self.parts_at.entry(item.offset).or_default().insert(of);
            }
        }
        for client in self.clients.iter_mut().filter(|client| client.room == batch.room) {
            client.batch(&batch);
        }
        if batch.orders.contains(&RoomOrder::Recount) {
            self.recount();
        }
        self.told.push((self.now, batch));
    }

    /// Connections that want to, ask; those whose past was read, ask with it.
    pub fn ask(&mut self) {
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            let ask = JoinAsk { room: client.room.clone(), user: client.user.clone(), resume: client.at, trace: None };
            let asked = match &client.state {
                State::In | State::Kicked => continue,
                State::Wants => self.rooms.join(&ask, Sources::Memory, self.now),
                State::Reading(past) => {
                    let past = Past {
                        gifts: past.gifts.map(|span| self.streams.past_gifts(&ask.room, span)),
                        high: past.high.map(|span| self.streams.past_chat(&ask.room, span)),
                        normal: past.normal.map(|span| self.streams.past_events(&ask.room, span)),
                    };
                    self.rooms.join(&ask, Sources::With(&past), self.now)
                }
            };
            match asked {
                Asked::Answer(RoomAnswer::Joined(answer)) => {
                    let before = self.clients[at].at.map_or(0, |at| at.high);
                    self.clients[at].joined(*answer);
                    self.note_parts(at, before);
                }
                Asked::Answer(_) => self.clients[at].state = State::Wants,
                Asked::Asleep(room) => self.wake(&room),
                Asked::Read(past) => self.clients[at].state = State::Reading(past),
            }
        }
    }

    // What it missed it was told, or not, by the parts that this owner knows of: one that dies soon may be the only one.
    fn note_parts(&mut self, client: usize, before: u64) {
        let client = &self.clients[client];
        let Some(live) = self.rooms.live.get(&client.room) else { return };
        let behind = before + 1..=client.at.map_or(0, |at| at.high);
        for (offset, high) in (1..).zip(&self.streams.high).filter(|(offset, _)| behind.contains(offset)) {
            let is_its = matches!(high, High::Chat(message) if message.room == client.room);
            if let Some(parts) = live.chat.parts_at(offset).filter(|_| is_its) {
                self.parts_at.entry(offset).or_default().insert(parts);
            }
        }
    }

    /// Stores what changed. `losing` says which of the records is not written.
    pub fn store(&mut self, losing: impl Fn(usize) -> bool, checkpoint_too: bool) {
        let Some((effects, writes)) = self.rooms.writes(self.now) else { return };
        self.carry_out(effects);
        let entries = self.rooms.entries(&writes);
        let mut keys = HashSet::new();
        let mut revisions = Vec::new();
        for (at, (key, value, expected)) in entries.into_iter().enumerate() {
            assert!(keys.insert(key.as_str().to_owned()), "{key} twice");
            revisions.push((!losing(at)).then(|| self.put(key.as_str(), value, expected)));
        }
        if let Some((key, value, expected)) = self.rooms.written(writes, &revisions, self.now) {
            let revision = checkpoint_too.then(|| self.put(key.as_str(), value, expected));
            self.rooms.checkpoint_written(revision);
        }
    }

    fn put(&mut self, key: &str, value: Bytes, expected: u64) -> u64 {
        let revision = self.bucket.get(key).map_or(0, |(_, revision)| *revision);
        assert_eq!(revision, expected, "{key}");
        self.revision += 1;
        self.bucket.insert(key.to_owned(), (value, self.revision));
        self.revision
    }

    /// The streams drop what is oldest, of what is applied and stored: so many messages of high, and of normal.
    pub fn drop_oldest(&mut self, high: usize, normal: usize) {
        let Some((checkpoint, _)) = self.bucket.get("p.0") else { return };
        let owner = Owner { partition: Partition(0), lease: 0, streams: STREAMS, low: 1 };
        let stored = record::read::<record::Checkpoint>(owner, &Ends::of(STREAMS), checkpoint).unwrap().positions;
        let gone = &mut self.streams.gone;
        gone.0 = (gone.0 + high).min(stored.gifts.min(stored.chats) as usize).max(gone.0);
        gone.1 = (gone.1 + normal).min(stored.events as usize).max(gone.1);
    }

    /// Everything that was said is applied.
    pub fn read_all(&mut self) {
        for source in [Source::Gifts, Source::Chats, Source::Events, Source::Likes, Source::Notes] {
            self.read_on(source, usize::MAX);
        }
    }

    /// What was told since this was asked last, a line a frame: when, class, whom, what.
    pub fn take_told(&mut self) -> Vec<String> {
        let mut lines = vec![];
        for (at, batch) in self.told.drain(..) {
            for frame in &batch.frames {
                let Ok(ServerFrame::Room(room)) = ServerFrame::decode(Encoding::MessagePack, &frame.frame) else {
                    panic!("a ROOM frame was expected");
                };
                let item = |item: &RoomItem| match item.chain {
                    Chain::Loose => format!("{} {}", item.kind, String::from_utf8_lossy(&item.data.0)),
                    _ => format!("{} {}>{}", item.kind, item.prev, item.offset),
                };
                let mut items: Vec<_> = room.items.iter().map(item).collect();
                items.extend(room.heads.map(|heads| format!("heads {} {} {}", heads.gifts, heads.high, heads.normal)));
                let whom = match &frame.audience {
                    Audience::Everybody => "all".to_owned(),
                    Audience::Overseers => "overseers".to_owned(),
                    Audience::Part { part, of } => format!("{part}/{of}"),
                    Audience::User(user) => user.to_string(),
                };
                let urgent = if frame.urgent { "!" } else { "" };
                lines.push(format!("{at} {}{urgent} {whom}: {}", batch.class.name(), items.join(", ")));
            }
            lines.extend(batch.orders.iter().map(|order| format!("{at} {} order: {order:?}", batch.class.name())));
        }
        lines
    }

    /// Everything is read, told, stored, and everybody has what he lacks.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            self.read_all();
            self.pass(4_000);
            for client in &mut self.clients {
                client.deaf_for = 0;
            }
            while self.clients.iter().any(|client| matches!(client.state, State::Wants | State::Reading(_))) {
                self.ask();
            }
            self.store(|_| false, true);
        }
    }
}
