//! A provisioned nats-server, instances of room-fanout, and an api that the test plays.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pushmesh_bus::{Bus, Config, Kv, Outgoing, RequestError, StreamEvent};
use pushmesh_membership::{Me, Membership, Tuning};
use pushmesh_protocol::{
    GiftKey, Instance, Partition, Partitions, RoomId, Token, UserId,
    frame::{Role, RoomState},
    message::{DeadLetter, Epoch, Millis},
    name::{Bucket, Filter, Key, MessageId, Stream, Subject},
    room::{
        Gift, LikesTotal, MuteRecord, Note, RoleRecord, RoomAnswer, RoomAsk, RoomCount, RoomEvent, RoomHappening,
        RoomInfo, RoomMessage, RoomPresence, StateRecord,
    },
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_testkit::{Nats, Process, ProcessOptions, wait_for};

/// More than anything takes on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(60);

pub struct Mesh {
    pub nats: Nats,
    pub bus: Bus,
    numbers: AtomicU64,
    stream_max_bytes: u64,
}

pub fn partitions() -> Partitions {
    Partitions::new(8).unwrap()
}

pub fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

pub fn partition(of: &str) -> Partition {
    partitions().of_room(&room(of))
}

pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
}

pub async fn connect(url: &str, service: &str, instance: &str) -> Bus {
    Bus::connect(&Config::to(url), &token(service), &Instance::new(instance).unwrap()).await.unwrap()
}

impl Mesh {
    pub async fn start() -> Mesh {
        Self::with_streams_of(TopologyConfig::default().stream_max_bytes).await
    }

    /// Streams and buckets hold so many bytes each.
    pub async fn with_streams_of(stream_max_bytes: u64) -> Mesh {
        let nats = Nats::start().await;
        let bus = connect(&nats.url(), "test", "test").await;
        let mesh = Mesh { nats, bus, numbers: AtomicU64::new(1), stream_max_bytes };
        mesh.provision().await;
        mesh
    }

    /// What is missing is made.
    pub async fn provision(&self) {
        let stream_max_bytes = self.stream_max_bytes;
        let config = TopologyConfig { partitions: partitions(), stream_max_bytes, ..TopologyConfig::default() };
        pushmesh_bus::provision(&self.bus, &topology(&config)).await.unwrap();
    }

