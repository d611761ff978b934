//! A mesh that was overloaded comes to rest by itself: what a service of 64 partitions costs to take over, and what happens
//! when a server or a process stands still.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use pushmesh_bus::{Bus, KvEvent, provision};
use pushmesh_membership::{Lease, Me, Membership, Ownership, PartitionWork, Tuning};
use pushmesh_protocol::{
    ConnId, Partition, Partitions, UserId,
    id::Token,
    message::Epoch,
    name::{Bucket, Key, KeyFilter, Stream},
    topology::{TopologyConfig, topology},
};
use pushmesh_testkit::{Nats, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh::{SOON, connect, instance};

const SESSIONS: usize = 20_000;

/// Loads a partition as ack-retry does: its consumer, all its sessions, what is pending. Then waits.
struct Loader {
    bus: Bus,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    /// The epochs under which a partition was loaded to the end.
    loaded: Mutex<BTreeMap<Partition, Vec<Epoch>>>,
    sessions: Mutex<usize>,
    /// Loads begun, finished or not.
    begun: Mutex<usize>,
}

impl Loader {
    async fn load(&self, lease: &Lease) {
        let partition = lease.partition();
        let taken = self.bus.take_partition(&Stream::PUSH, partition, lease.how());
        let _consumer = taken.await.expect("PUSH has a consumer for each partition");
        let mut watches = Vec::new();
        for bucket in [Bucket::SESSIONS, Bucket::PENDING] {
            let kv = self.bus.bucket(&bucket).await.expect("provisioned");
            let mut watch = kv.watch(KeyFilter::of_partition(partition)).await.expect("it can be watched");
            let mut entries = 0;
            while let Some(KvEvent::Put(_)) = watch.next().await {
                entries += 1;
            }
            *self.log.sessions.lock().expect("no test panics in here") += entries;
            watches.push(watch);
        }
        self.log.note(lease);
        lease.released().await;
    }
}

impl PartitionWork for Loader {
    async fn run(self: Arc<Self>, lease: Lease) {
        *self.log.begun.lock().expect("no test panics in here") += 1;
        tokio::select! {
            () = self.load(&lease) => {}
            () = lease.released() => {}
        }
    }
}

impl Log {
    fn note(&self, lease: &Lease) {
        let mut loaded = self.loaded.lock().expect("no test panics in here");
        loaded.entry(lease.partition()).or_default().push(lease.epoch());
    }

    /// No partition was loaded twice under the same epoch.
    fn each_epoch_once(&self) {
        for (partition, epochs) in &*self.loaded.lock().expect("no test panics in here") {
            assert!(epochs.is_sorted_by(|one, next| one < next), "{partition}: {epochs:?}");
        }
    }

    fn loads(&self) -> usize {
        self.loaded.lock().expect("no test panics in here").values().map(Vec::len).sum()
    }

    /// Waits until every partition of `partitions` was loaded under the epoch that its owner holds it with now.
    async fn all_loaded(&self, what: &str, partitions: Partitions, owners: &[&Ownership]) {
        wait_for(what, 2 * SOON, || async {
            let held: BTreeMap<Partition, Epoch> = owners.iter().flat_map(|owner| owner.held()).collect();
            let loaded = self.loaded.lock().expect("no test panics in here");
            let done = held
                .iter()
                .filter(|(partition, epoch)| loaded.get(partition).is_some_and(|epochs| epochs.last() == Some(epoch)));
            match (held.len(), done.count()) {
                (held, done) if held == usize::from(partitions.count()) && done == held => Ok(()),
                (held, done) => Err(format!("{held} held, {done} loaded")),
            }
        })
        .await;
    }
}

async fn provisioned(nats: &Nats, sessions: usize) -> Partitions {
    let bus = connect(nats, "setup", "setup").await;
    let config = TopologyConfig::default();
    provision(&bus, &topology(&config)).await.expect("a fresh server is provisioned");
    let kv = bus.bucket(&Bucket::SESSIONS).await.expect("provisioned");
    let session = |number| {
        let user = UserId::new(&format!("user-{number}")).expect("a token");
        let conn = ConnId::new(&format!("conn-{number}")).expect("a token");
        (Key::session(config.partitions.of_user(&user), &user, &conn), vec![b'x'; 100].into())
    };
    let written = kv.put_all((0..sessions).map(session).collect()).await;
    assert!(written.iter().all(Result::is_ok));
    bus.drain().await;
    config.partitions
}

struct Member {
    membership: Membership,
    ownership: Ownership,
}

async fn join(nats: &Nats, service: &str, name: &str, partitions: Partitions, log: &Arc<Log>) -> Member {
    join_with(nats, service, name, partitions, log, Tuning::default()).await
}

async fn join_with(
    nats: &Nats,
    service: &str,
    name: &str,
    partitions: Partitions,
    log: &Arc<Log>,
    tuning: Tuning,
) -> Member {
    let bus = connect(nats, service, name).await;
    let service = Token::new(service).expect("a token");
    let me = Me { service, instance: instance(name), weight: 50, address: String::new() };
    let membership = Membership::join(&bus, me, tuning).await.expect("it joins");
    let ownership = membership.own(partitions, Arc::new(Loader { bus, log: log.clone() }));
    Member { membership, ownership }
}

/// Requests to JetStream's API that the server has counted.
async fn api_requests(url: &str) -> u64 {
    let address = url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the monitoring port listens");
    stream.write_all(b"GET /jsz HTTP/1.0\r\n\r\n").await.expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body["api"]["total"].as_u64().expect("a number")
}

async fn monitored() -> (Nats, String) {
    let mut nats = Nats::start_with(|options| options.monitor_port = Some(0)).await;
    let url = nats.server().monitor_url().expect("it was asked for");
    (nats, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_takes_its_partitions_with_20_000_sessions_in_seconds() {
    let (nats, monitor) = monitored().await;
    let partitions = provisioned(&nats, SESSIONS).await;
    let log = Arc::new(Log::default());
    let (before, joined) = (api_requests(&monitor).await, Instant::now());
    let a = join(&nats, "ack-retry", "a", partitions, &log).await;
    log.all_loaded("all partitions to be loaded", partitions, &[&a.ownership]).await;
    let (took, requests) = (joined.elapsed(), api_requests(&monitor).await - before);
    println!("64 partitions with {SESSIONS} sessions: {took:?}, {requests} API requests");
    let (begun, sessions) = (*log.begun.lock().unwrap(), *log.sessions.lock().unwrap());
    assert!(requests <= 6 * begun as u64, "6 for each of {begun} take-overs: {requests}");
    log.each_epoch_once();
    // On a busy machine it may not hear itself for a moment, and begin anew.
    if begun == 64 {
        assert_eq!((log.loads(), sessions), (64, SESSIONS), "each once");
    }

    // Half of them go over to another one, and back.
    let b = join(&nats, "ack-retry", "b", partitions, &log).await;
    wait_for("b to have its share", SOON, async || match b.ownership.held().len() {
        32 => Ok(()),
        held => Err(format!("it holds {held}")),
    })
    .await;
    log.all_loaded("two to share", partitions, &[&a.ownership, &b.ownership]).await;
    let begun = Instant::now();
    b.membership.leave().await;
    log.all_loaded("one to have it all", partitions, &[&a.ownership]).await;
    println!("32 partitions handed over: {:?}", begun.elapsed());
    a.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_is_met_by_a_bounded_load() {
    let (nats, monitor) = monitored().await;
    let partitions = provisioned(&nats, SESSIONS).await;
    let services = ["ack-retry", "group-push", "discuss-push", "org-push"];
    let mut members = Vec::new();
    for service in services {
        let log = Arc::new(Log::default());
        let member = join(&nats, service, "a", partitions, &log).await;
        members.push((log, member));
    }
    for (log, member) in &members {
        log.all_loaded("all to be loaded", partitions, &[&member.ownership]).await;
    }
    let before = api_requests(&monitor).await;

    nats.pause();
    for (_, member) in &members {
        wait_for("nobody to hear himself", SOON, async || match member.ownership.held().len() {
            0 => Ok(()),
            held => Err(format!("{held} held")),
        })
        .await;
        let mut covered = member.ownership.covered();
        let uncovered = tokio::time::timeout(SOON, covered.wait_for(|covered| !*covered)).await;
        assert!(uncovered.is_ok(), "nobody works, whatever the leases say");
    }
    nats.resume();
    let resumed = Instant::now();
    for (log, member) in &members {
        log.all_loaded("all to be loaded again", partitions, &[&member.ownership]).await;
    }
    let (took, requests) = (resumed.elapsed(), api_requests(&monitor).await - before);
    println!("4 services with 64 partitions each, back after {took:?} with {requests} API requests");
    let begun: Vec<_> = members.iter().map(|(log, _)| *log.begun.lock().unwrap()).collect();
    // A machine that is busy with other things may cost rounds more; the pauses between them grow.
    assert!(begun.iter().all(|begun| (2 * 64..=6 * 64).contains(begun)), "{begun:?}");
    let anew = begun.iter().map(|begun| *begun as u64 - 64).sum::<u64>();
    assert!(requests <= 8 * anew, "8 for each of {anew} take-overs: {requests}");
    for (_, member) in members {
        member.membership.leave().await;
    }
}

/// Keeps all threads of a runtime from their work until it is dropped.
struct Blocked {
    _go: Vec<mpsc::Sender<()>>,
}

impl Blocked {
    async fn on(runtime: &tokio::runtime::Handle, threads: usize) -> Blocked {
        let mut go = Vec::new();
        for _ in 0..threads {
            let (sender, receiver) = mpsc::channel::<()>();
            go.push(sender);
            let (told, stands) = tokio::sync::oneshot::channel();
            runtime.spawn(async move {
                let _ = told.send(());
                // Ends when its sender is gone.
                let _ = receiver.recv();
            });
            stands.await.expect("it runs");
        }
        Blocked { _go: go }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be made")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_process_is_late_with_its_work_and_not_with_its_pulse() {
    let nats = Arc::new(Nats::start().await);
    let partitions = provisioned(&nats, 0).await;
    let (log, busy) = (Arc::new(Log::default()), runtime());
    // Far more than a busy machine keeps a thread waiting, and less than the work will stand still.
    let tuning = Tuning {
        fence_after: Duration::from_secs(4),
        dead_after: Duration::from_secs(5),
        stuck_after: SOON,
        ..Tuning::default()
    };
    let a = {
        let (nats, log) = (nats.clone(), log.clone());
        busy.spawn(async move { join_with(&nats, "ack-retry", "a", partitions, &log, tuning).await }).await.unwrap()
    };
    log.all_loaded("all to be loaded", partitions, &[&a.ownership]).await;
    let held = a.ownership.held();

    let blocked = Blocked::on(busy.handle(), 2).await;
    let begun = Instant::now();
    wait_for("6 s", SOON, async || match begun.elapsed() {
        waited if waited >= Duration::from_secs(6) => Ok(()),
        _ if a.ownership.held() != held => Ok(()),
        waited => Err(format!("{waited:?}")),
    })
    .await;
    assert_eq!(a.ownership.held(), held, "nothing was given up");
    drop(blocked);
    busy.spawn(async move { a.membership.leave().await }).await.expect("it leaves");
    assert_eq!(log.loads(), 64);
    busy.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_work_does_not_get_on_is_replaced() {
    let nats = Arc::new(Nats::start().await);
    let partitions = provisioned(&nats, 0).await;
    let (log, stuck) = (Arc::new(Log::default()), runtime());
    let tuning = Tuning { stuck_after: Duration::from_millis(1500), ..Tuning::default() };
    let a = {
        let (nats, log) = (nats.clone(), log.clone());
        stuck.spawn(async move { join_with(&nats, "ack-retry", "a", partitions, &log, tuning).await }).await.unwrap()
    };
    log.all_loaded("all to be loaded", partitions, &[&a.ownership]).await;
    let b = join(&nats, "ack-retry", "b", partitions, &log).await;
    log.all_loaded("two to share", partitions, &[&a.ownership, &b.ownership]).await;

    let blocked = Blocked::on(stuck.handle(), 2).await;
    log.all_loaded("b to have it all", partitions, &[&b.ownership]).await;
    assert_eq!(a.ownership.held(), [], "it gave up before");
    drop(blocked);
    log.all_loaded("two to share again", partitions, &[&a.ownership, &b.ownership]).await;
    stuck.spawn(async move { a.membership.leave().await }).await.expect("it leaves");
    b.membership.leave().await;
    stuck.shutdown_background();
}
