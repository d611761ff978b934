//! A provisioned nats-server with one login-ingest.

use std::{path::PathBuf, time::Duration};

use pushmesh_auth::{Minter, Scope, generate_jwks};
use pushmesh_bus::{Bus, Config, TakeOver};
use pushmesh_proto::v1::{
    LoginEvent, ReportRequest, ReportResponse, login_ingest_client::LoginIngestClient, report_response,
};
use pushmesh_protocol::{
    Instance, Partitions, Token,
    message::LoginRecord,
    name::Stream,
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_testkit::{Nats, Process, ProcessOptions, wait_for};
use tonic::{Request, Status, transport::Channel};

/// More than anything takes on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(120);

pub struct Ingest {
    pub nats: Nats,
    pub bus: Bus,
    pub process: Process,
    jwks: PathBuf,
    _dir: tempfile::TempDir,
}

impl Ingest {
    pub async fn start() -> Ingest {
        Self::start_with(&[], |_| {}).await
    }

    pub async fn start_with(settings: &[&str], change: impl FnOnce(&mut TopologyConfig)) -> Ingest {
        let nats = Nats::start().await;
        let bus = Config { url: nats.url(), ..Config::default() };
        let (service, instance) = (Token::new("test").unwrap(), Instance::new("test").unwrap());
        let bus = Bus::connect(&bus, &service, &instance).await.unwrap();
        let mut config = TopologyConfig { partitions: partitions(), ..TopologyConfig::default() };
        change(&mut config);
        pushmesh_bus::provision(&bus, &topology(&config)).await.unwrap();

        let dir = tempfile::tempdir().unwrap();
        let jwks = dir.path().join("jwks.json");
        generate_jwks(&jwks).unwrap();
        let own = [
            format!("nats.url={}", nats.url()),
            format!("auth.jwks_file={}", jwks.display()),
            "admin.listen=127.0.0.1:0".into(),
            "service.door.listen=127.0.0.1:0".into(),
        ];
        let settings = own.into_iter().chain(settings.iter().map(|setting| (*setting).to_owned()));
        let args = settings.flat_map(|setting| ["--set".to_owned(), setting]);
        let options = ProcessOptions::new(env!("CARGO_BIN_EXE_login-ingest")).args(args);
        let process = Process::start("login-ingest", options).await;
        Ingest { nats, bus, process, jwks, _dir: dir }
    }

    pub fn token(&self, scopes: &[Scope], lifetime: Duration) -> String {
        let minter = Minter::from_jwks(&self.jwks).unwrap();
        minter.backend("logins", scopes, lifetime)
    }

    pub fn good_token(&self) -> String {
        self.token(&[Scope::LoginWrite], Duration::from_secs(600))
    }

    pub async fn grpc(&self) -> LoginIngestClient<Channel> {
        LoginIngestClient::connect(format!("http://{}", self.process.door("grpc"))).await.unwrap()
    }

    /// A request with a good token.
    pub fn authorized<T>(&self, message: T) -> Request<T> {
        authorized(message, &self.good_token())
    }

    /// Sends all, and gives all answers by ref.
    pub async fn report(&self, reports: Vec<ReportRequest>) -> Result<Vec<report_response::Answer>, Status> {
        let requests = tokio_stream::iter(reports);
        let mut answers = self.grpc().await.report(self.authorized(requests)).await?.into_inner();
        let mut all = vec![];
        while let Some(ReportResponse { r#ref, answer }) = answers.message().await? {
            all.push((r#ref, answer.expect("an answer")));
        }
        all.sort_by_key(|(number, _)| *number);
        Ok(all.into_iter().map(|(_, answer)| answer).collect())
    }

    pub async fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let url = format!("http://{}/v1/logins", self.process.door("grpc"));
        reqwest::Client::new().post(url).bearer_auth(self.good_token()).body(body).send().await.unwrap()
    }

    /// How many records LOGIN holds that nobody took.
    pub async fn stored_count(&self) -> u64 {
        let mut count = 0;
        for partition in partitions().all() {
            let consumer = self.bus.take_partition(&Stream::LOGIN, partition, TakeOver::Crashed).await.unwrap();
            count += consumer.pending();
            consumer.release().await;
        }
        count
    }

    /// The value of a metric of this service; 0 where it is not shown yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("http://{}/metrics", self.process.door("admin"))).await.unwrap();
        let text = text.text().await.unwrap();
        let name = format!("pushmesh_login_ingest_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for a line of the process's log.
    pub async fn logged(&self, text: &str) {
        wait_for(text, LONG, async || match self.process.stderr().contains(text) {
            true => Ok(()),
            false => Err("not logged"),
        })
        .await;
    }

    /// The next `count` records of LOGIN, all partitions together; a partition's in their order.
    pub async fn stored(&self, count: usize) -> Vec<LoginRecord> {
        let (found, mut records) = tokio::sync::mpsc::channel(64);
        for partition in partitions().all() {
            let mut consumer = self.bus.take_partition(&Stream::LOGIN, partition, TakeOver::Crashed).await.unwrap();
            let found = found.clone();
            tokio::spawn(async move {
                while let Some(delivered) = consumer.next().await {
                    let record: LoginRecord = wire::decode(&delivered.payload).unwrap();
                    assert_eq!(partitions().of_user(&record.user), partition);
                    delivered.acker().ack();
                    if found.send(record).await.is_err() {
                        return;
                    }
                }
            });
        }
        let mut all = vec![];
        while all.len() < count {
            let next = tokio::time::timeout(LONG, records.recv());
            all.push(next.await.unwrap_or_else(|_| panic!("{} of {count} are there", all.len())).unwrap());
        }
        all
    }
}

pub fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

pub fn partitions() -> Partitions {
    Partitions::new(8).unwrap()
}

pub fn online(number: u64, user: &str, login_id: &str) -> ReportRequest {
    ReportRequest {
        r#ref: number,
        user: user.into(),
        device: "phone".into(),
        login_id: login_id.into(),
        event: LoginEvent::Online.into(),
        at_ms: 0,
    }
}
