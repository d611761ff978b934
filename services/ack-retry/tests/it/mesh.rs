//! A provisioned nats-server, instances of ack-retry, and a comet that the test plays.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pushmesh_auth::{Minter, Scope, generate_jwks};
use pushmesh_bus::{Bus, Config, Kv, KvEvent, Outgoing, StreamEvent, TakeOver};
use pushmesh_membership::{Me, Membership, Tuning};
use pushmesh_proto::v1::pushes_client::PushesClient;
use pushmesh_protocol::{
    CallId, ConnId, DeviceId, Instance, Kind, LoginId, Partition, Partitions, Payload, PushId, Token, TraceContext,
    Unit, UserId,
    frame::{Call, Message},
    message::{
        AckBatch, AckItem, AckOutcome, AtEnd, Body, CometBatch, CometItem, CometOrder, DeadLetter, Delivery, EndedBy,
        LoginAnswer, LoginAnswers, LoginEnded, LoginReport, LoginReports, Millis, Pending, Policy, PushOrder, Session,
        SessionLogin, Target, Withdrawal,
    },
    name::{Bucket, Filter, Key, KeyFilter, MessageId, QueueGroup, Stream, Subject},
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_testkit::{Nats, Process, ProcessOptions, wait_for};
use tokio::task::JoinSet;
use tonic::{Request, transport::Channel};

/// More than anything takes on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(60);
/// The retry interval of most stories.
pub const RETRY: Duration = Duration::from_millis(300);

pub struct Mesh {
    pub nats: Nats,
    pub bus: Bus,
    pub sessions: Kv,
    pub pending: Kv,
    jwks: PathBuf,
    reports: Arc<Mutex<Vec<LoginReport>>>,
    login_ingest_is_silent: Arc<AtomicBool>,
    dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

pub fn partitions() -> Partitions {
    Partitions::new(8).unwrap()
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
}

pub async fn connect(url: &str, service: &str, instance: &str) -> Bus {
    let (service, instance) = (Token::new(service).unwrap(), Instance::new(instance).unwrap());
    Bus::connect(&Config::to(url), &service, &instance).await.unwrap()
}

impl Mesh {
    pub async fn start() -> Mesh {
        let nats = Nats::start().await;
        let bus = connect(&nats.url(), "test", "test").await;
        let config = TopologyConfig { partitions: partitions(), ..TopologyConfig::default() };
        pushmesh_bus::provision(&bus, &topology(&config)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let jwks = dir.path().join("jwks.json");
        generate_jwks(&jwks).unwrap();
        let reports = Arc::new(Mutex::new(vec![]));
        let mut tasks = JoinSet::new();
        let login_ingest_is_silent = Arc::new(AtomicBool::new(false));
        tasks.spawn(play_login_ingest(bus.clone(), reports.clone(), login_ingest_is_silent.clone()));
        Mesh {
            sessions: bus.bucket(&Bucket::SESSIONS).await.unwrap(),
            pending: bus.bucket(&Bucket::PENDING).await.unwrap(),
            nats,
            bus,
            jwks,
            reports,
            login_ingest_is_silent,
            dir,
            _tasks: tasks,
        }
    }

    /// Its settings: those of the stories, then `settings`.
    pub async fn ack_retry(&self, name: &str, settings: &[&str]) -> Process {
        let own = [
            format!("nats.url={}", self.nats.url()),
            format!("auth.jwks_file={}", self.jwks.display()),
            format!("mesh.instance={name}"),
            "admin.listen=127.0.0.1:0".into(),
            "service.door.listen=127.0.0.1:0".into(),
            "service.retry_interval=300ms".into(),
            "service.left_after=1s".into(),
        ];
        let settings = own.into_iter().chain(settings.iter().map(|setting| (*setting).to_owned()));
        let args = settings.flat_map(|setting| ["--set".to_owned(), setting]);
        Process::start(name, ProcessOptions::new(env!("CARGO_BIN_EXE_ack-retry")).args(args)).await
    }

    pub async fn grpc(&self, process: &Process) -> PushesClient<Channel> {
        PushesClient::connect(format!("http://{}", process.door("grpc"))).await.unwrap()
    }

    pub fn authorized<T>(&self, message: T, scopes: &[Scope]) -> Request<T> {
        let token = Minter::from_jwks(&self.jwks).unwrap().backend("shop", scopes, Duration::from_secs(600));
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }

    pub async fn comet(&self, name: &str) -> Comet {
        Comet::join(&self.nats.url(), name).await
    }

    pub async fn put_session(&self, comet: &Comet, who: &str, device: &str, login: &str, conn: &str) {
        self.put_session_since(comet, who, device, login, conn, now(), None).await;
    }

    #[allow(clippy::too_many_arguments)]
    pub async fn put_session_since(
        &self,
        comet: &Comet,
        who: &str,
        device: &str,
        login: &str,
        conn: &str,
        since: Millis,
        left: Option<Millis>,
    ) {
        let session = Session {
            login_id: LoginId::new(login).unwrap(),
            device: DeviceId::new(device).unwrap(),
            comet: comet.instance.clone(),
            comet_epoch: comet.membership.epoch(),
            since,
            left,
        };
        let key = Key::session(partition(who), &user(who), &ConnId::new(conn).unwrap());
        self.sessions.put(&key, wire::encode(&session).into()).await.unwrap();
    }

    pub async fn has_session(&self, who: &str, conn: &str) -> bool {
        let key = Key::session(partition(who), &user(who), &ConnId::new(conn).unwrap());
        self.sessions.get(&key).await.unwrap().is_some()
    }

    pub async fn order(&self, order: PushOrder) {
        let (subject, id) = match &order {
            PushOrder::Deliver(delivery) => (Subject::push(partition_of(&delivery.user), &delivery.user), delivery.id),
            PushOrder::Withdraw(end) => (Subject::push(partition_of(&end.user), &end.user), end.id),
            PushOrder::LoginEnded(_) => panic!("has another id"),
        };
        self.store(subject, MessageId::push(id), &order).await;
    }

    pub async fn store(&self, subject: Subject, id: MessageId, order: &PushOrder) {
        let payload = wire::encode(order).into();
        self.bus.store(Outgoing { subject, payload, id, trace: None }).await.unwrap();
    }

    /// A call's push to a login.
    pub async fn call(&self, who: &str, device: &str, login: &str, call: &str) -> PushId {
        let (call_id, login_id) = (CallId::new(call).unwrap(), LoginId::new(login).unwrap());
        let id = PushId::of_call(&kind(), &call_id, &user(who), &login_id);
        let unit = Unit::new("friends").unwrap();
        let body = Body::Call(Call { kind: kind(), call_id, unit, started_at: now(), data: None });
        let target = Target::Login { login_id, device: DeviceId::new(device).unwrap() };
        self.order(PushOrder::Deliver(delivery(id, who, target, body, AtEnd::Dead))).await;
        id
    }

    /// A message to a user.
    pub async fn message(&self, who: &str, name: &str, at_end: AtEnd) -> PushId {
        let delivery = self.delivery(who, name, at_end);
        let id = delivery.id;
        self.order(PushOrder::Deliver(delivery)).await;
        id
    }

    pub fn delivery(&self, who: &str, name: &str, at_end: AtEnd) -> Delivery {
        let sender = Token::new("shop").unwrap();
        let id = PushId::of_message(&sender, name, &user(who));
        let body = Body::Message(Message { sender, data: Payload::from("hello") });
        delivery(id, who, Target::User, body, at_end)
    }

    pub async fn withdraw(&self, who: &str, device: &str, login: &str, call: &str) -> PushId {
        let (call_id, login_id) = (CallId::new(call).unwrap(), LoginId::new(login).unwrap());
        let push = PushId::of_call(&kind(), &call_id, &user(who), &login_id);
        let (id, device) = (push.withdrawal(), DeviceId::new(device).unwrap());
        let (user, kind, at) = (user(who), kind(), now());
        let end = Withdrawal { id, push, user, login_id, device, kind, call_id, at, source: None, trace: None };
        self.order(PushOrder::Withdraw(end)).await;
        id
    }

    pub async fn login_ended(&self, who: &str, login: &str) {
        self.login_ended_by(&kind(), who, login, None).await;
    }

    pub async fn login_ended_by(&self, kind: &Kind, who: &str, login: &str, by: Option<EndedBy>) {
        let login_id = LoginId::new(login).unwrap();
        let id = MessageId::login_ended(kind, &user(who), &login_id, by.as_ref());
        let order = LoginEnded { user: user(who), login_id, kind: kind.clone(), at: now(), by };
        self.store(Subject::push(partition(who), &user(who)), id, &PushOrder::LoginEnded(order)).await;
    }

    /// What stands beside a session: the login that it is in, and the revision.
    pub async fn standing(&self, who: &str, conn: &str) -> Option<(SessionLogin, u64)> {
        let key = Key::session_login(partition(who), &user(who), &ConnId::new(conn).unwrap());
        let entry = self.sessions.get(&key).await.unwrap()?;
        Some((wire::decode(&entry.value).unwrap(), entry.revision))
    }

    /// As a comet does whose session goes on elsewhere.
    pub async fn purge_session(&self, who: &str, conn: &str) {
        let key = Key::session(partition(who), &user(who), &ConnId::new(conn).unwrap());
        self.sessions.purge(&key).await.unwrap();
    }

    pub fn reports(&self) -> Vec<LoginReport> {
        self.reports.lock().unwrap().clone()
    }

    /// From now on no report is answered.
    pub fn silence_login_ingest(&self) {
        self.login_ingest_is_silent.store(true, Ordering::Relaxed);
    }

    /// What `pending` holds of a user.
    pub async fn pending_of(&self, who: &str) -> Vec<Pending> {
        let filter = KeyFilter::of_user(partition(who), &user(who));
        self.keys(filter).await.into_iter().map(|value| wire::decode(&value).unwrap()).collect()
    }

    async fn keys(&self, filter: KeyFilter) -> Vec<bytes::Bytes> {
        let mut watch = self.pending.watch(filter).await.unwrap();
        let mut found = vec![];
        loop {
            match watch.next().await.unwrap() {
                KvEvent::Put(entry) => found.push(entry.value),
                KvEvent::Current => return found,
                KvEvent::Gone { .. } | KvEvent::Restarted => {}
            }
        }
    }

    pub async fn dead(&self) -> Vec<DeadLetter> {
        let mut watch = self.bus.watch_stream(&Stream::DEAD, Filter::dead()).await.unwrap();
        let mut letters = vec![];
        loop {
            match watch.next().await.unwrap() {
                StreamEvent::Message { payload, .. } => letters.push(wire::decode(&payload).unwrap()),
                StreamEvent::CaughtUp => return letters,
                StreamEvent::Restarted => letters.clear(),
            }
        }
    }

    /// `pending` holds nothing any more.
    pub async fn nothing_is_left(&self) {
        wait_for("pending to be empty", LONG, async || {
            let mut keys = 0;
            for partition in partitions().all() {
                keys += self.keys(KeyFilter::of_partition(partition)).await.len();
            }
            if keys == 0 { Ok(()) } else { Err(format!("{keys} keys")) }
        })
        .await;
    }

    /// PUSH holds nothing that waits; nobody may own a partition any more.
    pub async fn no_push_waits(&self) {
        for partition in partitions().all() {
            let consumer = self.bus.take_partition(&Stream::PUSH, partition, TakeOver::Crashed).await.unwrap();
            assert_eq!(consumer.pending(), 0, "partition {partition}");
        }
    }

    pub async fn metric(&self, process: &Process, name: &str) -> f64 {
        let text =
            reqwest::get(format!("http://{}/metrics", process.door("admin"))).await.unwrap().text().await.unwrap();
        let values = text.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }
}

pub fn partition(who: &str) -> Partition {
    partition_of(&user(who))
}

fn partition_of(user: &UserId) -> Partition {
    partitions().of_user(user)
}

pub fn kind() -> Kind {
    Kind::new("group").unwrap()
}

fn delivery(id: PushId, who: &str, target: Target, body: Body, at_end: AtEnd) -> Delivery {
    let policy = Policy { at_end, lifetime_ms: 3_600_000 };
    Delivery { id, user: user(who), target, body, policy, at: now(), source: None, trace: None }
}

async fn play_login_ingest(bus: Bus, reports: Arc<Mutex<Vec<LoginReport>>>, silent: Arc<AtomicBool>) {
    let filter = Filter::from(Subject::login_report());
    let mut requests = bus.subscribe_group(filter, QueueGroup::LOGIN_INGEST).await.unwrap();
    while let Some(request) = requests.next().await {
        let LoginReports(said) = wire::decode(&request.payload).unwrap();
        let answers = vec![LoginAnswer::Accepted { login_id: None }; said.len()];
        reports.lock().unwrap().extend(said);
        if silent.load(Ordering::Relaxed) {
            continue;
        }
        bus.reply(request.reply.unwrap(), wire::encode(&LoginAnswers(answers)).into()).await.unwrap();
    }
}

/// A comet: a member that gets batches and answers them.
pub struct Comet {
    pub instance: Instance,
    pub membership: Membership,
    bus: Bus,
    received: Arc<Mutex<Vec<CometItem>>>,
    _tasks: JoinSet<()>,
}

impl Comet {
    async fn join(url: &str, name: &str) -> Comet {
        let bus = connect(url, "comet", name).await;
        let (service, instance) = (Token::new("comet").unwrap(), Instance::new(name).unwrap());
        let mut batches = bus.subscribe(Filter::from(Subject::comet(&instance))).await.unwrap();
        let me = Me { service, instance: instance.clone(), weight: 10, address: String::new() };
        let membership = Membership::join(&bus, me, Tuning::default()).await.unwrap();
        let received = Arc::new(Mutex::new(vec![]));
        let mut tasks = JoinSet::new();
        let store = received.clone();
        tasks.spawn(async move {
            while let Some(message) = batches.next().await {
                let batch: CometBatch = wire::decode(&message.payload).unwrap();
                store.lock().unwrap().extend(batch.items);
            }
        });
        Comet { instance, membership, bus, received, _tasks: tasks }
    }

    pub fn items(&self) -> Vec<CometItem> {
        self.received.lock().unwrap().clone()
    }

    /// To which connection a push came, each time.
    pub fn transmissions(&self, push: PushId) -> Vec<String> {
        let of = |item: &CometItem| match &item.order {
            CometOrder::Push(frame) => frame.id == push,
            CometOrder::CallEnded(frame) => frame.id == push,
            CometOrder::Kick(_) => false,
        };
        self.items().into_iter().filter(of).map(|item| item.conn_id.to_string()).collect()
    }

    /// The context that came along with a push.
    pub fn trace_of(&self, push: PushId) -> Option<TraceContext> {
        let of = |item: &CometItem| matches!(&item.order, CometOrder::Push(frame) if frame.id == push);
        self.items().into_iter().find(of).and_then(|item| item.trace)
    }

    pub fn kicked(&self) -> Vec<String> {
        let kicks = self.items().into_iter().filter(|item| matches!(item.order, CometOrder::Kick(_)));
        kicks.map(|item| item.conn_id.to_string()).collect()
    }

    /// Waits until a push came so many times.
    pub async fn has(&self, push: PushId, times: usize) -> Vec<String> {
        wait_for(&format!("{times} transmissions of {push}"), LONG, async || {
            let found = self.transmissions(push);
            if found.len() >= times { Ok(found) } else { Err(format!("{} came: {:?}", found.len(), self.items())) }
        })
        .await
    }

    pub async fn answer(&self, who: &str, conn: &str, push: PushId, outcome: AckOutcome) {
        self.answer_traced(who, conn, push, outcome, None).await;
    }

    pub async fn answer_traced(
        &self,
        who: &str,
        conn: &str,
        push: PushId,
        outcome: AckOutcome,
        trace: Option<TraceContext>,
    ) {
        let items = vec![AckItem { user: user(who), conn_id: ConnId::new(conn).unwrap(), push, outcome, trace }];
        let batch = AckBatch { comet: self.instance.clone(), comet_epoch: self.membership.epoch(), items };
        self.bus.publish(Subject::ack(partition(who)), wire::encode(&batch).into()).await.unwrap();
    }

    pub async fn ack(&self, who: &str, conn: &str, push: PushId) {
        self.answer(who, conn, push, AckOutcome::Acked).await;
    }
}
