//! A mesh of one service whose work notes every effect it has, and what must never be seen.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pushmesh_bus::{Bus, Config, TakeOver, provision};
use pushmesh_membership::{Lease, Me, Membership, Ownership, PartitionWork, Tuning};
use pushmesh_protocol::{
    Partition, Partitions,
    id::{Instance, Kind, Token},
    message::Epoch,
    topology::{TopologyConfig, topology},
};
use pushmesh_testkit::{Nats, wait_for};

pub const PARTITIONS: u16 = 16;
/// More than anything takes on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

pub fn service() -> Token {
    Token::new("distributor").expect("a token")
}

pub fn instance(name: &str) -> Instance {
    Instance::new(name).expect("a token")
}

pub fn partitions() -> Partitions {
    Partitions::new(PARTITIONS).expect("an allowed number")
}

pub struct Mesh {
    pub nats: Nats,
    pub log: Arc<Log>,
}

/// Everything that all members' work did.
#[derive(Default)]
pub struct Log {
    effects: Mutex<HashMap<Partition, Effects>>,
    /// Seen and never to be: an effect under an older epoch than one before.
    pub faults: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Effects {
    epoch: Epoch,
    last: Option<Instant>,
    longest_pause: Duration,
    takes: Vec<(Instance, Epoch, TakeOver)>,
}

impl Log {
    fn taken(&self, who: &Instance, lease: &Lease) {
        let mut all = self.effects.lock().expect("no test panics in here");
        let effects = all.entry(lease.partition()).or_default();
        effects.takes.push((who.clone(), lease.epoch(), lease.how()));
    }

    fn effect(&self, who: &Instance, lease: &Lease) {
        let mut all = self.effects.lock().expect("no test panics in here");
        // Asked in the lock: two holders at the same moment would show as an epoch that goes back.
        if !lease.held() {
            return;
        }
        let effects = all.entry(lease.partition()).or_default();
        if lease.epoch() < effects.epoch {
            let fault =
                format!("{who} works on {} under {}, after {}", lease.partition(), lease.epoch(), effects.epoch);
            self.faults.lock().expect("no test panics in here").push(fault);
        }
        effects.epoch = effects.epoch.max(lease.epoch());
        let now = Instant::now();
        let pause = effects.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        effects.longest_pause = effects.longest_pause.max(pause);
    }

    /// The longest pause of any partition since it was last asked.
    pub fn take_longest_pause(&self) -> Duration {
        let mut all = self.effects.lock().expect("no test panics in here");
        all.values_mut().map(|effects| std::mem::take(&mut effects.longest_pause)).max().unwrap_or_default()
    }

    /// How each partition was taken last.
    pub fn last_takes(&self) -> BTreeMap<u16, (Instance, Epoch, TakeOver)> {
        let all = self.effects.lock().expect("no test panics in here");
        all.iter().filter_map(|(partition, effects)| Some((partition.0, effects.takes.last()?.clone()))).collect()
    }

    pub fn epochs(&self) -> BTreeMap<u16, Epoch> {
        let all = self.effects.lock().expect("no test panics in here");
        all.iter().map(|(partition, effects)| (partition.0, effects.epoch)).collect()
    }
}

/// Has an effect every 2 ms while its lease holds.
pub struct Work {
    pub who: Instance,
    pub log: Arc<Log>,
    /// Set: the work on partition 0 returns although nobody asked.
    pub quits: AtomicBool,
}

impl PartitionWork for Work {
    async fn run(self: Arc<Self>, lease: Lease) {
        self.log.taken(&self.who, &lease);
        let mut every = tokio::time::interval(Duration::from_millis(2));
        loop {
            tokio::select! {
                biased;
                () = lease.lost() => return,
                () = lease.released() => return,
                _ = every.tick() => self.log.effect(&self.who, &lease),
            }
            if lease.partition() == Partition(0) && self.quits.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    }
}

pub struct Member {
    pub membership: Membership,
    pub ownership: Ownership,
    pub work: Arc<Work>,
    pub bus: Bus,
}

impl Mesh {
    pub async fn start() -> Mesh {
        Self::on(Nats::start().await, |_| {}).await
    }

