//! A mesh: a nats-server or a cluster of them, provisioned, and processes of every service.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use pushmesh_auth::{Minter, Scope};
use pushmesh_bus::{Bus, StreamEvent};
use pushmesh_protocol::{
    Kind, UserId,
    message::DeadLetter,
    name::{Filter, Stream},
    wire,
};
use pushmesh_testkit::{Process, ProcessOptions, pushmesh_binary, wait_for};
use tempfile::TempDir;

use crate::{Backend, Broker, Front, PATIENCE, Person};

/// The services of a mesh, in the order in which they are started.
pub const SERVICES: [&str; 9] = [
    "ack-retry",
    "group-push",
    "discuss-push",
    "org-push",
    "distributor",
    "login-ingest",
    "room-fanout",
    "api",
    "comet",
];
/// Those that a story of logins alone does without.
const OF_ROOMS: [&str; 2] = ["room-fanout", "api"];

/// What a story needs of its mesh.
#[derive(Debug, Clone)]
pub struct Shape {
    /// nats-servers: 1, or a cluster of 3, with as many copies of everything.
    pub servers: usize,
    /// Processes of every service.
    pub instances: usize,
    pub partitions: u16,
    /// Time between transmissions; `None`: what the product does by itself.
    pub retry: Option<&'static str>,
    /// Push kinds beyond group, discuss and org, each served by a process of group-push.
    pub more_kinds: Vec<&'static str>,
    /// Further settings by service: `("comet", "service.limits.connections=3")`.
    pub settings: Vec<(&'static str, String)>,
    /// An OTLP endpoint; every trace is sampled then.
    pub otlp: Option<String>,
    /// With the services of rooms.
    pub rooms: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            servers: 1,
            instances: 1,
            partitions: 8,
            // Three times this is what a client may take to acknowledge, or there is a dead letter that no story announced:
            // 300 ms, as the stories about retries have it, are too few where everybody acknowledges on a busy machine.
            retry: Some("3s"),
            more_kinds: vec![],
            settings: vec![],
            otlp: None,
            rooms: false,
        }
    }
}

impl Shape {
    /// With rooms, and two of everything that has to do with them. A story may talk faster than people do.
    pub fn rooms() -> Self {
        Self { rooms: true, ..Self::default() }.set("api", "service.limits.chat_per_room=10000")
    }

    fn instances_of(&self, service: &str) -> usize {
        match service {
            _ if OF_ROOMS.contains(&service) && !self.rooms => 0,
            "room-fanout" | "api" | "comet" if self.rooms => self.instances.max(2),
            _ => self.instances,
        }
    }

    pub fn set(mut self, service: &'static str, setting: impl Into<String>) -> Self {
        self.settings.push((service, setting.into()));
        self
    }
}

/// A running mesh. Dropping it kills what it started; [`Mesh::stop`] takes it down as an operator would.
pub struct Mesh {
    pub broker: Broker,
    pub shape: Shape,
    processes: BTreeMap<String, Vec<Process>>,
    dir: TempDir,
    bus: Bus,
    /// How many dead letters the story waited for.
    announced: AtomicUsize,
}

impl Mesh {
    pub async fn start(shape: Shape) -> Mesh {
        let broker = Broker::start(shape.servers).await;
        let dir = tempfile::Builder::new().prefix("pushmesh-story-").tempdir().expect("a temporary directory");
        pushmesh_auth::generate_jwks(&dir.path().join("jwks.json")).expect("keys are written");
        let bus_config = pushmesh_bus::Config { url: broker.url(), ..Default::default() };
        let bus = Bus::connect(&bus_config, &"story".parse().expect("a token"), &"story".parse().expect("a token"))
            .await
            .expect("nats-server is up");
        let announced = AtomicUsize::new(0);
        let mut mesh = Mesh { broker, shape, processes: BTreeMap::new(), dir, bus, announced };
        mesh.provision().await;
        for service in mesh.services() {
            for _ in 0..mesh.shape.instances_of(&service) {
                mesh.add(&service).await;
            }
        }
        mesh
    }

    /// In the order in which they are started: whoever is told before those who tell him.
    fn services(&self) -> Vec<String> {
        let mut services = SERVICES.map(str::to_owned).to_vec();
        services.splice(1..1, self.shape.more_kinds.iter().map(|kind| format!("{kind}-push")));
        services
    }

