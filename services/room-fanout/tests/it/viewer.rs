//! Somebody in a room: what a comet and its client do with frames, strictly by the rules.

use pushmesh_bus::{Bus, Subscription};
use pushmesh_protocol::{
    RoomId, UserId,
    frame::{Chain, Encoding, Joined, RoomItem, RoomPosition, ServerFrame},
    message::Epoch,
    name::{Filter, Subject},
    room::{Audience, JoinAsk, RoomAnswer, RoomAsk, RoomBatch, RoomOrder, part_of},
    wire,
};

use crate::mesh::{LONG, Mesh, ask_over, connect, partition, room, user};

pub struct Viewer {
    pub user: UserId,
    pub room: RoomId,
    name: String,
    bus: Bus,
    frames: Subscription,
    pub joined: Joined,
    pub position: RoomPosition,
    pub overseer: bool,
    /// The newest lease heard of.
    pub lease: Epoch,
    /// Every item shown, in order.
    pub items: Vec<RoomItem>,
    pub orders: Vec<RoomOrder>,
    /// Times that something was missing and asked for again.
    pub gaps: usize,
    /// Times that it could not be got back.
    pub lost: usize,
}

impl Viewer {
    /// Comes into a room for the first time.
    pub async fn join(mesh: &Mesh, of: &str, who: &str) -> Viewer {
        Self::come_back(mesh, of, who, None).await
    }

    /// Comes into a room, knowing everything up to a position.
    pub async fn come_back(mesh: &Mesh, of: &str, who: &str, resume: Option<RoomPosition>) -> Viewer {
        let bus = connect(&mesh.nats.url(), "comet", &format!("of-{who}")).await;
        let frames = bus.subscribe(Filter::from(Subject::room_frame(partition(of), &room(of)))).await.unwrap();
        let (joined, overseer, lease, missed) = ask(&bus, of, who, resume).await;
        let mut viewer = Viewer {
            user: user(who),
            room: room(of),
            name: of.to_owned(),
            bus,
            frames,
            position: resume.filter(|_| joined.recovered).unwrap_or(joined.position),
            joined,
            overseer,
            lease,
            items: vec![],
            orders: vec![],
            gaps: 0,
            lost: 0,
        };
        viewer.show_missed(missed).await;
        viewer
    }

    async fn show_missed(&mut self, missed: Vec<bytes::Bytes>) {
        for frame in missed {
            let gap = self.show(&frame);
            assert!(!gap, "what was missed has a gap: {:?} of {:?}", self.position, self.joined);
        }
        self.position = self.joined.position;
    }

    /// Joins again where it stands: asks for what is missing.
    async fn recover(&mut self) {
        self.gaps += 1;
        let who = self.user.to_string();
        let (joined, overseer, lease, missed) = ask(&self.bus, &self.name, &who, Some(self.position)).await;
        if !joined.recovered {
            self.lost += 1;
            self.position = joined.position;
        }
        self.overseer = overseer;
        self.lease = self.lease.max(lease);
        self.joined = joined;
        self.show_missed(missed).await;
    }

    /// Takes what comes until the story has what it waits for.
    pub async fn until(&mut self, what: &str, mut seen: impl FnMut(&Viewer) -> bool) {
        let waited = tokio::time::timeout(LONG, async {
            while !seen(self) {
                let message = self.frames.next().await.unwrap();
                self.take(&message.payload).await;
            }
        });
        if waited.await.is_err() {
            panic!("{} waited for {what}; shown: {:?}, at {:?}", self.user, self.told(), self.position);
        }
    }

    /// Takes what is here already.
    pub async fn catch_up(&mut self) {
        while let Some(message) = self.frames.try_next() {
            self.take(&message.payload).await;
        }
    }

    async fn take(&mut self, payload: &[u8]) {
        let batch: RoomBatch = wire::decode(payload).unwrap();
        assert_eq!(batch.room, self.room);
        if batch.epoch < self.lease {
            return;
        }
        self.lease = batch.epoch;
        for frame in &batch.frames {
            let mine = match &frame.audience {
                Audience::Everybody => true,
                Audience::Part { part, of } => !self.overseer && part_of(&self.user, *of) == *part,
                Audience::Overseers => self.overseer,
                Audience::User(user) => *user == self.user,
            };
            assert!(frame.frame.len() <= 1400 || is_single(&frame.frame), "{} bytes", frame.frame.len());
            if mine && self.show(&frame.frame) {
                self.recover().await;
            }
        }
        for order in batch.orders {
            if let RoomOrder::Oversee { user, overseer } = &order
                && *user == self.user
            {
                self.overseer = *overseer;
            }
            self.orders.push(order);
        }
    }

    /// The client's rule. Whether there is a gap.
    fn show(&mut self, frame: &[u8]) -> bool {
        let frame = ServerFrame::decode(Encoding::MessagePack, frame).unwrap();
        let ServerFrame::Room(told) = frame else { panic!("{frame:?}") };
        if told.epoch != self.position.epoch {
            return true;
        }
        for item in told.items {
            let last = match item.chain {
                Chain::Gifts => &mut self.position.gifts,
                Chain::High => &mut self.position.high,
                Chain::Normal => &mut self.position.normal,
                Chain::Loose => {
                    self.items.push(item);
                    continue;
                }
            };
            if item.offset <= *last {
                continue;
            }
            if item.prev > *last {
                return true;
            }
            *last = item.offset;
            self.items.push(item);
        }
        told.heads.is_some_and(|heads| {
            let at = &self.position;
            heads.gifts > at.gifts || heads.high > at.high || heads.normal > at.normal
        })
    }

    pub fn count(&self, kind: &str) -> usize {
        self.of(kind).count()
    }

    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a RoomItem> {
        self.items.iter().filter(move |item| item.kind.as_str() == kind)
    }

    /// The texts of a type, in the order they were shown.
    pub fn texts(&self, kind: &str) -> Vec<String> {
        self.of(kind).map(|item| String::from_utf8(item.data.0.to_vec()).unwrap()).collect()
    }

    /// The last item of a type, read.
    pub fn last<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Option<T> {
        let items: Vec<_> = self.of(kind).collect();
        items.last().map(|item| pushmesh_protocol::frame::item::read(&item.data).unwrap())
    }

    /// For people.
    fn told(&self) -> Vec<String> {
        let word = |item: &RoomItem| format!("{}@{}", item.kind, item.offset);
        self.items.iter().rev().take(40).rev().map(word).collect()
    }
}

async fn ask(bus: &Bus, of: &str, who: &str, resume: Option<RoomPosition>) -> (Joined, bool, Epoch, Vec<bytes::Bytes>) {
    let ask = RoomAsk::Join(JoinAsk { room: room(of), user: user(who), resume, trace: None });
    match ask_over(bus, of, &ask).await {
        RoomAnswer::Joined(answer) => (answer.joined, answer.overseer, answer.epoch, answer.missed),
        other => panic!("{other:?}"),
    }
}

fn is_single(frame: &[u8]) -> bool {
    match ServerFrame::decode(Encoding::MessagePack, frame) {
        Ok(ServerFrame::Room(room)) => room.items.len() <= 1,
        _ => false,
    }
}
