//! `pushmesh bench fanout`: what it costs to tell a whole room, beside a loop that only writes.

mod client;
mod driver;
mod fleet;
mod frames;
mod hook;
mod live;
mod manner;
mod orders;
mod overload;
mod pairs;
mod peers;
mod publisher;
mod scene;

use std::{fmt, time::Duration};

use pushmesh_protocol::RoomId;
use serde::Serialize;

pub use self::{driver::run as drive, hook::Hook};
use self::{
    frames::Protocol,
    overload::Overload,
    pairs::{Effort, Run},
    peers::{MOSQUITTO, PUSHMESH, Peer, Peers},
    scene::Scene,
};
use super::{Common, Frame, Verdict};

/// Options of `bench fanout`.
#[derive(Debug, clap::Args)]
pub struct Fanout {
    #[command(flatten)]
    pub(super) common: Common,
    /// Measures other servers too, as far as they are installed: nats-server, nginx with nchan, mosquitto
    #[arg(long)]
    peers: bool,
    /// Connections in one room, several separated by commas [default: 1000,5000,15000, quick 200,400]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=19_000))]
    connections: Vec<u64>,
    /// Only this part: runs, overload or peers
    #[arg(long, value_enum)]
    only: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// CPU per delivery beside its floor, and memory
    Runs,
    /// Thousands of messages a second on one core
    Overload,
    /// Other servers
    Peers,
}

/// What is printed; the keys are a contract.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    runs: Vec<Run>,
    overload: Vec<Overload>,
    /// The slope between the numbers of connections in `rss_from_to`, logged in and in no room.
    rss_bytes_per_idle_connection: f64,
    rss_from_to: [u64; 2],
    /// What the room adds for each that is in it.
    rss_bytes_per_member: f64,
    peers: Vec<Peer>,
    /// Peers that are not installed.
    skipped_peers: Vec<String>,
    /// A message on a WebSocket, with all that stands around the payload.
    bytes_per_message: usize,
}

/// How much is done.
struct Plan {
    /// Ascending.
    connections: Vec<u64>,
    effort: Effort,
    memory: [u64; 2],
    overload: overload::Plan,
    peers: peers::Plan,
}

const PER_WRITE: [u64; 2] = [1, 8];
const GOAL_RATIO: [f64; 2] = [1.10, 1.20];
const GOAL_RSS_BYTES: f64 = 2048.0;
/// Messages a second, and the p99 that is wanted.
const GOAL_OVERLOAD: [(f64, f64); 2] = [(1000.0, 150.0), (3000.0, 250.0)];

impl Fanout {
    fn plan(&self) -> Plan {
        let mut plan = if self.common.quick { Plan::quick() } else { Plan::full() };
        if !self.connections.is_empty() {
            plan.connections = self.connections.clone();
            plan.connections.sort_unstable();
        }
        plan
    }

    pub async fn measure(&self, frame: &Frame) -> anyhow::Result<Results> {
        let (plan, mut results) = (self.plan(), Results::default());
        let any = RoomId::new("hall-0").expect("a token");
        results.bytes_per_message = Protocol::WebSocket.on_the_wire(&any, 0).len();
        let is_wanted = |part| self.only.is_none_or(|only| only == part);
        if is_wanted(Part::Runs) {
            memory(frame, plan.memory, &mut results).await?;
            for protocol in [Protocol::WebSocket, Protocol::Tcp] {
                runs(frame, &plan, protocol, &mut results).await?;
            }
        }
        if is_wanted(Part::Overload) {
            results.overload = overload::measure(frame, &plan.overload).await?;
        }
        if self.peers || self.only == Some(Part::Peers) {
            let Peers { measured, skipped } = peers::measure(frame, &plan.peers).await?;
            (results.peers, results.skipped_peers) = (measured, skipped);
        }
        Ok(results)
    }
}

impl Plan {
    fn full() -> Self {
        let window = Duration::from_secs(10);
        Self {
            connections: vec![1000, 5000, 15_000],
            effort: Effort { pairs: 11, writes: 25_000 },
            memory: [5000, 15_000],
            overload: overload::Plan { connections: 5000, rates: GOAL_OVERLOAD.map(|(rate, _)| rate).to_vec(), window },
            peers: peers::Plan {
                few: 1000,
                rates_of_few: vec![20.0, 200.0],
                many: 5000,
                rates_of_many: vec![10.0],
                window,
            },
        }
    }

    fn quick() -> Self {
        let window = Duration::from_secs(1);
        Self {
            connections: vec![200, 400],
            effort: Effort { pairs: 3, writes: 2000 },
            memory: [200, 400],
            overload: overload::Plan { connections: 300, rates: vec![200.0], window },
            peers: peers::Plan { few: 100, rates_of_few: vec![20.0], many: 200, rates_of_many: vec![10.0], window },
        }
    }
}

/// What a connection takes in a comet that has written nothing yet.
async fn memory(frame: &Frame, [from, to]: [u64; 2], results: &mut Results) -> anyhow::Result<()> {
    let mut scene = Scene::set(frame, Protocol::WebSocket, to, &[]).await?;
    scene.connect(from).await?;
    let few = scene.memory().await?;
    scene.connect(to).await?;
    let many = scene.memory().await?;
    let idle = ((many as f64 - few as f64) / (to - from) as f64).round();
    scene.fill(to).await?;
    let member = ((scene.memory().await? as f64 - many as f64) / to as f64).round();
    frame.say(format_args!("{idle} bytes of memory for each idle connection, {member} more in a room"));
    (results.rss_bytes_per_idle_connection, results.rss_bytes_per_member) = (idle, member);
    results.rss_from_to = [from, to];
    Ok(())
}

