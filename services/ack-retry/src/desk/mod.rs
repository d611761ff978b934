//! The state of one partition: its pushes, its sessions, and what is to be done about them.
//!
//! Async chooses, the desk applies: [`Desk::apply`] takes one [`Event`] and the time, and returns [`Action`]s, in order. It
//! reads no clock and does no I/O, so that every promise is tested by feeding it events.
//!
//! How a push is kept safe: its message in PUSH stays unacknowledged until the push is settled or stands in the bucket
//! `pending`. The number of tries is raised there *before* each transmission but the first, so that a new owner, who counts
//! everything delivered to the old one as sent once, never sends a fourth time. At most one effect of a push is on its
//! way at a time: `pending` sees its writes in order.

mod action;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod bounds_tests;
mod ending;
mod entry;
mod event;
mod fact;
mod logins;
#[cfg(test)]
mod logins_properties;
#[cfg(test)]
mod logins_tests;
mod orders;
mod presence;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod properties;
mod rules;
mod sending;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod world;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

pub use action::{Action, Effect};
pub use entry::Outcome;
use entry::{Entry, User};
pub use event::{Done, Event};
pub use fact::Fact;
pub use logins::Written;
use pushmesh_protocol::{
    Partition, PushId, Token, UserId,
    message::{Epoch, Millis},
};
pub use rules::Rules;

use crate::{
    logins::Logins,
    sessions::Sessions,
    slab::{Id, Slab},
    wheel::Wheel,
};

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    Push(Id),
    Session(Id),
    /// Users that nothing is known of any more are forgotten.
    Sweep,
}

/// How much the desk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Pushes not settled, those in inboxes included.
    pub pushes: usize,
    /// Those in inboxes.
    pub inbox: usize,
    /// Pushes whose content is in memory.
    pub in_hand: usize,
    pub bytes: usize,
}

/// How long a user's settled ids outlive his last push and session.
const SETTLED_KEPT: Millis = 10 * 60 * 1000;
const SWEEP_EVERY: Millis = 60 * 1000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Desk {
    rules: Rules,
    partition: Partition,
    /// The lease's: stands on every item sent.
    epoch: Epoch,
    ready: bool,
    connected: bool,
    down_since: Millis,
    wheel: Wheel<Timer>,
    pushes: Slab<Entry>,
    by_id: HashMap<PushId, Id>,
    users: HashMap<UserId, User>,
    sessions: Sessions,
    /// All of them, and what stands beside them: false while a snapshot is read.
    sessions_known: bool,
    logins: Logins,
    /// Messages of PUSH whose acknowledgement waits for purges.
    holds: HashMap<u64, Hold>,
    /// The newest epoch seen of each service that makes pushes.
    sources: HashMap<Token, Epoch>,
    load: Load,
    out: Vec<Action>,
}

#[derive(Debug, Default)]
struct Hold {
    purges: usize,
    released: bool,
}

impl Desk {
    pub fn new(rules: Rules, partition: Partition, epoch: Epoch, now: Millis) -> Self {
        let mut wheel = Wheel::new(now);
        wheel.insert(now + SWEEP_EVERY, Timer::Sweep);
        Self {
            rules,
            partition,
            epoch,
            ready: false,
            connected: true,
            down_since: now,
            wheel,
            pushes: Slab::default(),
            by_id: HashMap::new(),
            users: HashMap::new(),
            sessions: Sessions::default(),
            sessions_known: false,
            logins: Logins::default(),
            holds: HashMap::new(),
            sources: HashMap::new(),
            load: Load::default(),
            out: Vec::new(),
        }
    }

    /// Takes one event; what is due by `now` is done first.
    pub fn apply(&mut self, event: Event, now: Millis) -> Vec<Action> {
        self.fire(now);
        match event {
            Event::Order { sequence, order, stored_at, delivered_before } => {
                self.order(sequence, order, stored_at, delivered_before, now);
            }
            Event::Loaded { pending } => self.loaded(pending, now),
            Event::Ready => self.become_ready(now),
            Event::Answer { user, conn, push, outcome } => self.answer(&user, &conn, push, outcome, now),
            Event::Session { user, conn, session, revision } => {
                self.session_put(user, conn, session, revision, now);
            }
            Event::SessionGone { user, conn } => {
                let known = self.sessions.remove(&user, &conn);
                self.session_ended(known, now);
            }
            Event::LoginStands { user, conn, login, revision } => self.login_stands(&user, &conn, login, revision),
            Event::LoginGone { user, conn, revision } => self.login_gone(&user, &conn, revision),
            Event::SessionsRestarted => {
                self.sessions_known = false;
                self.sessions.restart();
                self.logins.restart();
            }
            Event::SessionsCurrent => self.sessions_current(now),
            Event::Comets(comets) => {
                for change in self.sessions.set_comets(comets, now) {
                    self.changed(Some(change), now);
                }
            }
            Event::Connected(connected) => self.connection(connected, now),
            Event::Done(done) => self.done(done, now),
            Event::Tick => {}
        }
        std::mem::take(&mut self.out)
    }

    /// When the desk wants the next event, at the latest.
    pub fn next_wake(&self) -> Option<Millis> {
        self.wheel.next()
    }

    pub fn load(&self) -> Load {
        self.load
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether more messages of PUSH should wait in the stream.
    pub fn is_full(&self) -> bool {
        let Load { pushes, in_hand, bytes, .. } = self.load;
        in_hand >= self.rules.pushes_max || bytes >= self.rules.bytes_max || pushes >= self.rules.entries_max
    }

    fn fire(&mut self, now: Millis) {
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for timer in due {
            match timer {
                Timer::Push(id) => {
                    if let Some(entry) = self.pushes.get_mut(id) {
                        entry.timer = None;
                        self.step(id, now);
                    }
                }
                Timer::Session(id) => self.session_due(id, now),
                Timer::Sweep => {
                    let sessions = &self.sessions;
                    self.users.retain(|id, user| {
                        !user.pushes.is_empty() || sessions.knows_user(id) || now < user.touched + SETTLED_KEPT
                    });
                    self.wheel.insert(now + SWEEP_EVERY, Timer::Sweep);
                }
            }
        }
    }

    fn become_ready(&mut self, now: Millis) {
        self.ready = true;
        let users: HashSet<UserId> = self.sessions.users().cloned().collect();
        for user in users {
            self.replace_older(&user, now);
        }
        // What waits in the inbox for another login than those that have tried asks which ones these are.
        self.step_all_logins();
        for id in self.pushes.ids() {
            self.note_reconnect_since_last(id);
            self.step(id, now);
        }
    }

    // While the broker is away nothing is sent, and the time does not count: an acknowledgement could not have come.
    fn connection(&mut self, connected: bool, now: Millis) {
        if connected == self.connected {
            return;
        }
        self.connected = connected;
        if !connected {
            self.down_since = now;
            return;
        }
        for id in self.pushes.ids() {
            if let Some(last) = self.pushes.get_mut(id).and_then(|entry| entry.last_sent.as_mut()) {
                *last += now.saturating_sub(self.down_since.max(*last));
            }
            self.step(id, now);
        }
    }

    fn note(&mut self, fact: Fact) {
        self.out.push(Action::Note(fact));
    }

    fn effect(&mut self, effect: Effect) {
        self.out.push(Action::Effect(effect));
    }

    fn user(&mut self, user: &UserId, now: Millis) -> &mut User {
        if !self.users.contains_key(user) {
            self.users.insert(user.clone(), User::default());
        }
        let user = self.users.get_mut(user).expect("inserted above");
        user.touched = now;
        user
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
