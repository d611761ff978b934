//! A provisioned nats-server with distributors.

use std::time::Duration;

use pushmesh_bus::{Bus, Config, Outgoing, StreamEvent};
use pushmesh_protocol::{
    DeviceId, Instance, Kind, LoginId, Partitions, Token, TraceContext, UserId,
    message::{DeadLetter, LoginEvent, LoginRecord},
    name::{Filter, MessageId, Stream, Subject},
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_testkit::{Nats, Process, ProcessOptions, wait_for};

use crate::kind::TestKind;

/// More than anything takes on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(60);
pub const PARTITIONS: u16 = 8;

pub struct Mesh {
    pub nats: Nats,
    pub bus: Bus,
    next: u64,
}

impl Mesh {
    pub async fn start() -> Mesh {
        let nats = Nats::start().await;
        let bus = connect(&nats.url(), "test", "test").await;
        let config = TopologyConfig { partitions: partitions(), ..TopologyConfig::default() };
        pushmesh_bus::provision(&bus, &topology(&config)).await.unwrap();
        Mesh { nats, bus, next: 0 }
    }

    pub async fn distributor(&self, instance: &str) -> Process {
        self.distributor_with(instance, &[]).await
    }

    pub async fn distributor_with(&self, instance: &str, more: &[&str]) -> Process {
        let options = ProcessOptions::new(env!("CARGO_BIN_EXE_distributor"));
        let settings = [
            format!("nats.url={}", self.nats.url()),
            format!("mesh.instance={instance}"),
            "admin.listen=127.0.0.1:0".into(),
            "telemetry.log=info,distributor=debug".into(),
            // Sooner than by default; not so soon that a busy machine makes a kind late that answers.
            "service.request_timeout=1s".into(),
            "service.late_after=2500ms".into(),
        ];
        let settings = settings.into_iter().chain(more.iter().map(|setting| (*setting).to_owned()));
        let args = settings.flat_map(|setting| ["--set".to_owned(), setting]);
        Process::start(instance, options.args(args)).await
    }

    pub async fn kind(&self, kind: &str, instance: &str) -> TestKind {
        TestKind::start(&self.nats.url(), Kind::new(kind).unwrap(), instance).await
    }

    /// The three kinds of the default topology, one instance each.
    pub async fn kinds(&self) -> [TestKind; 3] {
        [self.kind("group", "g1").await, self.kind("discuss", "d1").await, self.kind("org", "o1").await]
    }

    /// Stores `count` records of `users` users in turn.
    pub async fn login(&mut self, count: u64, users: u64) {
        let messages = (0..count).map(|_| self.record(users, None)).collect();
        for result in self.bus.store_all(&Stream::LOGIN, messages).await {
            result.unwrap();
        }
    }

    /// Stores one record with the context of its producer.
    pub async fn login_traced(&mut self, trace: Option<TraceContext>) {
        let message = self.record(10, trace);
        self.bus.store(message).await.unwrap();
    }

    fn record(&mut self, users: u64, trace: Option<TraceContext>) -> Outgoing {
        self.next += 1;
        let user = UserId::new(&format!("u{}", self.next % users)).unwrap();
        let login_id = LoginId::new(&format!("l{}", self.next)).unwrap();
        let id = MessageId::online(&user, &login_id);
        let event = LoginEvent::Online { login_id, device: DeviceId::new("phone").unwrap() };
        let record = LoginRecord { user, event, at: self.next, trace };
        let subject = Subject::login_record(partitions().of_user(&record.user), &record.user);
        Outgoing { subject, payload: wire::encode(&record).into(), id, trace }
    }

    /// How many records were stored.
    pub fn stored(&self) -> usize {
        self.next as usize
    }

    /// Something that is no record, in `user`'s partition.
    pub async fn garbage(&self, user: &str) {
        let user = UserId::new(user).unwrap();
        let subject = Subject::login_record(partitions().of_user(&user), &user);
        let id = MessageId::online(&user, &LoginId::new("garbage").unwrap());
        let garbage = Outgoing { subject, payload: "garbage".into(), id, trace: None };
        self.bus.store(garbage).await.unwrap();
    }

    pub async fn dead_letter(&self) -> DeadLetter {
        let mut dead = self.bus.watch_stream(&Stream::DEAD, Filter::dead()).await.unwrap();
        loop {
            match tokio::time::timeout(LONG, dead.next()).await.expect("a dead letter in time") {
                Some(StreamEvent::Message { payload, .. }) => return wire::decode(&payload).unwrap(),
                Some(_) => {}
                None => panic!("the watch ended"),
            }
        }
    }
}

pub fn partitions() -> Partitions {
    Partitions::new(PARTITIONS).unwrap()
}

pub async fn connect(url: &str, service: &str, instance: &str) -> Bus {
    let config = Config { url: url.to_owned(), ..Config::default() };
    Bus::connect(&config, &Token::new(service).unwrap(), &Instance::new(instance).unwrap()).await.unwrap()
}

/// The sum of a metric over its labels.
pub async fn metric(process: &Process, name: &str) -> Result<f64, String> {
    let address = process.door("admin");
    let text = reqwest::get(format!("http://{address}/metrics")).await.map_err(|error| error.to_string())?;
    let text = text.text().await.map_err(|error| error.to_string())?;
    let values = text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']));
    Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// Waits until a metric has the value.
pub async fn expect_metric(process: &Process, name: &str, is: impl Fn(f64) -> bool) {
    wait_for(name, LONG, || async {
        let value = metric(process, name).await?;
        if is(value) { Ok(()) } else { Err(format!("{name} is {value}")) }
    })
    .await;
}