    fn kinds(&self) -> Vec<&'static str> {
        ["group", "discuss", "org"].into_iter().chain(self.shape.more_kinds.iter().copied()).collect()
    }

    async fn provision(&self) {
        let options = ProcessOptions::new(pushmesh_binary()).args([
            "provision".to_owned(),
            "--nats-url".to_owned(),
            self.broker.url(),
            "--replicas".to_owned(),
            self.shape.servers.to_string(),
            "--partitions".to_owned(),
            self.shape.partitions.to_string(),
            "--kinds".to_owned(),
            self.kinds().join(","),
        ]);
        Process::run("provision", options).expect_exit(0, PATIENCE).await;
    }

    /// One more process of a service, the last of its processes.
    pub async fn add(&mut self, service: &str) {
        let process = Process::start(service, self.options(service)).await;
        self.processes.entry(service.to_owned()).or_default().push(process);
    }

    fn options(&self, name: &str) -> ProcessOptions {
        let more = self.shape.more_kinds.iter().find(|kind| name.strip_suffix("-push") == Some(**kind));
        let service = if more.is_some() { "group-push" } else { name };
        let listen = match service {
            "comet" => vec!["service.websocket=127.0.0.1:0".to_owned(), "service.tcp=127.0.0.1:0".to_owned()],
            "distributor" | "room-fanout" => vec![],
            _ => vec!["service.door.listen=127.0.0.1:0".to_owned()],
        };
        let mut settings = vec![
            format!("nats.url={}", self.broker.url()),
            "admin.listen=127.0.0.1:0".to_owned(),
            format!("auth.jwks_file={}", self.jwks().display()),
        ];
        settings.extend(listen);
        if service == "comet" {
            // No limit that a busy machine could pass: a story sets those that it is about.
            let patience = |limit: &str| format!("service.{limit}={}s", PATIENCE.as_secs());
            settings.extend(["report_within", "limits.handshake_within", "limits.login_within"].map(patience));
        }
        if let (Some(retry), "ack-retry") = (self.shape.retry, service) {
            settings.push(format!("service.retry_interval={retry}"));
        }
        if let Some(endpoint) = &self.shape.otlp {
            settings.push(format!("telemetry.otlp_endpoint={endpoint}"));
            settings.push("telemetry.sample_ratio=1.0".to_owned());
        }
        settings.extend(more.map(|kind| format!("service.kind={kind}")));
        let of_shape = self.shape.settings.iter().filter(|(of, _)| *of == service);
        settings.extend(of_shape.map(|(_, setting)| setting.clone()));
        let mut options = ProcessOptions::new(pushmesh_binary()).args(["serve", service]);
        for setting in settings {
            options = options.arg("--set").arg(setting);
        }
        // Traces leave soon, not after the default five seconds.
        options.env("OTEL_BSP_SCHEDULE_DELAY", "200")
    }

    pub fn process(&mut self, service: &str, index: usize) -> &mut Process {
        let all = self.processes.get_mut(service).unwrap_or_else(|| panic!("no process of {service}"));
        &mut all[index]
    }

    /// kill -9.
    pub fn kill(&mut self, service: &str, index: usize) {
        self.take(service, index).kill();
    }

    /// SIGTERM, and waits until it has left with code 0.
    pub async fn leave(&mut self, service: &str, index: usize) {
        self.take(service, index).expect_drained(PATIENCE).await;
    }

    fn take(&mut self, service: &str, index: usize) -> Process {
        self.processes.get_mut(service).unwrap_or_else(|| panic!("no process of {service}")).remove(index)
    }

    pub fn door(&self, service: &str, index: usize, door: &str) -> String {
        self.processes[service][index].door(door).to_string()
    }

    /// The addresses of a door on every process of a service.
    pub fn doors(&self, service: &str, door: &str) -> Vec<String> {
        self.processes[service].iter().map(|process| process.door(door).to_string()).collect()
    }

    pub fn jwks(&self) -> PathBuf {
        self.dir.path().join("jwks.json")
    }

    pub fn minter(&self) -> Minter {
        Minter::from_jwks(&self.jwks()).expect("the keys are there")
    }

    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// A backend with every scope, that uses the first process of every service.
    pub fn backend(&self) -> Backend {
        self.backend_at(0)
    }

    /// The same, that uses the process of this index.
    pub fn backend_at(&self, index: usize) -> Backend {
        let token = self.backend_token();
        let doors = self
            .processes
            .iter()
            .filter(|(name, _)| !["comet", "distributor", "room-fanout"].contains(&name.as_str()))
            .map(|(name, all)| (name.clone(), all[index.min(all.len() - 1)].door("grpc").to_string()))
            .collect();
        Backend::new(doors, &token)
    }

    /// With every scope.
    pub fn backend_token(&self) -> String {
        self.minter().backend("story", &Scope::ALL, Duration::from_secs(3600))
    }

    /// The front door at the api process of this index.
    pub fn front(&self, index: usize) -> Front {
        Front::new(&self.door("api", index, "http"), &self.backend_token())
    }

    pub fn client_token(&self, user: &str, sid: Option<&str>) -> String {
        let user = UserId::new(user).expect("a user of a story");
        let sid = sid.map(|sid| sid.parse().expect("a sid of a story"));
        self.minter().client(&user, sid.as_ref(), Duration::from_secs(3600))
    }

    /// A person with the device `phone`, connected to the first comet over WebSocket and logged in.
    pub async fn login(&self, user: &str) -> Person {
        self.login_at(user, 0).await
    }

    pub async fn login_at(&self, user: &str, comet: usize) -> Person {
        let mut person = Person::connect(self, user, "phone", comet, |_| {});
        person.expect_logged_in().await;
        person
    }

    /// Waits until so many dead letters stand in DEAD, and returns them. At the mesh's end there are no more than these.
    pub async fn dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        self.announced.store(count, Ordering::Relaxed);
        let letters = wait_for("dead letters", PATIENCE, async || {
            let letters = self.all_dead_letters().await;
            if letters.len() >= count { Ok(letters) } else { Err(format!("{} of {count}", letters.len())) }
        });
        letters.await
    }

    pub async fn all_dead_letters(&self) -> Vec<DeadLetter> {
        let mut watch = self.bus.watch_stream(&Stream::DEAD, Filter::dead()).await.expect("DEAD is there");
        let mut letters = Vec::new();
        while let Some(event) = watch.next().await {
            match event {
                StreamEvent::Message { payload, .. } => {
                    letters.push(wire::decode(&payload).expect("DEAD holds dead letters"));
                }
                StreamEvent::CaughtUp => break,
                StreamEvent::Restarted => letters.clear(),
            }
        }
        letters
    }

    /// A metric of a process, summed over its labels; 0 where it is not there yet.
    pub async fn metric(&self, service: &str, index: usize, name: &str) -> f64 {
        let admin = self.door(service, index, "admin");
        let text = reqwest::get(format!("http://{admin}/metrics")).await.expect("admin answers").text().await;
        let text = text.expect("metrics are text");
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until this process owns partitions.
    pub async fn owns(&self, service: &str, index: usize) {
        wait_for(&format!("{service} {index} to own partitions"), PATIENCE, async || {
            let held = self.metric(service, index, "pushmesh_membership_partitions_held").await;
            if held > 0.0 { Ok(()) } else { Err("it owns none") }
        })
        .await;
    }

    /// Waits until nothing that was accepted is still to be read: LOGIN, every LATE and PUSH are empty.
    async fn read_to_the_end(&self) {
        let late = self.kinds().into_iter().map(|kind| Stream::late(&Kind::new(kind).expect("a kind of a story")));
        for stream in [Stream::LOGIN].into_iter().chain(late).chain([Stream::PUSH]) {
            wait_for(&format!("{stream} to be empty"), PATIENCE, async || {
                let state = self.bus.stream_state(&stream).await.map_err(|error| error.to_string())?;
                if state.first > state.last || state.last == 0 { Ok(()) } else { Err(format!("{state:?}")) }
            })
            .await;
        }
    }

    /// Takes everything down as an operator would: each process drains and exits with 0. Nothing is left unread, and nothing
    /// is dead but what the story [waited for](Self::dead_letters).
    pub async fn stop(mut self) {
        self.read_to_the_end().await;
        for service in self.services().iter().rev() {
            for process in self.processes.get_mut(service).into_iter().flatten() {
                process.term();
            }
            for process in self.processes.get_mut(service).into_iter().flatten() {
                process.expect_exit(0, PATIENCE).await;
            }
        }
        let dead = self.all_dead_letters().await;
        let announced = self.announced.load(Ordering::Relaxed);
        assert!(dead.len() == announced, "{} dead letters, {announced} announced: {dead:?}", dead.len());
    }
}
