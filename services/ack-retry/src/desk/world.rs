//! What surrounds a desk, for its tests: the stream, the buckets, the comets, and an owner that may die.

mod said;

use std::collections::{BTreeMap, HashMap};

use pushmesh_protocol::{
    ConnId, DeviceId, Instance, Kind, LoginId, Partition, PushId, UserId,
    message::{
        AtEnd, CometOrder, DeadReason, EndedBy, LoginAnswer, LoginReport, Pending, PushOrder, Session, SessionLogin,
        Successor,
    },
};

use super::*;

pub const RETRY: Millis = 10_000;
pub const SUSPECT: Millis = 2_000;
pub const LEFT: Millis = 60_000;
pub const LIFETIME: Millis = 3_600_000;

pub fn rules() -> Rules {
    Rules {
        retry_interval: Duration::from_millis(RETRY),
        transmissions: 3,
        suspect_after: Duration::from_millis(SUSPECT),
        left_after: Duration::from_millis(LEFT),
        inbox_max_age: Duration::from_secs(7 * 24 * 3600),
        inbox_max_per_user: 3,
        pushes_max: 1_000,
        bytes_max: 1 << 20,
        entries_max: 10_000,
        withdrawal_lifetime: Duration::from_millis(LIFETIME),
    }
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Millis,
    pub comet: Instance,
    pub user: UserId,
    pub conn: ConnId,
    pub order: CometOrder,
    /// Answered with "gone".
    pub gone: bool,
}

impl Sent {
    pub fn push(&self) -> Option<PushId> {
        match &self.order {
            CometOrder::Push(push) => Some(push.id),
            CometOrder::CallEnded(ended) => Some(ended.id),
            CometOrder::Kick(_) => None,
        }
    }
}

/// A desk and everything it talks to.
pub struct World {
    pub desk: Desk,
    pub now: Millis,
    pub rules: Rules,
    pub stream: BTreeMap<u64, (PushOrder, Millis)>,
    pub sequence: u64,
    pub delivered: u64,
    pub pending: BTreeMap<(UserId, PushId), Pending>,
    pub sessions: BTreeMap<(UserId, ConnId), (Session, u64)>,
    /// What stands beside them.
    pub logins: BTreeMap<(UserId, ConnId), (SessionLogin, u64)>,
    pub revision: u64,
    pub comets: HashMap<Instance, Epoch>,
    pub effects: Vec<Effect>,
    pub sent: Vec<Sent>,
    pub facts: Vec<Fact>,
    pub dead: Vec<(PushId, DeadReason)>,
    pub reports: Vec<LoginReport>,
    /// Pushes that were taken, with their policy; not those that were settled before they came.
    pub accepted: HashMap<PushId, AtEnd>,
    /// Settled by an earlier owner: the stream's own window of ids refuses them.
    pub over: HashSet<PushId>,
    /// Whether effects are done as soon as they are wanted.
    pub prompt: bool,
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}
pub fn conn(name: &str) -> ConnId {
    ConnId::new(name).unwrap()
}
pub fn login(name: &str) -> LoginId {
    LoginId::new(name).unwrap()
}
pub fn kind() -> Kind {
    Kind::new("group").unwrap()
}
/// An `online` of this sequence in LOGIN put another login in its place; no name: an `offline` ended it.
pub fn by(sequence: u64, successor: &str) -> EndedBy {
    let successor = (!successor.is_empty()).then(|| Successor { login_id: login(successor), at: sequence });
    EndedBy { sequence, successor }
}
pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

impl World {
    pub fn new() -> Self {
        Self::with(rules())
    }

    pub fn with(rules: Rules) -> Self {
        let comets: HashMap<_, _> = [("c1", 1), ("c2", 1)].map(|(c, e)| (Instance::new(c).unwrap(), e)).into();
        let now = 1_700_000_000_000;
        let mut world = Self {
            desk: Desk::new(rules.clone(), Partition(0), 1, now),
            now,
            rules,
            stream: BTreeMap::new(),
            sequence: 0,
            delivered: 0,
            pending: BTreeMap::new(),
            sessions: BTreeMap::new(),
            logins: BTreeMap::new(),
            revision: 0,
            comets,
            effects: Vec::new(),
            sent: Vec::new(),
            facts: Vec::new(),
            dead: Vec::new(),
            reports: Vec::new(),
            accepted: HashMap::new(),
            over: HashSet::new(),
            prompt: true,
        };
        world.load();
        world
    }

    fn load(&mut self) {
        self.apply(Event::Comets(self.comets.clone()));
        let sessions = self.sessions.clone().into_iter();
        let sessions = sessions
            .map(|((user, conn), (session, revision))| (revision, Event::Session { user, conn, session, revision }));
        let logins =
            self.logins.clone().into_iter().map(|((user, conn), (login, revision))| {
                (revision, Event::LoginStands { user, conn, login, revision })
            });
        let mut keys: Vec<_> = sessions.chain(logins).collect();
        keys.sort_by_key(|(revision, _)| *revision);
        keys.into_iter().for_each(|(_, event)| self.apply(event));
        self.apply(Event::SessionsCurrent);
        for pending in self.pending.values().cloned().collect::<Vec<_>>() {
            self.apply(Event::Loaded { pending });
        }
        self.apply(Event::Ready);
        let delivered = self.delivered;
        for (sequence, (order, stored_at)) in self.stream.clone() {
            let delivered_before = sequence <= delivered;
            self.deliver(sequence, order, stored_at, delivered_before);
        }
    }

