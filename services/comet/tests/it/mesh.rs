//! Whole services on a real nats-server: what the stories run on.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use comet::Config;
use pushmesh_auth::Minter;
use pushmesh_boot::{BootError, Control, Doors as Announced, Service, Settings, Shutdown};
use pushmesh_bus::{Bus, Kv, TakeOver};
use pushmesh_membership::{Me, Membership, Tuning, ring::WEIGHT_MAX};
use pushmesh_protocol::{
    ConnId, Instance, Partition, Partitions, Token,
    frame::{ClientFrame, Login, LoginOk, Resume, ServerFrame},
    message::{CometBatch, CometItem, CometOrder, LoginRecord, Session},
    name::{Bucket, Key, Stream, Subject},
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_testkit::Nats;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{Doors, SOON, login, push};

const SECRET: &[u8] = b"a secret of the tests that is long enough";

pub struct Mesh {
    pub nats: Nats,
    pub bus: Bus,
    pub sessions: Kv,
    pub minter: Minter,
    pub dir: tempfile::TempDir,
}

pub struct Running {
    pub instance: Instance,
    doors: BTreeMap<String, SocketAddr>,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), BootError>>,
}

impl Doors for Running {
    fn websocket(&self) -> SocketAddr {
        self.doors["ws"]
    }
    fn tcp(&self) -> SocketAddr {
        self.doors["tcp"]
    }
}

impl Running {
    /// As the first SIGTERM does.
    pub async fn drain(self) {
        self.shutdown.signal();
        tokio::time::timeout(SOON, self.task).await.expect("drained in time").unwrap().unwrap();
    }
}

impl Mesh {
    pub async fn start() -> Self {
        let nats = Nats::start().await;
        let config = pushmesh_bus::Config { url: nats.url(), ..Default::default() };
        let bus = Bus::connect(&config, &token("test"), &"test-1".parse().unwrap()).await.unwrap();
        let topology =
            topology(&TopologyConfig { partitions: Partitions::new(8).unwrap(), ..TopologyConfig::default() });
        pushmesh_bus::provision(&bus, &topology).await.unwrap();
        let sessions = bus.bucket(&Bucket::SESSIONS).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let key = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, SECRET);
        let jwks = format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{key}"}}]}}"#);
        std::fs::write(dir.path().join("jwks.json"), jwks).unwrap();
        Self { nats, bus, sessions, minter: Minter::hs256(SECRET), dir }
    }

    pub async fn comet(&self, name: &str, change: impl FnOnce(&mut Config)) -> Running {
        self.comet_at(&self.nats.url(), name, change).await
    }

    /// A comet that reaches the nats-server under this URL.
    pub async fn comet_at(&self, nats: &str, name: &str, change: impl FnOnce(&mut Config)) -> Running {
        let mut config = Config { drain_for: Duration::from_secs(20), ..crate::harness::config() };
        config.limits.retry_jitter = Duration::from_millis(100);
        change(&mut config);
        self.run_at::<comet::Service>(nats, name, config).await
    }

    /// A member that does nothing but be one, as heavy as can be.
    pub async fn member(&self, service: &str, name: &str, address: &str) -> Membership {
        let me = Me {
            service: token(service),
            instance: name.parse().unwrap(),
            weight: WEIGHT_MAX,
            address: address.to_owned(),
        };
        Membership::join(&self.bus, me, Tuning::default()).await.unwrap()
    }

    pub async fn ingest(&self) -> Running {
        let mut config = login_ingest::Config::default();
        config.door.listen.set_port(0);
        self.run::<login_ingest::Service>("ingest-1", config).await
    }

    pub async fn run<S: Service>(&self, name: &str, service: S::Config) -> Running {
        self.run_at::<S>(&self.nats.url(), name, service).await
    }

    async fn run_at<S: Service>(&self, nats: &str, name: &str, service: S::Config) -> Running {
        let mut settings = Settings { service, ..Settings::<S::Config>::default() };
        settings.nats.url = nats.to_owned();
        settings.admin.listen.set_port(0);
        settings.auth.jwks_file = Some(self.dir.path().join("jwks.json"));
        let instance: Instance = name.parse().unwrap();
        settings.mesh.instance = Some(instance.clone());
        let (ready, started) = oneshot::channel::<Announced>();
        let shutdown = Shutdown::new();
        let control = Control { shutdown: shutdown.clone(), ready: Some(ready), ..Control::default() };
        let task = tokio::spawn(pushmesh_boot::run::<S>(settings, control));
        let doors = tokio::time::timeout(SOON, started).await.expect("ready in time").unwrap();
        Running { instance, doors, shutdown, task }
    }

    pub fn token(&self, user: &str, sid: Option<&str>) -> String {
        self.minter.client(&user.parse().unwrap(), sid.map(token).as_ref(), Duration::from_secs(600))
    }

    pub fn partition(&self, user: &str) -> Partition {
        Partitions::new(8).unwrap().of_user(&user.parse().unwrap())
    }

    pub async fn session(&self, user: &str, conn: &ConnId) -> Option<Session> {
        let key = Key::session(self.partition(user), &user.parse().unwrap(), conn);
        self.sessions.get(&key).await.unwrap().map(|entry| wire::decode(&entry.value).unwrap())
    }

    /// The user's records, once there are `count`.
    pub async fn records(&self, user: &str, count: usize) -> Vec<LoginRecord> {
        let mut consumer =
            self.bus.take_partition(&Stream::LOGIN, self.partition(user), TakeOver::Fresh).await.unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            let next = tokio::time::timeout(SOON, consumer.next()).await.expect("a record in time").unwrap();
            let record: LoginRecord = wire::decode(&next.payload).unwrap();
            if record.user.as_str() == user {
                records.push(record);
            }
        }
        records
    }

    pub async fn send(&self, comet: &Running, user: &str, conn: &ConnId, epoch: u64, order: CometOrder) {
        let item = CometItem {
            partition: self.partition(user),
            epoch,
            user: user.parse().unwrap(),
            conn_id: conn.clone(),
            order,
            trace: None,
        };
        let batch = wire::encode(&CometBatch { items: vec![item] });
        self.bus.publish(Subject::comet(&comet.instance), batch.into()).await.unwrap();
    }

    /// Answers requests on `subject` until dropped.
    pub async fn answer(
        &self,
        subject: Subject,
        answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        let mut requests = self.bus.subscribe(subject.into()).await.unwrap();
        let bus = self.bus.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                bus.reply(request.reply.unwrap(), answer(&request.payload).into()).await.unwrap();
            }
        }))
    }
}

pub fn token(text: &str) -> Token {
    text.parse().unwrap()
}

pub fn order(number: u64) -> CometOrder {
    match push(number, 10) {
        ServerFrame::Push(push) => CometOrder::Push(push),
        _ => unreachable!(),
    }
}

pub fn resuming(token: &str, ok: &LoginOk) -> ClientFrame {
    let ClientFrame::Login(login) = login(token) else { unreachable!() };
    let resume = Some(Resume { login_id: ok.login_id.clone(), conn_id: ok.conn_id.clone() });
    ClientFrame::Login(Login { resume, ..login })
}

/// A comet in a process of its own.
pub struct Outside {
    pub websocket: SocketAddr,
    pub tcp: SocketAddr,
}

impl Doors for Outside {
    fn websocket(&self) -> SocketAddr {
        self.websocket
    }
    fn tcp(&self) -> SocketAddr {
        self.tcp
    }
}
