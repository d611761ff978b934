//! Somebody with a device who is connected, and what he was shown.

use std::collections::HashMap;

use pushmesh_client::{Client, Event, Events, LoggedIn, Options};
use pushmesh_protocol::{
    Kind, PushId,
    frame::{Push, PushBody},
};

use crate::{Mesh, PATIENCE};

pub struct Person {
    pub name: String,
    pub client: Client,
    events: Events,
    /// Every push shown, in order.
    pub shown: Vec<Push>,
    /// Calls shown as ended, in order.
    pub ended: Vec<String>,
    pub logins: Vec<LoggedIn>,
    pub last: Vec<Event>,
}

impl Person {
    /// Begins to connect over WebSocket; does not wait.
    pub fn connect(mesh: &Mesh, user: &str, device: &str, comet: usize, change: impl FnOnce(&mut Options)) -> Person {
        let address = format!("ws://{}", mesh.door("comet", comet, "ws")).parse().expect("an address");
        let mut options =
            Options::new(address, mesh.client_token(user, None), device.parse().expect("a device of a story"));
        // A story reads when it comes to a person: what is not read must not look like a slow client.
        options.events = 8192;
        // A login that is given up and said again is another login.
        (options.connect_timeout, options.ask_timeout) = (PATIENCE, PATIENCE);
        change(&mut options);
        let (client, events) = Client::connect(options);
        Person {
            name: user.to_owned(),
            client,
            events,
            shown: Vec::new(),
            ended: Vec::new(),
            logins: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Takes the next event; panics with what is expected when none comes.
    async fn next(&mut self, expected: &str) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
        let event = event.unwrap_or_else(|_| {
            let calls: Vec<_> = self.shown.iter().map(describe).collect();
            panic!(
                "{} waited for {expected}; shown {calls:?}, ended {:?}, events {:?}",
                self.name, self.ended, self.last
            )
        });
        let event =
            event.unwrap_or_else(|| panic!("{}'s client ended; expected {expected}: {:?}", self.name, self.last));
        self.note(&event);
        event
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Push(push) => self.shown.push(push.clone()),
            Event::CallEnded(ended) => self.ended.push(ended.call_id.to_string()),
            Event::LoggedIn(login) => self.logins.push(login.clone()),
            other => {
                self.last.push(other.clone());
                let excess = self.last.len().saturating_sub(20);
                self.last.drain(..excess);
            }
        }
    }

    /// Notes what has come already, without waiting.
    pub fn read(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.note(&event);
        }
    }

    pub async fn expect_logged_in(&mut self) -> LoggedIn {
        let before = self.logins.len();
        while self.logins.len() == before {
            self.next("a login").await;
        }
        self.logins.last().expect("one came").clone()
    }

    /// Waits until this call has been shown.
    pub async fn expect_call(&mut self, call: &str) -> PushId {
        loop {
            if let Some(push) = self.shown.iter().rev().find(|push| describe(push) == call) {
                return push.id;
            }
            self.next(&format!("the call {call}")).await;
        }
    }

    /// Waits until this call has been shown for this login of his, whatever it was shown for before.
    pub async fn expect_call_of(&mut self, kind: &str, call: &str, login: &str) {
        let kind = kind.parse().expect("a kind of a story");
        let id = self.push_id(&kind, call, login);
        while !self.shown.iter().any(|push| push.id == id) {
            self.next(&format!("the call {call} for the login {login}")).await;
        }
    }

    fn push_id(&self, kind: &Kind, call: &str, login: &str) -> PushId {
        let (call, login) = (call.parse().expect("a call of a story"), login.parse().expect("a login of a story"));
        PushId::of_call(kind, &call, &self.name.parse().expect("a user of a story"), &login)
    }

    /// What was shown, in order: `call@login` for calls, `login` being the one of these whose push it is, else `another`.
    pub fn told(&self, logins: &[&str]) -> Vec<String> {
        let line = |push: &Push| match &push.body {
            PushBody::Call(call) => {
                let of = |login: &&&str| self.push_id(&call.kind, call.call_id.as_str(), login) == push.id;
                format!("{}@{}", call.call_id, logins.iter().find(of).unwrap_or(&"another"))
            }
            PushBody::Message(_) => describe(push),
        };
        self.shown.iter().map(line).collect()
    }

    /// Waits until this call has been shown as ended.
    pub async fn expect_ended(&mut self, call: &str) {
        while !self.ended.iter().any(|ended| ended == call) {
            self.next(&format!("the end of {call}")).await;
        }
    }

    /// Waits until a backend's message has been shown.
    pub async fn expect_message(&mut self, text: &str) {
        while !self.shown.iter().any(|push| describe(push) == text) {
            self.next(&format!("the message {text}")).await;
        }
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

    /// How often each call or message was shown.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for push in &self.shown {
            *counts.entry(describe(push)).or_default() += 1;
        }
        counts
    }

    /// Breaks the connection for good, as a dying battery does.
    pub fn vanish(self) {
        self.client.close();
    }
}

/// The call's id, or the message's text.
fn describe(push: &Push) -> String {
    match &push.body {
        PushBody::Call(call) => call.call_id.to_string(),
        PushBody::Message(message) => String::from_utf8_lossy(&message.data.0).into_owned(),
    }
}
