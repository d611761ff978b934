//! A provisioned server, engines on it, and the hands of everybody around them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pushmesh_auth::{Door, Verifier};
use pushmesh_bus::{Bus, Subscription, mesh_info, provision};
use pushmesh_membership::{Me, Membership, Tuning};
use pushmesh_proto::v1::{
    EndCallRequest, ListMembershipsRequest, MembershipEntry, StartCallRequest, calls_server::Calls,
};
use pushmesh_protocol::{
    ConnId, DeviceId, Instance, Kind, LoginId, Partition, Partitions, PushId, Token, UserId,
    message::{
        Body, CallsAnswer, CallsRequest, LoginEvent, LoginRecord, Millis, OfflineCause, OnlineAnswer, OnlineBatch,
        OnlineEntry, OnlineResult, Policy, PushOrder, Session, Target,
    },
    name::{Bucket, Filter, Key, Stream, Subject},
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_push::{CallsService, Directory, Engine, EngineConfig, Host, Member, PushKind, Reach, call_policy};
use pushmesh_testkit::{Nats, wait_for};
use tonic::{Request, Status, metadata::MetadataMap};

/// More than anything takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn online(login: &str) -> LoginEvent {
    LoginEvent::Online { login_id: LoginId::new(login).unwrap(), device: DeviceId::new("phone").unwrap() }
}

pub fn timeout(login: &str) -> LoginEvent {
    LoginEvent::Offline { login_id: LoginId::new(login).ok(), device: None, cause: OfflineCause::Timeout }
}

pub fn offline(login: &str) -> LoginEvent {
    LoginEvent::Offline { login_id: LoginId::new(login).ok(), device: None, cause: OfflineCause::Reported }
}

/// A kind for tests.
#[derive(Debug, Clone)]
pub struct TestKind {
    pub kind: Kind,
    pub reach: Reach,
    pub members_max: Option<usize>,
    pub dissolve_after: Option<Duration>,
}

impl TestKind {
    pub fn group() -> Self {
        let kind = Kind::new("group").unwrap();
        Self { kind, reach: Reach::Unit, members_max: None, dissolve_after: None }
    }
}

impl PushKind for TestKind {
    fn kind(&self) -> &Kind {
        &self.kind
    }
    fn reach(&self) -> Reach {
        self.reach
    }
    fn delivery(&self) -> Policy {
        call_policy(Duration::from_secs(3600))
    }
    fn members_max(&self) -> Option<usize> {
        self.members_max
    }
    fn dissolve_after(&self) -> Option<Duration> {
        self.dissolve_after
    }
}

pub struct Mesh {
    pub nats: Nats,
    pub bus: Bus,
    pub bus_config: pushmesh_bus::Config,
    pub kind: TestKind,
    sequence: AtomicU64,
    /// The epoch that sessions name: that of `comet-1`, where it has joined.
    comet_epoch: AtomicU64,
}

/// An engine, and its doors.
pub struct Running {
    pub engine: Engine,
    pub instance: Instance,
    pub directory: Directory,
    pub calls: CallsService,
}

impl Mesh {
    pub async fn start(kind: TestKind) -> Self {
        Self::start_with(kind, |_| {}).await
    }

    pub async fn start_with(kind: TestKind, change: impl FnOnce(&mut TopologyConfig)) -> Self {
        let nats = Nats::start().await;
        let bus_config = pushmesh_bus::Config {
            url: nats.url(),
            outage_hold: Duration::from_secs(5),
            ..pushmesh_bus::Config::default()
        };
        let bus = connect(&bus_config, "test", "test-1").await;
        let kinds = BTreeSet::from(["group", "discuss", "org"].map(|kind| Kind::new(kind).unwrap()));
        let mut config = TopologyConfig {
            partitions: Partitions::new(8).unwrap(),
            kinds: kinds.into_iter().collect(),
            ..TopologyConfig::default()
        };
        change(&mut config);
        provision(&bus, &topology(&config)).await.unwrap();
        Self { nats, bus, bus_config, kind, sequence: AtomicU64::new(1), comet_epoch: AtomicU64::new(1) }
    }

