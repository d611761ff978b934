//! Other servers at the same work, each as it ships and in its own protocol.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use pushmesh_broker::{Server, server::spawn_bound};
use pushmesh_protocol::RoomId;
use serde::Serialize;
use tempfile::TempDir;

use super::{
    fleet::Fleet,
    frames::{Protocol, TOPIC},
    live::{Lived, live},
    publisher::{Publisher, To},
    scene::{COMET, Scene, settled_memory},
};
use crate::bench::{Frame, machine, until};

/// One server under one load.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    pub name: &'static str,
    pub connections: u64,
    pub messages_per_s: f64,
    pub cpu_us_per_delivery: f64,
    pub rss_bytes_per_idle_connection: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Messages that a client did not get.
    pub lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<String>,
}

/// The loads: so many connections, so many messages a second.
#[derive(Debug, Clone)]
pub struct Plan {
    pub few: u64,
    pub rates_of_few: Vec<f64>,
    pub many: u64,
    pub rates_of_many: Vec<f64>,
    pub window: Duration,
}

/// All that were measured, and those that are not installed.
#[derive(Debug, Default)]
pub struct Peers {
    pub measured: Vec<Peer>,
    pub skipped: Vec<String>,
}

pub const PUSHMESH: &str = "pushmesh";
pub const MOSQUITTO: &str = "mosquitto";
const NGINX: &str = "nginx-nchan";
const READY_WITHIN: Duration = Duration::from_secs(15);
/// A few messages a second, for a second, before it counts.
const WARM_UP: (f64, Duration) = (10.0, Duration::from_secs(1));

/// pushmesh, then each peer that is installed, under the same loads.
pub async fn measure(frame: &Frame, plan: &Plan) -> anyhow::Result<Peers> {
    let mut peers = Peers::default();
    pushmesh(frame, plan, &mut peers.measured).await?;
    for name in ["nats-server", NGINX, MOSQUITTO] {
        rival(frame, plan, name, &mut peers).await.with_context(|| name.to_owned())?;
    }
    Ok(peers)
}

async fn pushmesh(frame: &Frame, plan: &Plan, measured: &mut Vec<Peer>) -> anyhow::Result<()> {
    let idle = {
        let mut scene = Scene::set(frame, Protocol::WebSocket, plan.many, &[]).await?;
        scene.connect(plan.few).await?;
        let few = scene.memory().await?;
        scene.connect(plan.many).await?;
        slope(few, scene.memory().await?, plan)
    };
    for (connections, rate) in plan.loads() {
        let mut scene = Scene::set(frame, Protocol::WebSocket, connections, &[]).await?;
        let comet = vec![(COMET.to_owned(), scene.comet()?)];
        scene.connect(connections).await?;
        let mut hall = scene.fill(connections).await?;
        // The room's owner is unheard from the first frame on.
        live(&mut scene.fleet, &mut hall.publisher, WARM_UP.0, WARM_UP.1, &comet).await?;
        let lived = live(&mut scene.fleet, &mut hall.publisher, rate, plan.window, &comet).await?;
        measured.push(Peer::of(frame, PUSHMESH, (connections, rate), idle, &lived));
    }
    Ok(())
}

fn slope(few: u64, many: u64, plan: &Plan) -> f64 {
    ((many as f64 - few as f64) / (plan.many - plan.few).max(1) as f64).round()
}

/// A running peer; dropped, it is killed.
struct Rival {
    name: &'static str,
    protocol: Protocol,
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

enum Process {
    Nats(Box<Server>),
    Other(Child),
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Other(child) = self {
            // nginx ends its workers when it is asked, not when it is killed.
            let _gone = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(child.id() as i32),
                nix::sys::signal::Signal::SIGTERM,
            );
            let _ended = child.wait();
        }
    }
}

impl Rival {
    /// `None`: it is not installed.
    async fn start(name: &'static str) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("pushmesh-peer-").tempdir().context("can't make a folder")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (protocol, process) = match name {
            NGINX => (Protocol::Nchan, nginx(folder.path(), port)?),
            MOSQUITTO => (Protocol::Mqtt, mosquitto(folder.path(), port)?),
            _ => {
                let mut options = pushmesh_broker::Options::new(folder.path().join("nats"));
                options.port = port;
                (Protocol::Nats, Some(Process::Nats(Box::new(Server::start(options).await?))))
            }
        };
        let Some(process) = process else { return Ok(None) };
        let rival = Self { name, protocol, address, process, _folder: folder };
        let open = until(READY_WITHIN, Duration::from_millis(50), async || {
            Ok(tokio::net::TcpStream::connect(address).await.ok().map(drop))
        });
        if open.await?.is_none() {
            bail!("{name} accepts no connection within {READY_WITHIN:?}: {}", rival.log());
        }
        Ok(Some(rival))
    }

    fn log(&self) -> String {
        fs::read_to_string(self._folder.path().join("log")).unwrap_or_default().chars().take(1000).collect()
    }

    /// Its process and those that it started.
    fn pids(&self) -> Vec<(String, u32)> {
        let pid = match &self.process {
            Process::Nats(server) => server.pid().unwrap_or_default(),
            Process::Other(child) => child.id(),
        };
        let named = |(number, pid)| (format!("{}-{number}", self.name), pid);
        std::iter::once(pid).chain(machine::children(pid)).enumerate().map(named).collect()
    }

    async fn memory(&self) -> anyhow::Result<u64> {
        settled_memory(&self.pids().iter().map(|(_, pid)| *pid).collect::<Vec<_>>()).await
    }

    async fn connect(&self, connections: u64) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet::start(connections)?;
        fleet.connect(self.protocol, self.address, None, connections).await?;
        fleet.join(&RoomId::new(TOPIC).expect("a token"), connections).await?;
        Ok(fleet)
    }

    /// With subscribers that have got nothing yet.
    async fn idle(&self, plan: &Plan) -> anyhow::Result<f64> {
        let few = self.connect(plan.few).await?;
        let before = self.memory().await?;
        let many = self.connect(plan.many - plan.few).await?;
        let idle = slope(before, self.memory().await?, plan);
        drop((few, many));
        Ok(idle)
    }

    async fn measure(&self, frame: &Frame, plan: &Plan, load: (u64, f64), idle: f64) -> anyhow::Result<Peer> {
        let (connections, rate) = load;
        let (mut fleet, servers) = (self.connect(connections).await?, self.pids());
        let mut publisher = Publisher::connect(self.address, To::Peer(self.protocol)).await?;
        live(&mut fleet, &mut publisher, WARM_UP.0, WARM_UP.1, &servers).await?;
        let lived = live(&mut fleet, &mut publisher, rate, plan.window, &servers).await?;
        Ok(Peer::of(frame, self.name, load, idle, &lived))
    }
}

