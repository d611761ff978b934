//! A world around the machine, for its tests: LOGIN, one LATE and one receiver for each kind, a clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use pushmesh_protocol::{
    DeviceId, LoginId, UserId,
    message::{LoginEvent, LoginRecord},
};

use super::*;

pub const LIMITS: Limits = Limits {
    gather: Duration::from_millis(2),
    batch_max: 4,
    late_after: Duration::from_secs(2),
    retry_min: Duration::from_millis(100),
    retry_max: Duration::from_secs(5),
    store_max: 3,
};
pub const PARTITIONS: u16 = 3;
pub const KINDS: usize = 3;

/// Which message is meant: in LOGIN, or in a kind's LATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handle {
    Login(Partition, u64),
    Late(KindIndex, Partition, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    /// Hears nothing.
    Silent,
    /// Applies, but its answers are lost.
    Mute,
    /// Stores the first of a request and fails the rest.
    Failing,
    NotMine,
    NoOwner,
}

#[derive(Default)]
pub struct Late {
    /// Not acknowledged, by its sequence.
    pub stored: BTreeMap<u64, Arc<OnlineEntry>>,
    /// What ever was stored, by LOGIN's sequence: a message id is taken once.
    pub ids: HashMap<u64, u64>,
    /// Up to where this lease's consumer has delivered.
    pub delivered: u64,
    pub delivered_ever: u64,
}