/// All sizes over one transport, the smallest first, each with a room of its own.
async fn runs(frame: &Frame, plan: &Plan, protocol: Protocol, results: &mut Results) -> anyhow::Result<()> {
    let most = plan.connections.last().copied().unwrap_or_default();
    let mut scene = Scene::set(frame, protocol, most, &[]).await?;
    let mut hook = scene.hook().await?;
    for connections in &plan.connections {
        scene.connect(*connections).await?;
        let mut hall = scene.fill(*connections).await?;
        for per_write in PER_WRITE {
            let run = pairs::measure(&mut scene, &mut hall, &mut hook, protocol, per_write, plan.effort).await?;
            results.runs.push(run);
        }
    }
    frame.say_complaints(&scene.mesh);
    Ok(())
}

impl Verdict for Results {
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for run in &self.runs {
            let goal = GOAL_RATIO[usize::from(run.messages_per_write > 1)];
            if run.ratio > goal {
                let Run { transport, connections, messages_per_write, ratio, .. } = run;
                missed.push(format!(
                    "ratio {ratio} over {transport}, {connections} connections, {messages_per_write} a write (at most {goal})"
                ));
            }
        }
        if self.rss_bytes_per_idle_connection > GOAL_RSS_BYTES {
            let bytes = self.rss_bytes_per_idle_connection;
            missed.push(format!("{bytes} bytes for an idle connection (at most {GOAL_RSS_BYTES})"));
        }
        for (rate, p99_ms) in GOAL_OVERLOAD {
            let Some(run) = self.overload.iter().find(|run| run.messages_per_s == rate) else { continue };
            if run.p99_ms > p99_ms || run.dropped > 0 {
                let Overload { dropped, p99_ms: p99, .. } = run;
                missed.push(format!("{rate} messages/s: p99 {p99} ms (at most {p99_ms}), dropped {dropped} (none)"));
            }
        }
        missed.extend(self.behind());
        missed
    }
}

impl Results {
    /// Where a peer is ahead, but for mosquitto's memory.
    fn behind(&self) -> Vec<String> {
        let mut behind = Vec::new();
        for own in self.peers.iter().filter(|peer| peer.name == PUSHMESH) {
            let same = |peer: &&Peer| {
                peer.name != PUSHMESH
                    && (peer.connections, peer.messages_per_s) == (own.connections, own.messages_per_s)
            };
            for peer in self.peers.iter().filter(same) {
                let columns = [
                    ("µs a delivery", own.cpu_us_per_delivery, peer.cpu_us_per_delivery),
                    ("ms p50", own.p50_ms, peer.p50_ms),
                    ("ms p99", own.p99_ms, peer.p99_ms),
                    ("bytes", own.rss_bytes_per_idle_connection, peer.rss_bytes_per_idle_connection),
                ];
                for (column, ours, theirs) in columns {
                    if ours > theirs && !(column == "bytes" && peer.name == MOSQUITTO) {
                        let Peer { name, connections, messages_per_s, .. } = peer;
                        behind.push(format!(
                            "{ours} {column}, {name} has {theirs} ({connections} connections × {messages_per_s}/s)"
                        ));
                    }
                }
            }
        }
        behind
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(f, "{run}")?;
        }
        for run in &self.overload {
            writeln!(f, "overload    {run}")?;
        }
        if self.rss_from_to != [0, 0] {
            let [from, to] = self.rss_from_to;
            let (idle, member) = (self.rss_bytes_per_idle_connection, self.rss_bytes_per_member);
            writeln!(f, "memory      {idle} bytes a connection from {from} to {to}, {member} more in a room")?;
        }
        for peer in &self.peers {
            writeln!(f, "{peer}, {} bytes an idle connection", peer.rss_bytes_per_idle_connection)?;
        }
        if !self.skipped_peers.is_empty() {
            writeln!(f, "skipped     not installed: {}", self.skipped_peers.join(", "))?;
        }
        write!(
            f,
            "workload    one ROOM frame with one item of {} bytes ({} in all) for each message, published to the comet in the room \
             owner's stead; the floor writes the same bytes to the same sockets in the same process",
            frames::PAYLOAD_BYTES,
            self.bytes_per_message
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &'static str, cpu_us_per_delivery: f64, bytes: f64) -> Peer {
        Peer {
            name,
            connections: 1000,
            messages_per_s: 20.0,
            cpu_us_per_delivery,
            rss_bytes_per_idle_connection: bytes,
            p50_ms: 1.0,
            p99_ms: 1.0,
            lost: 0,
            bottleneck: None,
        }
    }

    #[test]
    fn a_peer_that_is_ahead_is_named_but_for_mosquittos_memory() {
        let peers = vec![peer(PUSHMESH, 5.0, 900.0), peer(MOSQUITTO, 12.0, 700.0), peer("nats-server", 4.0, 9000.0)];
        let missed = Results { peers, ..Results::default() }.missed();
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert!(missed[0].contains("nats-server has 4"), "{missed:?}");
    }
}
