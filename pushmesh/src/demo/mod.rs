//! `pushmesh demo`: the whole mesh on real records, watched by oracles.
//!
//! [`records`] reads them, [`plan`] lays them out in time with calls between, [`run`] carries the plan out against a mesh
//! of its own and clients in child processes ([`crew`], [`clients`]), and [`oracle`] says which login had to see which call.
//! At the same time what was said is played into [`rooms`], with gifts and likes beside it.

pub mod clients;
mod clock;
mod crew;
mod doors;
mod oracle;
mod plan;
pub(crate) mod records;
pub mod rooms;
mod run;
mod sabotage;
mod table;

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use pushmesh_auth::Scope;
use pushmesh_protocol::Kind;
use serde::Serialize;

use self::{
    crew::Crew,
    doors::Doors,
    oracle::Judgement,
    plan::Kinds,
    run::{Edge, Outcome, Run},
    sabotage::{Sabotage, Saboteur},
    table::{Table, percentile_ms},
};
use crate::{
    exit::Failure,
    up::{self, Signals},
};

/// Replays real online records against a mesh of its own and checks every push.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pushmesh demo\n  pushmesh demo --speed 4 --seed 7\n  pushmesh demo --data records.ndjson.gz --json"
)]
pub struct Demo {
    /// Records to replay, NDJSON, plain or gzipped; without it three days of a real channel
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// How many times faster than life, once gaps are cut to a second: 0.1 to 1000
    #[arg(long, default_value_t = 16.0, value_parser = speed)]
    speed: f64,
    /// Where the schedule of calls comes from: the same seed is the same schedule
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes that hold the clients
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    processes: u8,
    /// Clients that watch the rooms: 0 to 15,000
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(0..=15_000))]
    viewers: u32,
    /// Print the verdict as one JSON object, the last line of standard output
    #[arg(long)]
    json: bool,
    /// Break the mesh on purpose
    #[arg(long, hide = true, value_enum)]
    sabotage: Option<Sabotage>,
}

/// What the demo prints; the keys are a contract.
#[derive(Debug, Serialize)]
struct Verdict {
    logins: u64,
    logins_implied: u64,
    #[serde(flatten)]
    judgement: Judgement,
    acked: u64,
    withdrawn: u64,
    p50_ms: f64,
    p99_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<RoomsVerdict>,
}

/// What it says of the rooms.
#[derive(Debug, Serialize)]
struct RoomsVerdict {
    members: u64,
    #[serde(flatten)]
    judgement: rooms::Judgement,
    gift_p50_ms: f64,
    gift_p99_ms: f64,
}

impl Demo {
    /// Runs the demo; `true` if nothing was lost, duplicated or extra. A signal ends it in order, without a verdict.
    pub async fn run(self) -> anyhow::Result<bool> {
        let records = records::read(self.data.as_deref()).map_err(Failure::config)?;
        let kinds = Kinds::default();
        let plan = plan::plan(&records, self.speed, self.seed, &kinds);
        eprintln!(
            "{} records of {} users: {} logins ({} implied), in {:.0} s",
            records.len(),
            plan.users,
            plan.logins,
            plan.logins_implied,
            plan.length.as_secs_f64()
        );
        let folder = tempfile::tempdir().context("can't make a folder for the demo's data")?;
        let mut signals = Signals::new()?;
        let mesh = tokio::select! {
            mesh = up::Mesh::start(up::Options::demo(folder.path())) => mesh?,
            () = signals.next() => return Err(Failure::interrupted().into()),
        };
        let played = tokio::select! {
            played = self.play(&mesh, plan, kinds) => played,
            () = signals.next() => {
                eprintln!("interrupted: the mesh ends; once more stops at once");
                Err(Failure::interrupted().into())
            }
        };
        tokio::select! {
            stopped = mesh.stop() => stopped?,
            () = signals.next() => return Err(Failure::interrupted().into()),
        }
        let (outcome, rooms) = played?;
        let judgement = outcome.oracle.judge(&outcome.shown);
        let calls_right = judgement.lost == 0 && judgement.duplicated == 0 && judgement.extra == 0;
        let rooms_right = rooms.as_ref().is_none_or(rooms::Outcome::is_right);
        self.print(&outcome, judgement, rooms);
        Ok(calls_right && rooms_right)
    }

    async fn play(
        &self,
        mesh: &up::Mesh,
        mut plan: plan::Plan,
        kinds: Kinds,
    ) -> anyhow::Result<(Outcome, Option<rooms::Outcome>)> {
        let edge = Edge {
            websocket: format!("ws://{}", mesh.door("comet", "ws")?),
            tcp: format!("tcp://{}", mesh.door("comet", "tcp")?),
            minter: mesh.minter()?,
        };
        let evening = match self.viewers {
            0 => None,
            viewers => {
                let lines = std::mem::take(&mut plan.lines);
                let schedule = rooms::schedule(&lines, viewers as usize, plan.length, self.seed);
                let token =
                    edge.minter.backend("demo", &[Scope::RoomWrite, Scope::RoomRead], Duration::from_secs(24 * 3600));
                let door = rooms::Door::new(&mesh.door("api", "http")?, token)?;
                let saboteur = self.saboteur(mesh).await?;
                let mut evening = rooms::Evening::new(schedule, door, self.processes.into(), saboteur)?;
                evening.enter(&edge).await?;
                eprintln!("{} viewers are in their rooms", evening.members());
                Some(evening)
            }
        };
        let table = Table::new();
        let rooms_row = table.rooms_row();
        let rooms = async {
            match evening {
                None => Ok(None),
                Some(evening) => evening.play(rooms_row).await.map(Some),
            }
        };
        tokio::try_join!(self.replay(mesh, plan, kinds, edge, table), rooms)
    }