    /// A mesh provisioned by whom `boss` makes of the configuration.
    pub async fn on(nats: Nats, boss: impl FnOnce(&mut Config)) -> Mesh {
        let bus = connect_with(&nats, "setup", "setup", boss).await;
        let kinds = vec![Kind::new("group").expect("a token")];
        let config = TopologyConfig { partitions: Partitions::new(8).expect("allowed"), kinds, ..Default::default() };
        provision(&bus, &topology(&config)).await.expect("a fresh server is provisioned");
        bus.drain().await;
        Mesh { nats, log: Arc::default() }
    }

    /// A member that takes partitions.
    pub async fn join(&self, name: &str, weight: u16) -> Member {
        self.join_with(name, weight, |_| {}).await
    }

    pub async fn join_with(&self, name: &str, weight: u16, change: impl FnOnce(&mut Config)) -> Member {
        let bus = connect_with(&self.nats, "distributor", name, change).await;
        let me = Me { service: service(), instance: instance(name), weight, address: format!("{name}:1") };
        let membership = Membership::join(&bus, me, Tuning::default()).await.expect("it joins");
        let work = Arc::new(Work { who: instance(name), log: self.log.clone(), quits: AtomicBool::new(false) });
        let ownership = membership.own(partitions(), work.clone());
        Member { membership, ownership, work, bus }
    }

    /// Waits until these hold all partitions, each as many as the ring says, and work on each under its epoch.
    pub async fn shared_by(&self, what: &str, members: &[&Member]) {
        let ring = pushmesh_membership::ring::Map::new(
            partitions(),
            members.iter().map(|member| (&member.membership.me().instance, member.membership.me().weight)),
        );
        wait_for(what, SOON, || async {
            for member in members {
                let me = &member.membership.me().instance;
                let (held, due) = (member.ownership.held().len(), ring.count(me));
                if held != due {
                    return Err(format!("{me} holds {held} instead of {due}"));
                }
                if !*member.ownership.covered().borrow() {
                    return Err(format!("{me} sees partitions without an owner"));
                }
            }
            let (epochs, held) = (self.log.epochs(), members.iter().flat_map(|member| member.ownership.held()));
            let mut all: Vec<_> = held.collect();
            if let Some((idle, _)) = all.iter().find(|(partition, epoch)| epochs.get(&partition.0) != Some(epoch)) {
                return Err(format!("nobody works on {idle} yet"));
            }
            all.sort();
            all.dedup();
            if all.len() == usize::from(PARTITIONS) { Ok(()) } else { Err(format!("{} held", all.len())) }
        })
        .await;
    }

    /// Waits until every partition has an effect under a newer epoch than `before`.
    pub async fn renewed(&self, what: &str, before: &BTreeMap<u16, Epoch>) {
        wait_for(what, SOON, || async {
            let now = self.log.epochs();
            let old: Vec<_> = before.iter().filter(|(partition, epoch)| now[partition] <= **epoch).collect();
            if old.is_empty() { Ok(()) } else { Err(format!("still under the old epoch: {old:?}")) }
        })
        .await;
    }

    pub fn expect_no_fault(&self) {
        let faults = self.log.faults.lock().expect("no test panics in here");
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

pub async fn connect(nats: &Nats, service: &str, name: &str) -> Bus {
    connect_with(nats, service, name, |_| {}).await
}

async fn connect_with(nats: &Nats, service: &str, name: &str, change: impl FnOnce(&mut Config)) -> Bus {
    let service = Token::new(service).expect("a token");
    let mut config = Config::to(nats.url());
    change(&mut config);
    Bus::connect(&config, &service, &instance(name)).await.expect("the server is there")
}
