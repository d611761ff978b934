//! A push kind as the distributor sees it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use pushmesh_bus::Bus;
use pushmesh_membership::{Lease, Me, Membership, PartitionWork, Tuning};
use pushmesh_protocol::{
    Instance, Kind, Partition, UserId,
    message::{Epoch, OnlineAnswer, OnlineBatch, OnlineEntry, OnlineResult},
    name::Subject,
    wire,
};
use pushmesh_testkit::wait_for;

use crate::mesh::{LONG, connect, partitions};

/// What one kind applied, by whichever instance, in its order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<OnlineEntry>>>);

impl Log {
    /// The records, each at its first appearance.
    pub fn records(&self) -> Vec<OnlineEntry> {
        let mut seen = BTreeSet::new();
        let log = self.0.lock().unwrap();
        log.iter().filter(|entry| seen.insert(entry.sequence)).cloned().collect()
    }

    pub async fn expect(&self, count: usize) {
        wait_for("all records to arrive", LONG, || async {
            let have = self.records().len();
            if have == count { Ok(()) } else { Err(format!("{have} of {count} are there")) }
        })
        .await;
    }

    /// A user's records came in the order in which LOGIN has them.
    pub fn assert_order(&self) {
        let mut newest: HashMap<UserId, u64> = HashMap::new();
        for entry in self.records() {
            let last = newest.insert(entry.record.user.clone(), entry.sequence).unwrap_or(0);
            assert!(last < entry.sequence, "{} of {} came after {last}", entry.sequence, entry.record.user);
        }
    }
}

/// One instance: a member that owns partitions and answers for them.
pub struct TestKind {
    pub log: Log,
    membership: Membership,
    state: Arc<State>,
}

struct State {
    silent: Mutex<bool>,
    held: Mutex<HashMap<Partition, Epoch>>,
    newest: Mutex<HashMap<Partition, Epoch>>,
}

impl TestKind {
    pub async fn start(url: &str, kind: Kind, instance: &str) -> TestKind {
        Self::start_with(url, kind, instance, Log::default()).await
    }

    /// Another instance of the same kind, with the same log.
    pub async fn another(&self, url: &str, kind: &str, instance: &str) -> TestKind {
        Self::start_with(url, Kind::new(kind).unwrap(), instance, self.log.clone()).await
    }

    async fn start_with(url: &str, kind: Kind, instance: &str, log: Log) -> TestKind {
        let service = kind.service();
        let bus = connect(url, service.as_str(), instance).await;
        let instance = Instance::new(instance).unwrap();
        let me = Me { service, instance: instance.clone(), weight: 100, address: String::new() };
        let membership = Membership::join(&bus, me, Tuning::default()).await.unwrap();
        let state = Arc::new(State { silent: Mutex::default(), held: Mutex::default(), newest: Mutex::default() });
        let mut requests = bus.subscribe(Subject::online(&kind, &instance).into()).await.unwrap();
        membership.own(partitions(), Arc::new(Holder(Arc::clone(&state))));
        let (answering, applied) = (Arc::clone(&state), log.clone());
        tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                let batch: OnlineBatch = wire::decode(&message.payload).unwrap();
                if *answering.silent.lock().unwrap() {
                    continue;
                }
                let results = batch.entries.into_iter().map(|entry| answering.apply(entry, &applied)).collect();
                answer(&bus, message.reply.expect("a request"), OnlineAnswer { results }).await;
            }
        });
        TestKind { log, membership, state }
    }

    /// Hears everything and answers nothing.
    pub fn silence(&self, silent: bool) {
        *self.state.silent.lock().unwrap() = silent;
    }

    /// Owns `count` partitions.
    pub async fn expect_owner_of(&self, count: usize) {
        wait_for("partitions to be owned", LONG, || async {
            let held = self.state.held.lock().unwrap().len();
            if held == count { Ok(()) } else { Err(format!("{held} of {count}")) }
        })
        .await;
    }

    pub async fn leave(self) {
        self.membership.leave().await;
    }
}

async fn answer(bus: &Bus, reply: pushmesh_bus::Reply, answer: OnlineAnswer) {
    bus.reply(reply, wire::encode(&answer).into()).await.unwrap();
}

impl State {
    fn apply(&self, entry: OnlineEntry, log: &Log) -> OnlineResult {
        if !self.held.lock().unwrap().contains_key(&entry.partition) {
            return OnlineResult::NotMine;
        }
        let mut newest = self.newest.lock().unwrap();
        let current = newest.entry(entry.partition).or_default();
        if *current > entry.epoch {
            return OnlineResult::Fenced { current: *current };
        }
        *current = entry.epoch;
        log.0.lock().unwrap().push(entry);
        OnlineResult::Done { pushes: 0 }
    }
}

struct Holder(Arc<State>);

impl PartitionWork for Holder {
    async fn run(self: Arc<Self>, lease: Lease) {
        self.0.held.lock().unwrap().insert(lease.partition(), lease.epoch());
        tokio::select! {
            () = lease.released() => {}
            () = lease.lost() => {}
        }
        self.0.held.lock().unwrap().remove(&lease.partition());
    }
}