    /// The comet of all sessions that are put from now on. It falls silent with [`Membership::abort`].
    pub async fn comet(&self) -> Membership {
        let bus = connect(&self.bus_config, "comet", "comet-1").await;
        let (service, instance) = (Token::new("comet").unwrap(), Instance::new("comet-1").unwrap());
        let me = Me { service, instance, weight: 10, address: String::new() };
        let comet = Membership::join(&bus, me, Tuning::default()).await.unwrap();
        self.comet_epoch.store(comet.epoch(), Ordering::Relaxed);
        comet
    }

    pub async fn engine(&self, instance: &str) -> Running {
        let config = EngineConfig { session_grace: Duration::from_millis(300), ..EngineConfig::default() };
        let service = self.kind.kind.service();
        let bus = connect(&self.bus_config, service.as_str(), instance).await;
        let instance = Instance::new(instance).unwrap();
        let me = Me { service, instance: instance.clone(), weight: 10, address: String::new() };
        let membership = Membership::join(&bus, me, Tuning::default()).await.unwrap();
        let mesh = mesh_info(&bus).await.unwrap();
        let engine = Engine::start(Host { bus, membership, mesh }, Arc::new(self.kind.clone()), config).await.unwrap();
        let directory = engine.directory(open_door());
        let calls = engine.calls(open_door());
        Running { engine, instance, directory, calls }
    }

    /// Everything that PUSH stores from now on.
    pub async fn tap(&self) -> Tap {
        Tap { messages: self.bus.subscribe(Filter::tap(&Stream::PUSH)).await.unwrap() }
    }

    pub fn partition(&self, of: &UserId) -> Partition {
        Partitions::new(8).unwrap().of_user(of)
    }

    pub fn entry(&self, name: &str, event: LoginEvent) -> OnlineEntry {
        let user = user(name);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let record = LoginRecord { user: user.clone(), event, at: now(), trace: None };
        OnlineEntry { partition: self.partition(&user), epoch: 5, sequence, record }
    }