pub struct World {
    pub machine: Machine<Handle>,
    pub now: Instant,
    pub health: [Health; KINDS],
    pub late_refuses: bool,
    pub next: u64,
    pub epoch: Epoch,
    pub epochs: BTreeMap<Partition, Epoch>,
    pub closing: BTreeSet<Partition>,
    /// Not acknowledged.
    pub login: BTreeMap<u64, Arc<OnlineEntry>>,
    pub late: Vec<BTreeMap<Partition, Late>>,
    pub late_next: u64,
    /// What each kind has applied, in its order.
    pub applied: Vec<Vec<Arc<OnlineEntry>>>,
    pub requests: VecDeque<(u64, KindIndex, Vec<Arc<OnlineEntry>>)>,
    pub stores: VecDeque<(KindIndex, Vec<Arc<OnlineEntry>>)>,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            machine: Machine::new(KINDS, LIMITS),
            now: Instant::now(),
            health: [Health::Up; KINDS],
            late_refuses: false,
            next: 0,
            epoch: 0,
            epochs: BTreeMap::new(),
            closing: BTreeSet::new(),
            login: BTreeMap::new(),
            late: (0..KINDS).map(|_| (0..PARTITIONS).map(|p| (Partition(p), Late::default())).collect()).collect(),
            late_next: 0,
            applied: vec![vec![]; KINDS],
            requests: VecDeque::new(),
            stores: VecDeque::new(),
        };
        for p in 0..PARTITIONS {
            world.take(Partition(p));
        }
        world
    }

    /// The partition's next lease: what is not acknowledged is delivered again, in order.
    fn take(&mut self, partition: Partition) {
        self.epoch += 1;
        let epoch = self.epoch;
        self.epochs.insert(partition, epoch);
        self.closing.remove(&partition);
        let late = (0..KINDS).map(|kind| {
            let late = self.late[kind].get_mut(&partition).unwrap();
            late.delivered = 0;
            LateStart { waiting: !late.stored.is_empty(), delivered_before: late.delivered_ever }
        });
        let late = late.collect();
        self.tell(Event::Opened { partition, epoch, late });
        let again: Vec<_> = self.login.values().filter(|entry| entry.partition == partition).cloned().collect();
        again.iter().for_each(|entry| self.deliver(entry));
        self.deliver_late();
    }

    pub fn lose(&mut self, partition: Partition) {
        let epoch = self.epochs[&partition];
        self.tell(Event::Lost { partition, epoch });
        self.take(partition);
    }

    pub fn close(&mut self, partition: Partition) {
        self.closing.insert(partition);
        let epoch = self.epochs[&partition];
        self.tell(Event::Closing { partition, epoch });
    }

    pub fn arrive(&mut self, p: u16, user: u8) {
        let partition = Partition(p % PARTITIONS);
        if self.closing.contains(&partition) {
            return;
        }
        self.next += 1;
        let event = LoginEvent::Online {
            login_id: LoginId::new(&self.next.to_string()).unwrap(),
            device: DeviceId::new("d").unwrap(),
        };
        let user = UserId::new(&format!("u{}-{}", partition.0, user % 2)).unwrap();
        let record = LoginRecord { user, event, at: 0, trace: None };
        let entry = Arc::new(OnlineEntry { partition, epoch: 0, sequence: self.next, record });
        self.login.insert(self.next, Arc::clone(&entry));
        self.deliver(&entry);
    }

    fn deliver(&mut self, entry: &Arc<OnlineEntry>) {
        let epoch = self.epochs[&entry.partition];
        let handle = Handle::Login(entry.partition, entry.sequence);
        let entry = Arc::new(OnlineEntry { epoch, ..(**entry).clone() });
        self.tell(Event::Record { epoch, entry, handle });
    }

    fn deliver_late(&mut self) {
        for kind in 0..KINDS {
            for p in (0..PARTITIONS).map(Partition) {
                if !self.epochs.contains_key(&p) || self.closing.contains(&p) {
                    continue;
                }
                let late = self.late[kind].get_mut(&p).unwrap();
                let new: Vec<_> = late.stored.range(late.delivered + 1..).map(|(at, e)| (*at, Arc::clone(e))).collect();
                late.delivered = new.last().map_or(late.delivered, |(at, _)| *at);
                late.delivered_ever = late.delivered_ever.max(late.delivered);
                for (index, (at, entry)) in new.iter().enumerate() {
                    let (epoch, behind) = (self.epochs[&p], (new.len() - index - 1) as u64);
                    let entry = Arc::new(OnlineEntry { epoch, ..(**entry).clone() });
                    let handle = Handle::Late(kind, p, *at);
                    self.tell(Event::Late { kind, epoch, at: *at, behind, entry, handle });
                }
            }
        }
    }

    pub fn tell(&mut self, event: Event<Handle>) {
        let mut effects = vec![];
        self.machine.apply(event, self.now, &mut effects);
        self.poll_into(&mut effects);
        self.carry_out(effects);
    }

    fn poll(&mut self) {
        let mut effects = vec![];
        self.poll_into(&mut effects);
        self.carry_out(effects);
    }

    fn poll_into(&mut self, effects: &mut Vec<Effect<Handle>>) {
        let health = self.health;
        let owner = |kind: KindIndex, p: Partition| {
            let name = format!("k{kind}-{}", p.0 % 2);
            (health[kind] != Health::NoOwner).then(|| Instance::new(&name).unwrap())
        };
        self.machine.poll(self.now, owner, effects);
        // A poll leaves nothing to do at the same instant.
        let before = effects.len();
        self.machine.poll(self.now, owner, effects);
        assert_eq!(before, effects.len(), "{:?}", &effects[before..]);
    }

    fn carry_out(&mut self, effects: Vec<Effect<Handle>>) {
        for effect in effects {
            match effect {
                Effect::Done(handle) => {
                    let Handle::Login(_, sequence) = handle else { panic!("{handle:?} is not LOGIN's") };
                    let entry = self.login.remove(&sequence).expect("acknowledged once");
                    for kind in 0..KINDS {
                        let applied = self.applied[kind].iter().any(|e| e.sequence == sequence);
                        let late = self.late[kind][&entry.partition].ids.contains_key(&sequence);
                        assert!(applied || late, "{sequence} was acknowledged, but kind {kind} does not have it");
                    }
                }
                Effect::LateDone(kind, handle) => {
                    let Handle::Late(k, p, at) = handle else { panic!("{handle:?} is not LATE's") };
                    assert_eq!(k, kind);
                    self.late[kind].get_mut(&p).unwrap().stored.remove(&at).expect("acknowledged once");
                }
                Effect::Send { request, kind, entries, .. } => {
                    assert!(!entries.is_empty() && entries.len() <= LIMITS.batch_max);
                    let lanes: BTreeSet<_> = entries.iter().map(|entry| entry.partition).collect();
                    for (_, k, others) in &self.requests {
                        let current = |e: &&Arc<OnlineEntry>| self.epochs[&e.partition] == e.epoch;
                        let twice = others.iter().filter(current).any(|e| lanes.contains(&e.partition));
                        assert!(*k != kind || !twice, "two requests of one lane are in flight");
                    }
                    self.requests.push_back((request, kind, entries));
                }
                Effect::StoreLate { kind, entries } => {
                    assert!(!entries.is_empty() && entries.len() <= LIMITS.store_max);
                    self.stores.push_back((kind, entries));
                }
                Effect::Closed(p, epoch) => {
                    assert_eq!(self.epochs[&p], epoch);
                    assert!(!self.login.values().any(|entry| entry.partition == p));
                    self.take(p);
                }
                Effect::Fenced(..) => panic!("nobody fences here"),
            }
        }
    }

    /// The oldest request meets its receiver.
    pub fn answer(&mut self) {
        let Some((request, kind, entries)) = self.requests.pop_front() else { return };
        let health = self.health[kind];
        let applied = match health {
            Health::Up | Health::Mute => entries.len(),
            Health::Failing => 1,
            Health::Silent | Health::NotMine | Health::NoOwner => 0,
        };
        // A receiver refuses what an older lease sent.
        let fresh = entries.iter().filter(|entry| self.epochs[&entry.partition] == entry.epoch);
        self.applied[kind].extend(fresh.take(applied).cloned());
        let done = OnlineResult::Done { pushes: 0 };
        let results = match health {
            Health::Silent | Health::Mute | Health::NoOwner => None,
            Health::Up => Some(vec![done; entries.len()]),
            Health::NotMine => Some(vec![OnlineResult::NotMine; entries.len()]),
            Health::Failing => {
                let mut results = vec![OnlineResult::Failed { reason: "full".into() }; entries.len()];
                results[0] = done;
                Some(results)
            }
        };
        self.tell(Event::Answered { request, results });
    }

    /// The oldest store meets its stream.
    pub fn store(&mut self) {
        let Some((kind, entries)) = self.stores.pop_front() else { return };
        let results = entries.iter().map(|entry| {
            if self.late_refuses {
                return None;
            }
            let late = self.late[kind].get_mut(&entry.partition).unwrap();
            if let Some(at) = late.ids.get(&entry.sequence) {
                return Some((*at, true));
            }
            self.late_next += 1;
            late.ids.insert(entry.sequence, self.late_next);
            late.stored.insert(self.late_next, Arc::clone(entry));
            Some((self.late_next, false))
        });
        let results = results.collect();
        self.tell(Event::Stored { kind, results });
        self.deliver_late();
    }

    pub fn pass(&mut self, by: Duration) {
        self.now += by;
        self.poll();
    }

    pub fn set(&mut self, kind: KindIndex, health: Health) {
        self.health[kind] = health;
        self.tell(Event::OwnersChanged { kind });
    }

    /// Whatever was wrong is mended; then everything comes to rest.
    pub fn settle(&mut self) {
        self.late_refuses = false;
        (0..KINDS).for_each(|kind| self.set(kind, Health::Up));
        self.run(Duration::from_secs(60));
        assert_eq!(self.login.len(), 0, "LOGIN is not empty: {:?}", self.login.keys());
        for (kind, late) in self.late.iter().enumerate() {
            for (p, late) in late {
                assert!(late.stored.is_empty(), "LATE of kind {kind}, {p}: {:?}", late.stored.keys());
            }
        }
        assert_eq!(self.machine.waiting(), 0);
        for kind in 0..KINDS {
            assert_eq!(self.machine.late_lanes(kind), 0, "kind {kind} still goes through LATE");
        }
    }

    /// Answers and stores at once, and lets time pass where it is waited for.
    pub fn run(&mut self, at_most: Duration) {
        let end = self.now + at_most;
        loop {
            if !self.requests.is_empty() {
                self.answer();
            } else if !self.stores.is_empty() {
                self.store();
            } else {
                match self.machine.wake_at() {
                    Some(at) if at <= end => self.pass(at.saturating_duration_since(self.now)),
                    _ => break,
                }
            }
        }
        self.pass(end.saturating_duration_since(self.now));
    }

    /// Every record reached every kind, and a user's reached it in their order.
    pub fn check(&self) {
        for (kind, applied) in self.applied.iter().enumerate() {
            let mut newest: HashMap<&UserId, u64> = HashMap::new();
            let mut seen = BTreeSet::new();
            for entry in applied.iter().filter(|entry| seen.insert(entry.sequence)) {
                let last = newest.insert(&entry.record.user, entry.sequence).unwrap_or(0);
                assert!(last < entry.sequence, "kind {kind} got {} after {last}", entry.sequence);
            }
            assert_eq!(seen.len() as u64, self.next, "kind {kind} lacks some");
        }
    }
}