    pub async fn room_fanout(&self, name: &str, settings: &[&str]) -> Process {
        let own = [
            format!("nats.url={}", self.nats.url()),
            format!("mesh.instance={name}"),
            "admin.listen=127.0.0.1:0".into(),
            "telemetry.log=info,room_fanout=debug".into(),
        ];
        let settings = own.into_iter().chain(settings.iter().map(|setting| (*setting).to_owned()));
        let args = settings.flat_map(|setting| ["--set".to_owned(), setting]);
        Process::start(name, ProcessOptions::new(env!("CARGO_BIN_EXE_room-fanout")).args(args)).await
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The next gift, as api would store it; of the value one where the test does not care.
    pub fn gift(&self, to: &str, from: &str, value: u64) -> Outgoing {
        let number = self.number();
        let key = GiftKey::new(&format!("0190a5da-c967-7{:03x}-8000-{number:012x}", number % 0x1000)).unwrap();
        let gift = Gift {
            key: key.clone(),
            room: room(to),
            from: user(from),
            to: None,
            gift: token("rose"),
            count: 1,
            value,
            note: None,
            at: now(),
            trace: None,
        };
        Outgoing {
            subject: Subject::gift(partition(to), &room(to)),
            payload: wire::encode(&gift).into(),
            id: MessageId::gift(&key),
            trace: None,
        }
    }

    pub async fn give(&self, to: &str, from: &str, value: u64) -> u64 {
        self.bus.store(self.gift(to, from, value)).await.unwrap().sequence
    }

    pub async fn give_all(&self, gifts: Vec<Outgoing>) {
        for outcome in self.bus.store_all(&Stream::ROOM_HIGH, gifts).await {
            outcome.unwrap();
        }
    }

    pub async fn chat(&self, to: &str, from: &str, text: &str) -> u64 {
        let message = RoomMessage {
            room: room(to),
            kind: token("chat"),
            from: Some(user(from)),
            at: now(),
            data: text.into(),
            trace: None,
        };
        let id = MessageId::room(&room(to), Some(&user(from)), &token(&self.number().to_string()));
        self.store(Subject::room_chat(partition(to), &room(to)), id, wire::encode(&message)).await
    }

    pub async fn event(&self, to: &str, what: RoomHappening) -> u64 {
        let event = RoomEvent { room: room(to), by: Some(user("host")), at: now(), what, trace: None };
        let id = MessageId::room(&room(to), None, &token(&self.number().to_string()));
        self.store(Subject::room_event(partition(to), &room(to)), id, wire::encode(&event)).await
    }

    /// An application's own message of class normal.
    pub async fn normal(&self, to: &str, text: &str) -> u64 {
        self.event(to, RoomHappening::Message { kind: token("custom"), data: text.into() }).await
    }

    pub async fn likes(&self, to: &str, api: &str, life: Epoch, total: u64) {
        let api = Instance::new(api).unwrap();
        let likes = LikesTotal { room: room(to), total, at: now() };
        let id = MessageId::likes(&room(to), &api, life, total);
        self.store(Subject::room_likes(partition(to), &room(to), &api, life), id, wire::encode(&likes)).await;
    }

    pub async fn note(&self, to: &str, id: &str, text: &str) -> u64 {
        let note = Note { room: room(to), kind: token("note"), from: None, at: now(), data: text.into() };
        let message = MessageId::room(&room(to), None, &token(id));
        self.store(Subject::room_note(partition(to), &room(to), &token(id)), message, wire::encode(&note)).await
    }

    pub async fn garbage(&self, subject: Subject) -> u64 {
        let id = MessageId::room(&room("garbage"), None, &token(&self.number().to_string()));
        self.store(subject, id, b"garbage".to_vec()).await
    }

    async fn store(&self, subject: Subject, id: MessageId, payload: Vec<u8>) -> u64 {
        self.bus.store(Outgoing { subject, payload: payload.into(), id, trace: None }).await.unwrap().sequence
    }

    async fn bucket(&self, bucket: Bucket) -> Kv {
        self.bus.bucket(&bucket).await.unwrap()
    }

    /// As api does it: the bucket, then the stream.
    pub async fn set_state(&self, of: &str, state: RoomState) {
        let record = wire::encode(&StateRecord { state, at: now() });
        self.bucket(Bucket::ROOMS).await.put(&Key::room_state(&room(of)), record.into()).await.unwrap();
        self.event(of, RoomHappening::State(state)).await;
    }

    pub async fn set_role(&self, of: &str, who: &str, role: Role) {
        let record = wire::encode(&RoleRecord { role, at: now() });
        self.bucket(Bucket::ROOMS).await.put(&Key::room_role(&room(of), &user(who)), record.into()).await.unwrap();
        self.event(of, RoomHappening::Role { user: user(who), role: Some(role) }).await;
    }

    pub async fn mute(&self, of: &str, who: &str, within: Duration) {
        let until = now() + within.as_millis() as Millis;
        let record = wire::encode(&MuteRecord { until, by: None, at: now() });
        let key = Key::mute_in(&room(of), &user(who));
        self.bucket(Bucket::MUTES).await.put_for(&key, record.into(), within).await.unwrap();
        self.event(of, RoomHappening::Mute { user: user(who), until, everywhere: false }).await;
    }

    /// Before its time. As api does it.
    pub async fn unmute(&self, of: &str, who: &str) {
        self.bucket(Bucket::MUTES).await.purge(&Key::mute_in(&room(of), &user(who))).await.unwrap();
        self.event(of, RoomHappening::Mute { user: user(who), until: 0, everywhere: false }).await;
    }

    /// Asks the owner of a room, whoever that is, until it can say something.
    pub async fn ask(&self, of: &str, ask: &RoomAsk) -> RoomAnswer {
        ask_over(&self.bus, of, ask).await
    }

    pub async fn info(&self, of: &str) -> RoomInfo {
        match self.ask(of, &RoomAsk::Info { room: room(of) }).await {
            RoomAnswer::Info(info) => info,
            other => panic!("{other:?}"),
        }
    }

    /// What each user has given, the greatest first; and the sum.
    pub async fn ranking(&self, of: &str) -> (Vec<(String, u64)>, u64) {
        match self.ask(of, &RoomAsk::Ranking { room: room(of), places: 1000 }).await {
            RoomAnswer::Ranking { top, gifts_total } => {
                (top.into_iter().map(|ranked| (ranked.user.to_string(), ranked.total)).collect(), gifts_total)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Until a room's ledger says what it should.
    pub async fn expect_total(&self, of: &str, total: u64) {
        wait_for("the ledger's total", LONG, async || {
            let info = self.info(of).await;
            if info.gifts_total == total { Ok(()) } else { Err(format!("{} of {total}", info.gifts_total)) }
        })
        .await;
    }

    pub async fn dead(&self) -> Vec<DeadLetter> {
        let mut watch = self.bus.watch_stream(&Stream::DEAD, Filter::dead()).await.unwrap();
        let mut letters = vec![];
        loop {
            match watch.next().await.unwrap() {
                StreamEvent::Message { payload, .. } => letters.push(wire::decode(&payload).unwrap()),
                StreamEvent::CaughtUp => return letters,
                StreamEvent::Restarted => letters.clear(),
            }
        }
    }

    /// The instance that owns a room, by the lease, and the lease's epoch.
    pub async fn owner(&self, of: &str) -> Option<(String, Epoch)> {
        let key = Key::lease(&token("room-fanout"), partition(of));
        let entry = self.bucket(Bucket::MESH).await.get(&key).await.unwrap()?;
        let lease: pushmesh_protocol::message::LeaseRecord = wire::decode(&entry.value).unwrap();
        Some((lease.owner.to_string(), entry.revision))
    }

    /// Which of two names owns a room; the other one is returned second.
    pub async fn owner_of<'a>(&self, of: &str, names: [&'a str; 2]) -> (&'a str, &'a str) {
        let (owner, _) = self.owner(of).await.expect("everything has an owner once all are ready");
        if owner == names[0] { (names[0], names[1]) } else { (names[1], names[0]) }
    }

    pub async fn metric(&self, process: &Process, name: &str) -> f64 {
        let address = format!("http://{}/metrics", process.door("admin"));
        let text = reqwest::get(address).await.unwrap().text().await.unwrap();
        let values = text.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

pub async fn ask_over(bus: &Bus, of: &str, ask: &RoomAsk) -> RoomAnswer {
    let payload = bytes::Bytes::from(wire::encode(ask));
    wait_for("an owner's answer", LONG, async || {
        let asked = bus.request(Subject::room_ask(partition(of)), payload.clone(), Duration::from_secs(5)).await;
        match asked.map(|answer| wire::decode::<RoomAnswer>(&answer).unwrap()) {
            Ok(RoomAnswer::NotReady) => Err("not ready".to_owned()),
            Ok(answer) => Ok(answer),
            Err(error @ RequestError::TooLarge { .. }) => panic!("{error}"),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Processes by name, so that a story can kill the one that it finds to be an owner.
pub struct Crew(HashMap<String, Process>);

impl Crew {
    pub async fn start(mesh: &Mesh, names: &[&str], settings: &[&str]) -> Crew {
        let mut crew = HashMap::new();
        for name in names {
            crew.insert((*name).to_owned(), mesh.room_fanout(name, settings).await);
        }
        Crew(crew)
    }

    pub async fn add(&mut self, mesh: &Mesh, name: &str, settings: &[&str]) {
        self.0.insert(name.to_owned(), mesh.room_fanout(name, settings).await);
    }

    pub fn at(&self, name: &str) -> &Process {
        &self.0[name]
    }

    pub fn get(&mut self, name: &str) -> &mut Process {
        self.0.get_mut(name).unwrap()
    }
}

/// A comet, as far as owners know it: a member that says how many are in its rooms.
pub struct Comet {
    pub bus: Bus,
    membership: Membership,
}

impl Comet {
    pub async fn join(mesh: &Mesh, name: &str) -> Comet {
        let bus = connect(&mesh.nats.url(), "comet", name).await;
        let instance = Instance::new(name).unwrap();
        let me = Me { service: token("comet"), instance, weight: 10, address: String::new() };
        let membership = Membership::join(&bus, me, Tuning::default()).await.unwrap();
        Comet { bus, membership }
    }

    /// Everybody of this comet who is in a partition's rooms.
    pub async fn count(&self, rooms: &[(&str, u32)]) {
        let counts = |here: Partition| {
            let of = rooms.iter().filter(move |(name, _)| partition(name) == here);
            let count = |(name, members): &(&str, u32)| RoomCount {
                room: room(name),
                members: *members,
                came: vec![],
                went: vec![],
            };
            of.map(count).collect()
        };
        for partition in partitions().all() {
            let report = RoomPresence {
                comet: self.membership.me().instance.clone(),
                comet_epoch: self.membership.epoch(),
                whole: true,
                rooms: counts(partition),
            };
            let payload = wire::encode(&report).into();
            self.bus.publish(Subject::room_presence(partition), payload).await.unwrap();
        }
    }
}