/// A peer under all loads, each time a fresh one: what it did not get rid of under one would come under the next.
async fn rival(frame: &Frame, plan: &Plan, name: &'static str, peers: &mut Peers) -> anyhow::Result<()> {
    let Some(first) = Rival::start(name).await? else {
        frame.say(format_args!("{name} is not installed: skipped"));
        peers.skipped.push(name.to_owned());
        return Ok(());
    };
    frame.say(format_args!("{name} is ready"));
    let idle = first.idle(plan).await?;
    drop(first);
    for load in plan.loads() {
        let rival = Rival::start(name).await?.context("it was installed a moment ago")?;
        peers.measured.push(rival.measure(frame, plan, load, idle).await?);
    }
    Ok(())
}

impl Plan {
    fn loads(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let few = self.rates_of_few.iter().map(|rate| (self.few, *rate));
        few.chain(self.rates_of_many.iter().map(|rate| (self.many, *rate)))
    }
}

fn nginx(folder: &Path, port: u16) -> anyhow::Result<Option<Process>> {
    let Some(program) = installed("nginx") else { return Ok(None) };
    // As in /usr/sbin/nginx and /usr/lib/nginx.
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let module = prefix.join("lib/nginx/modules/ngx_nchan_module.so");
    if !module.is_file() {
        return Ok(None);
    }
    let place = folder.display();
    let config = format!(
        "load_module {module};\ndaemon off;\nworker_processes auto;\nworker_rlimit_nofile 20000;\npid {place}/pid;\n\
         error_log {place}/log;\nevents {{ worker_connections 20000; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {place}/body;\n  proxy_temp_path {place}/proxy;\n  fastcgi_temp_path {place}/fastcgi;\n  \
         uwsgi_temp_path {place}/uwsgi;\n  scgi_temp_path {place}/scgi;\n  server {{\n    listen 127.0.0.1:{port} \
         backlog=4096;\n    keepalive_requests 1000000000;\n    nchan_message_buffer_length 200;\n    location = /sub {{ \
         nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }}\n    location = /pub {{ nchan_publisher http; \
         nchan_channel_id bench; }}\n  }}\n}}\n",
        module = module.display()
    );
    // As root its workers become somebody who may not write here.
    let config = if nix::unistd::Uid::effective().is_root() { format!("user root;\n{config}") } else { config };
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    run(folder, Command::new(program).args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(file)).map(Some)
}

fn mosquitto(folder: &Path, port: u16) -> anyhow::Result<Option<Process>> {
    let Some(program) = installed(MOSQUITTO) else { return Ok(None) };
    let mut config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type error\nlog_type warning\n"
    );
    if nix::unistd::Uid::effective().is_root() {
        config.push_str("user root\n");
    }
    let file = folder.join("mosquitto.conf");
    fs::write(&file, config)?;
    run(folder, Command::new(program).arg("-c").arg(file)).map(Some)
}

fn run(folder: &Path, command: &mut Command) -> anyhow::Result<Process> {
    let log = fs::File::create(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let command = std::mem::replace(command, Command::new("true"));
    spawn_bound(command).map(Process::Other).context("can't start a peer")
}

/// Where Debian has its servers is not always on the path.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

impl Peer {
    fn of(frame: &Frame, name: &'static str, load: (u64, f64), idle: f64, lived: &Lived) -> Self {
        let peer = Self {
            name,
            connections: load.0,
            messages_per_s: load.1,
            cpu_us_per_delivery: lived.cpu_us_per_delivery(),
            rss_bytes_per_idle_connection: idle,
            p50_ms: lived.percentile_ms(0.5),
            p99_ms: lived.percentile_ms(0.99),
            lost: lived.lost(),
            bottleneck: lived.load.bottleneck.clone(),
        };
        let trouble = lived.seen.tally.trouble.as_deref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        frame.say(format_args!("{peer}{trouble}"));
        peer
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<12} {:>6} connections × {:>3.0}/s: {:.2} µs a delivery, p50 {} ms, p99 {} ms, lost {}",
            self.name,
            self.connections,
            self.messages_per_s,
            self.cpu_us_per_delivery,
            self.p50_ms,
            self.p99_ms,
            self.lost
        )?;
        match &self.bottleneck {
            Some(bottleneck) => write!(f, "; BOTTLENECK: {bottleneck}"),
            None => Ok(()),
        }
    }
}
