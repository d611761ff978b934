//! Somebody in rooms, and what he saw there.

use std::collections::BTreeMap;

use pushmesh_client::{Client, Event, Events, LoggedIn, Options};
use pushmesh_protocol::{
    PushId, RoomId,
    frame::{Chain, Joined, PushBody, RoomItem, item},
};

use crate::{Mesh, PATIENCE};

pub struct Viewer {
    pub name: String,
    pub client: Client,
    events: Events,
    /// By room, in the order in which they came.
    pub items: BTreeMap<String, Vec<RoomItem>>,
    pub joined: Vec<Joined>,
    /// Rooms of which something can't be had any more.
    pub gaps: Vec<String>,
    pub others: Vec<Event>,
    /// Calls and messages shown, in order: the call's id or the message's text, and the push's own id.
    pub pushes: Vec<(String, PushId)>,
    /// Times that he was logged in.
    pub logins: Vec<LoggedIn>,
}

impl Viewer {
    /// Connects over WebSocket to the comet of this index and logs in.
    pub async fn enter(mesh: &Mesh, user: &str, comet: usize) -> Viewer {
        Self::enter_with(mesh, user, comet, |_| {}).await
    }

    pub async fn enter_with(mesh: &Mesh, user: &str, comet: usize, change: impl FnOnce(&mut Options)) -> Viewer {
        let address = format!("ws://{}", mesh.door("comet", comet, "ws")).parse().expect("an address");
        let device = "screen".parse().expect("a device of a story");
        let mut options = Options::new(address, mesh.client_token(user, None), device);
        options.events = 65_536;
        (options.connect_timeout, options.ask_timeout) = (PATIENCE, PATIENCE);
        change(&mut options);
        let (client, events) = Client::connect(options);
        let mut viewer = Viewer {
            name: user.to_owned(),
            client,
            events,
            items: BTreeMap::new(),
            joined: Vec::new(),
            gaps: Vec::new(),
            others: Vec::new(),
            pushes: Vec::new(),
            logins: Vec::new(),
        };
        viewer.expect("a login", |event| matches!(event, Event::LoggedIn(_)).then_some(())).await;
        viewer
    }

    /// Joins, and waits until he is in.
    pub async fn join(&mut self, room: &str) -> Joined {
        self.client.join(RoomId::new(room).expect("a room of a story")).await;
        self.expect_joined(room).await
    }

    pub async fn expect_joined(&mut self, room: &str) -> Joined {
        self.expect(&format!("to be in {room}"), |event| match event {
            Event::Joined(joined) if joined.room.as_str() == room => Some(joined.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for an event that `wanted` takes.
    pub async fn expect<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let event = self.next(what).await;
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    /// Waits until so many items of a type have been seen in a room, and returns them all.
    pub async fn expect_items(&mut self, room: &str, kind: &str, count: usize) -> Vec<RoomItem> {
        loop {
            let seen = self.of_kind(room, kind).count();
            if seen >= count {
                return self.seen(room, kind);
            }
            self.next(&format!("{count} of {kind} in {room}, {seen} seen")).await;
        }
    }

    /// Waits until a line with this text has been seen.
    pub async fn expect_chat(&mut self, room: &str, text: &str) {
        while !self.chat(room).iter().any(|line| line == text) {
            self.next(&format!("the line {text:?} in {room}")).await;
        }
    }

    /// Waits until this call or message has been shown.
    pub async fn expect_push(&mut self, what: &str) -> PushId {
        loop {
            if let Some((_, id)) = self.pushes.iter().find(|(shown, _)| shown == what) {
                return *id;
            }
            self.next(&format!("{what:?} to be pushed, {:?} were", self.pushes)).await;
        }
    }

    /// Waits until he has been logged in so often.
    pub async fn expect_logins(&mut self, count: usize) -> &LoggedIn {
        while self.logins.len() < count {
            self.next(&format!("login {count}")).await;
        }
        &self.logins[count - 1]
    }

    /// Notes what has come already, without waiting.
    pub fn read(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.note(event);
        }
    }

    pub fn seen(&self, room: &str, kind: &str) -> Vec<RoomItem> {
        self.of_kind(room, kind).cloned().collect()
    }

    fn of_kind<'a>(&'a self, room: &str, kind: &'a str) -> impl Iterator<Item = &'a RoomItem> {
        self.items.get(room).into_iter().flatten().filter(move |item| item.kind.as_str() == kind)
    }

    /// The lines of chat seen in a room, in order.
    pub fn chat(&self, room: &str) -> Vec<String> {
        let lines = self.seen(room, item::CHAT).into_iter();
        lines.map(|line| String::from_utf8_lossy(&line.data.0).into_owned()).collect()
    }

    /// The keys of the gifts seen in a room, in order.
    pub fn gifts(&self, room: &str) -> Vec<String> {
        let gifts = self.seen(room, item::GIFT).into_iter();
        gifts.map(|gift| item::read::<item::Gift>(&gift.data).expect("a gift's data").key).collect()
    }

    /// Nothing twice, and every chain in its order.
    pub fn assert_in_order(&self) {
        for (room, items) in &self.items {
            for chain in [Chain::Gifts, Chain::High, Chain::Normal] {
                let offsets: Vec<u64> =
                    items.iter().filter(|item| item.chain == chain).map(|item| item.offset).collect();
                let ascends = offsets.windows(2).all(|pair| pair[0] < pair[1]);
                assert!(ascends, "{}: {chain:?} of {room}: {offsets:?}", self.name);
            }
        }
    }

    async fn next(&mut self, expected: &str) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
        let event = event.unwrap_or_else(|_| {
            let counts: Vec<_> = self.items.iter().map(|(room, items)| (room, items.len())).collect();
            panic!("{} waited for {expected}; items {counts:?}, others {:?}", self.name, self.others)
        });
        let event = event.unwrap_or_else(|| panic!("{}'s client ended; expected {expected}", self.name));
        self.note(event.clone());
        event
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Room { room, item } => self.items.entry(room.to_string()).or_default().push(item),
            Event::Joined(joined) => self.joined.push(joined),
            Event::RoomGap { room, .. } => self.gaps.push(room.to_string()),
            Event::LoggedIn(login) => self.logins.push(login),
            Event::Push(push) => {
                let what = match &push.body {
                    PushBody::Call(call) => call.call_id.to_string(),
                    PushBody::Message(message) => String::from_utf8_lossy(&message.data.0).into_owned(),
                };
                self.pushes.push((what, push.id));
            }
            other => {
                self.others.push(other);
                let excess = self.others.len().saturating_sub(20);
                self.others.drain(..excess);
            }
        }
    }
}