    pub async fn ask(&self, to: &Instance, entries: Vec<OnlineEntry>) -> Result<Vec<OnlineResult>, String> {
        let batch = OnlineBatch { from: Instance::new("distributor-1").unwrap(), entries };
        let subject = Subject::online(&self.kind.kind, to);
        let answer = self.bus.request(subject, wire::encode(&batch).into(), PATIENCE).await;
        let answer: OnlineAnswer =
            wire::decode(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        Ok(answer.results)
    }

    /// As a distributor does: what is not mine, or failed, is said again.
    pub async fn tell(&self, to: &Instance, entries: Vec<OnlineEntry>) -> Vec<OnlineResult> {
        wait_for("every record to be done", PATIENCE, || async {
            let results = self.ask(to, entries.clone()).await?;
            if results.iter().all(|result| matches!(result, OnlineResult::Done { .. })) {
                Ok(results)
            } else {
                Err(format!("{results:?}"))
            }
        })
        .await
    }

    pub async fn record(&self, to: &Instance, name: &str, event: LoginEvent) {
        self.tell(to, vec![self.entry(name, event)]).await;
    }

    pub async fn session(&self, name: &str, conn: &str, login: &str, left: Option<Millis>) {
        let session = Session {
            login_id: LoginId::new(login).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            comet: Instance::new("comet-1").unwrap(),
            comet_epoch: self.comet_epoch.load(Ordering::Relaxed),
            since: now(),
            left,
        };
        let sessions = self.bus.bucket(&Bucket::SESSIONS).await.unwrap();
        sessions.put(&self.session_key(name, conn), wire::encode(&session).into()).await.unwrap();
    }

    pub async fn session_gone(&self, name: &str, conn: &str) {
        let sessions = self.bus.bucket(&Bucket::SESSIONS).await.unwrap();
        sessions.purge(&self.session_key(name, conn)).await.unwrap();
    }

    fn session_key(&self, name: &str, conn: &str) -> Key {
        let user = user(name);
        Key::session(self.partition(&user), &user, &ConnId::new(conn).unwrap())
    }

    pub async fn question(&self, name: &str, login: &str) -> Result<CallsAnswer, String> {
        let user = user(name);
        let subject = Subject::calls(&self.kind.kind, self.partition(&user));
        let request = CallsRequest { user, login_id: LoginId::new(login).unwrap() };
        let answer = self.bus.request(subject, wire::encode(&request).into(), Duration::from_secs(1)).await;
        wire::decode(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }
}

impl Running {
    pub async fn join(&self, unit: &str, users: &[&str]) {
        let members = users.iter().map(|user| Member { user: (*user).to_owned(), role: String::new() }).collect();
        self.directory.upsert(&MetadataMap::new(), ("group", unit), ("members", members)).await.unwrap();
    }

    pub async fn leave(&self, unit: &str, users: &[&str]) {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.directory.remove(&MetadataMap::new(), ("group", unit), ("users", users)).await.unwrap();
    }

    pub async fn memberships(&self, user: &str) -> Result<Vec<MembershipEntry>, Status> {
        let request = Request::new(ListMembershipsRequest { user: user.to_owned() });
        Ok(self.directory.list_memberships(request).await?.into_inner().memberships)
    }

    pub async fn units(&self, user: &str) -> Vec<String> {
        self.memberships(user).await.unwrap().into_iter().map(|member| member.unit).collect()
    }

    pub async fn start(&self, call: &str, unit: &str) {
        self.try_start(call, unit, "").await.unwrap();
    }

    pub async fn try_start(&self, call: &str, unit: &str, data: &str) -> Result<u64, Status> {
        let (call_id, unit, data) = (call.to_owned(), unit.to_owned(), data.to_owned().into());
        let answer = self.calls.start_call(Request::new(StartCallRequest { call_id, unit, data })).await?;
        Ok(answer.into_inner().started_at_ms)
    }

    pub async fn end(&self, call: &str) {
        self.try_end(call).await.unwrap();
    }

    pub async fn try_end(&self, call: &str) -> Result<u64, Status> {
        let answer = self.calls.end_call(Request::new(EndCallRequest { call_id: call.to_owned() })).await?;
        Ok(answer.into_inner().ended_at_ms)
    }
}

pub struct Tap {
    messages: Subscription,
}

impl Tap {
    /// The next order, as a line: `+call@login`, `-call@login`, `end login`.
    pub async fn next(&mut self) -> String {
        line(&self.next_order().await)
    }

    pub async fn next_order(&mut self) -> PushOrder {
        let message = tokio::time::timeout(PATIENCE, self.messages.next()).await;
        let message = message.expect("an order in time").expect("the tap is open");
        wire::decode(&message.payload).unwrap()
    }

    /// An order that has come already.
    pub fn come(&mut self) -> Option<String> {
        let message = self.messages.try_next()?;
        Some(line(&wire::decode(&message.payload).unwrap()))
    }

    /// The next orders, of which the order among them is open.
    pub async fn expect(&mut self, lines: &[&str]) {
        let mut got = Vec::new();
        for _ in lines {
            got.push(self.next().await);
        }
        got.sort();
        let mut wanted: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        wanted.sort();
        assert_eq!(got, wanted);
    }
}

/// An order as a [`Tap`] tells it.
pub fn line(order: &PushOrder) -> String {
    match order {
        PushOrder::Deliver(delivery) => {
            let (Body::Call(call), Target::Login { login_id, .. }) = (&delivery.body, &delivery.target) else {
                panic!("a call to a login, not {delivery:?}")
            };
            assert_eq!(delivery.id, PushId::of_call(&call.kind, &call.call_id, &delivery.user, login_id));
            assert!(delivery.source.is_some());
            format!("+{}@{login_id}", call.call_id)
        }
        PushOrder::Withdraw(withdrawal) => {
            assert_eq!(withdrawal.id, withdrawal.push.withdrawal());
            format!("-{}@{}", withdrawal.call_id, withdrawal.login_id)
        }
        PushOrder::LoginEnded(ended) => format!("end {}", ended.login_id),
    }
}

pub async fn connect(config: &pushmesh_bus::Config, service: &str, instance: &str) -> Bus {
    Bus::connect(config, &Token::new(service).unwrap(), &Instance::new(instance).unwrap()).await.unwrap()
}

fn open_door() -> Door {
    let verifier = Verifier::load(&pushmesh_auth::Config::default()).unwrap();
    Door::new(verifier, SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap()
}