    async fn replay(
        &self,
        mesh: &up::Mesh,
        plan: plan::Plan,
        kinds: Kinds,
        edge: Edge,
        table: Table,
    ) -> anyhow::Result<Outcome> {
        let scopes = [Scope::LoginWrite, Scope::DirectoryWrite, Scope::CallWrite];
        let token = edge.minter.backend("demo", &scopes, Duration::from_secs(24 * 3600));
        let push: HashMap<Kind, String> = kinds
            .all()
            .into_iter()
            .map(|kind| Ok((kind.clone(), mesh.door(&format!("{kind}-push"), "grpc")?)))
            .collect::<anyhow::Result<_>>()?;
        let doors = Doors::new(&mesh.door("login-ingest", "grpc")?, &push, &token, kinds)?;
        let (reports, answers) = doors.reports().await?;
        let (crew, said) = Crew::start("demo-clients", self.processes.into())?;
        let saboteur = self.saboteur(mesh).await?;
        Run::new(edge, doors, crew, reports, saboteur, table).carry_out(plan, answers, said).await
    }

    async fn saboteur(&self, mesh: &up::Mesh) -> anyhow::Result<Option<Saboteur>> {
        let Some(kind) = self.sabotage else { return Ok(None) };
        Ok(Some(Saboteur::new(mesh.bus("saboteur").await?, mesh.partitions(), kind)))
    }

    fn print(&self, outcome: &Outcome, judgement: Judgement, rooms: Option<rooms::Outcome>) {
        let in_rooms = rooms.iter().flat_map(|rooms| &rooms.judgement.breaches);
        for breach in judgement.breaches.iter().chain(in_rooms) {
            eprintln!("breach: {breach}");
        }
        for (user, trouble) in &outcome.troubles {
            if judgement.breaches.iter().any(|breach| breach.starts_with(&format!("{user} "))) {
                eprintln!("a client of {user} said last: {trouble}");
            }
        }
        let (p50_ms, p99_ms) = (percentile_ms(&judgement.latencies, 0.50), percentile_ms(&judgement.latencies, 0.99));
        let round = |ms: f64| (ms * 100.0).round() / 100.0;
        let verdict = Verdict {
            logins: outcome.logins,
            logins_implied: outcome.logins_implied,
            judgement,
            acked: outcome.acked,
            withdrawn: outcome.withdrawn,
            p50_ms: round(p50_ms),
            p99_ms: round(p99_ms),
            rooms: rooms.map(|rooms| RoomsVerdict {
                members: rooms.members,
                judgement: rooms.judgement,
                gift_p50_ms: rooms.gift_p50_ms,
                gift_p99_ms: rooms.gift_p99_ms,
            }),
        };
        if self.json {
            println!("{}", serde_json::to_string(&verdict).expect("a verdict is JSON"));
        } else {
            println!("{verdict}");
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let judgement = &self.judgement;
        let pushes: Vec<_> = judgement.pushes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(f, "logins      {} ({} implied)", self.logins, self.logins_implied)?;
        writeln!(f, "pushes      {}", pushes.join(", "))?;
        writeln!(f, "acked       {}, withdrawn {}", self.acked, self.withdrawn)?;
        writeln!(f, "had to see  {}", judgement.must)?;
        writeln!(f, "lost        {}, duplicated {}, extra {}", judgement.lost, judgement.duplicated, judgement.extra)?;
        write!(f, "latency     p50 {} ms, p99 {} ms, from report accepted to shown", self.p50_ms, self.p99_ms)?;
        self.rooms.as_ref().map_or(Ok(()), |rooms| write!(f, "\n{rooms}"))
    }
}

impl std::fmt::Display for RoomsVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let judgement = &self.judgement;
        let ledger = if judgement.ledger_exact { "exact" } else { "WRONG" };
        writeln!(f, "rooms       {} members", self.members)?;
        writeln!(
            f,
            "gifts       {}, lost {}, twice {}, ledger {ledger}",
            judgement.gifts, judgement.gifts_lost, judgement.gifts_twice
        )?;
        writeln!(f, "likes       accepted {}, counted {}", judgement.likes_accepted, judgement.likes_counted)?;
        writeln!(f, "chat        lost {}, out of order {}", judgement.chat_lost, judgement.chat_out_of_order)?;
        write!(
            f,
            "latency     p50 {} ms, p99 {} ms, from a gift's request to each display",
            self.gift_p50_ms, self.gift_p99_ms
        )
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.1..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("must be a number from 0.1 to 1000".into()),
    }
}

fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