    /// The owner dies, and another one takes over. Effects on their way take place or don't, as `fate` says.
    pub fn take_over(&mut self, mut fate: impl FnMut() -> bool) {
        for effect in std::mem::take(&mut self.effects) {
            if fate() {
                self.take_place(effect);
            }
        }
        self.effects.clear();
        self.over.extend(self.facts.iter().filter_map(|fact| match fact {
            Fact::Settled { push, .. } => Some(*push),
            _ => None,
        }));
        self.desk = Desk::new(self.rules.clone(), Partition(0), 2, self.now);
        self.load();
    }

    pub fn apply(&mut self, event: Event) {
        for action in self.desk.apply(event, self.now) {
            match action {
                Action::Send { comet, item } => {
                    let (at, gone) = (self.now, false);
                    self.sent.push(Sent { at, comet, user: item.user, conn: item.conn_id, order: item.order, gone });
                }
                Action::Ack { sequence } => {
                    self.stream.remove(&sequence);
                }
                Action::Effect(effect) => self.effects.push(effect),
                Action::Note(fact) => self.facts.push(fact),
            }
        }
        while self.prompt && !self.effects.is_empty() {
            self.run_effect(0);
        }
    }

    /// One effect on its way takes place and is reported.
    pub fn run_effect(&mut self, which: usize) {
        if self.effects.is_empty() {
            return;
        }
        let effect = self.effects.remove(which % self.effects.len());
        let done = self.take_place(effect);
        self.apply(Event::Done(done));
    }

    fn take_place(&mut self, effect: Effect) -> Done {
        match effect {
            Effect::Keep { push, pending } => {
                let id = match &pending.order {
                    PushOrder::Deliver(delivery) => delivery.id,
                    PushOrder::Withdraw(withdrawal) => withdrawal.id,
                    PushOrder::LoginEnded(_) => unreachable!("no push"),
                };
                self.pending.insert((pending.order.user().clone(), id), *pending);
                Done::Kept { push }
            }
            Effect::Forget { user, id, hold } => {
                self.pending.remove(&(user, id));
                Done::Forgotten { hold }
            }
            Effect::Fetch { push, user, id } => {
                Done::Fetched { push, pending: self.pending.get(&(user, id)).cloned().map(Box::new) }
            }
            Effect::Bury { push, id, reason, .. } => {
                if !self.dead.contains(&(id, reason)) {
                    self.dead.push((id, reason));
                }
                Done::Buried { push }
            }
            Effect::Report { session, report } => {
                self.reports.push(*report);
                Done::Reported { session, answer: LoginAnswer::Accepted { login_id: None } }
            }
            Effect::PurgeSession { session, user, conn, revision } => {
                let key = (user, conn);
                let purged = self.sessions.get(&key).is_some_and(|(_, stands)| *stands == revision);
                if purged {
                    self.purge_session(key);
                }
                Done::SessionPurged { session, revision, purged }
            }
            Effect::KeepLogin { user, conn, mut written } => {
                let key = (user.clone(), conn.clone());
                if self.logins.get(&key).map(|(_, revision)| *revision) == written.over {
                    self.revision += 1;
                    let (login, revision) = ((*written.login).clone(), self.revision);
                    self.logins.insert(key, (login.clone(), revision));
                    written.revision = Some(revision);
                    self.apply(Event::LoginStands { user: user.clone(), conn: conn.clone(), login, revision });
                }
                Done::LoginKept { user, conn, written }
            }
            Effect::PurgeLogin { user, conn, revision } => {
                let key = (user.clone(), conn.clone());
                if self.logins.get(&key).is_some_and(|(_, stands)| *stands == revision) {
                    self.logins.remove(&key);
                    self.revision += 1;
                    let revision = self.revision;
                    self.apply(Event::LoginGone { user: user.clone(), conn: conn.clone(), revision });
                }
                Done::LoginPurged { user, conn, revision }
            }
        }
    }

    /// `conn: began→current/sequence` for each session of which something stands.
    pub fn standing(&self) -> Vec<String> {
        let line = |((_, conn), (login, _)): (&(UserId, ConnId), &(SessionLogin, u64))| {
            let current = login.by.current().map_or("-", LoginId::as_str);
            format!("{conn}: {}→{current}/{}", login.began, login.by.sequence)
        };
        self.logins.iter().map(line).collect()
    }

    /// Time goes by, timer by timer, as the service lives it.
    pub fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        while let Some(next) = self.desk.next_wake().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.apply(Event::Tick);
        }
        self.now = end;
        self.apply(Event::Tick);
    }

    /// When a push was sent, relative to the first time.
    pub fn times(&self, push: PushId) -> Vec<Millis> {
        let mut times: Vec<_> = self.sent.iter().filter(|s| s.push() == Some(push)).map(|s| s.at).collect();
        let first = times.first().copied().unwrap_or(0);
        times.iter_mut().for_each(|time| *time -= first);
        times
    }

    pub fn outcomes(&self, of: PushId) -> Vec<Outcome> {
        let of_push = |fact: &Fact| match fact {
            Fact::Settled { push, outcome, .. } if *push == of => Some(*outcome),
            _ => None,
        };
        self.facts.iter().filter_map(of_push).collect()
    }

    pub fn nothing_is_left(&self) {
        assert!(self.stream.is_empty(), "in PUSH: {:?}", self.stream);
        assert!(self.pending.is_empty(), "in pending: {:?}", self.pending);
        assert!(self.effects.is_empty(), "on its way: {:?}", self.effects);
        assert_eq!(self.desk.load(), Load::default());
    }
}
