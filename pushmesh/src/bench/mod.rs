//! `pushmesh bench`: how fast the product is, beside the best that the machine can do at the same work.
//!
//! Every bench starts a [`mesh`] of its own, real processes with the product's defaults, and holds its clients in further
//! processes ([`crew`] here, [`clients`] there). All but `growth` measure their floor in the same run, and print ratios beside figures,
//! because machines are noisy. The last line of `--json` is an object whose keys are a contract.
//!
//! **Another bench** is a file beside [`login`] with
//! 1. a struct of options (`clap::Args`, with [`Common`] flattened in, and an example in its help),
//! 2. a struct of results that serializes to the contract's keys, says itself for people (`Display`), and names the goals
//!    it missed ([`Verdict`]),
//! 3. `async fn measure(&self, frame: &Frame) -> anyhow::Result<Results>`, which says on [`Frame::say`] what it is at,
//!
//! a variant of [`Bench`] and its arm in [`Bench::run`]. What it has at hand: [`mesh::Mesh`] (start, kill, doors, pids),
//! [`crew::Crew`] (clients in other processes; another role is another name for [`Role`]), [`population`] and
//! [`backend::Backend`] (users, units, calls), [`schedule::Schedule`] (open loop), [`search::Search`] and
//! [`backlog::grows`] (the highest rate that holds), [`latency::Latencies`], [`load::Watch`] (CPU by process, and whether
//! the generator was the bottleneck), [`scrape::Counters`] (a service's metrics), [`machine`] (clocks, memory, `/proc`).
//! Nothing needs to be cleaned up by hand: whatever is dropped kills what it started.

mod backend;
mod backlog;
mod clients;
mod crew;
mod echo;
mod fanout;
mod growth;
mod jetstream;
mod latency;
mod load;
mod login;
mod machine;
mod mesh;
mod population;
mod reporter;
mod room;
mod schedule;
mod scrape;
mod search;
mod storm;

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::machine::Fingerprint;
use crate::exit::{Failure, Outcome};

/// The benches.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Frames to a whole room, beside a loop that only writes to the same sockets
    #[command(
        after_help = "Example:\n  pushmesh bench fanout\n  pushmesh bench fanout --peers --json\n  pushmesh bench fanout --only runs --connections 1000\n  pushmesh bench fanout --quick --json\n\nExit codes: 0 all goals met, 1 one missed (--quick: never for that)."
    )]
    Fanout(fanout::Fanout),
    /// Login records, from report to the client's acknowledgement, beside what JetStream stores
    #[command(
        after_help = "Example:\n  pushmesh bench login\n  pushmesh bench login --sync always --json\n  pushmesh bench login --quick --json\n\nExit codes: 0 all goals met, 1 one missed (--quick: never for that)."
    )]
    Login(login::Login),
    /// All clients at once, and again after their comet was killed, beside a bare echo server
    #[command(
        after_help = "Example:\n  pushmesh bench storm\n  pushmesh bench storm --quick --json\n\nExit codes: 0 all goals met, 1 one missed (--quick: never for that)."
    )]
    Storm(storm::Storm),
    /// Gifts, chat and likes into one room, at and above what the machine sustains
    #[command(
        after_help = "Example:\n  pushmesh bench room\n  pushmesh bench room --connections 5000 --only loads --json\n  pushmesh bench room --quick --json\n\nExit codes: 0 all goals met, 1 one missed (--quick: never for that)."
    )]
    Room(room::Room),
    /// What each more connection, room, pending push and membership costs, and a take-over with them
    #[command(after_help = growth::AFTER_HELP)]
    Growth(growth::Growth),
}

/// What all benches take.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Print the results as one JSON object, the last line of standard output
    #[arg(long)]
    json: bool,
    /// A smoke test of less than a minute: small, and without goals
    #[arg(long)]
    quick: bool,
}

/// A hidden role of this program: a child of a bench.
#[derive(Debug, clap::Args)]
pub struct BenchChild {
    role: Role,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    /// Holds a share of the clients
    Clients,
    /// Echoes
    Echo,
    /// Holds a share of a room's clients
    Audience,
    /// Holds bare connections
    Fanout,
    /// Holds a share of the clients that only live
    Crowd,
}

/// Where a bench says what it is at, and what it runs on.
pub struct Frame {
    pub fingerprint: Fingerprint,
    begun: Instant,
}

/// What a bench found.
pub trait Verdict: Serialize + Display {
    /// The goals that were missed, each with its figure.
    fn missed(&self) -> Vec<String>;
}

/// A bench's results with what they were taken on.
#[derive(Serialize)]
struct Printed<'a, R> {
    #[serde(flatten)]
    results: &'a R,
    fingerprint: &'a Fingerprint,
    seconds: f64,
}

impl Bench {
    pub async fn run(self) -> Outcome {
        let descriptors = machine::raise_descriptor_limit().context("can't raise the limit of open files")?;
        let frame = Frame { fingerprint: Fingerprint::take(descriptors), begun: Instant::now() };
        frame.introduce();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let run = async {
            match &self {
                Self::Fanout(bench) => frame.print(&bench.common, &Box::pin(bench.measure(&frame)).await?),
                Self::Login(bench) => frame.print(&bench.common, &Box::pin(bench.measure(&frame)).await?),
                Self::Storm(bench) => frame.print(&bench.common, &Box::pin(bench.measure(&frame)).await?),
                Self::Room(bench) => frame.print(&bench.common, &Box::pin(bench.measure(&frame)).await?),
                Self::Growth(bench) => frame.print(&bench.common, &Box::pin(bench.measure(&frame)).await?),
            }
        };
        // Dropped half-way it ends its processes and removes its folder.
        tokio::select! {
            outcome = run => outcome,
            _ = terminate.recv() => Err(Failure::failed(anyhow!("stopped"))),
            _ = interrupt.recv() => Err(Failure::failed(anyhow!("stopped"))),
        }
    }
}

impl BenchChild {
    pub async fn run(self) -> Outcome {
        match self.role {
            Role::Clients => Ok(clients::run().await?),
            Role::Echo => Ok(echo::serve().await?),
            Role::Audience => Ok(room::serve_audience().await?),
            Role::Crowd => Ok(growth::serve_crowd().await?),
            Role::Fanout => {
                Ok(tokio::task::spawn_blocking(fanout::drive).await.context("the load driver panicked")??)
            }
        }
    }
}

impl Frame {
    /// A line about what is going on, on standard error.
    pub fn say(&self, text: impl Display) {
        eprintln!("{:>6.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    /// What the services of a mesh warned of.
    pub fn say_complaints(&self, mesh: &mesh::Mesh) {
        mesh.complaints().iter().for_each(|complaint| self.say(complaint));
    }

    fn introduce(&self) {
        let Fingerprint { kernel, cpu, cpus, load_1m, build, .. } = &self.fingerprint;
        self.say(format_args!("{cpus} × {cpu}, Linux {kernel}, load {load_1m}, {build} build"));
        self.warn();
    }

    fn warn(&self) {
        if self.fingerprint.build == "debug" {
            eprintln!(
                "\n  THIS IS A DEBUG BUILD: its figures say nothing about the product. Use cargo run --release.\n"
            );
        }
        if self.fingerprint.load_1m > 1.0 {
            eprintln!("  The machine was busy with something else (load {}).", self.fingerprint.load_1m);
        }
    }

    fn print<R: Verdict>(&self, common: &Common, results: &R) -> Outcome {
        self.warn();
        if common.json {
            let seconds = latency::rounded(self.begun.elapsed().as_secs_f64());
            let printed = Printed { results, fingerprint: &self.fingerprint, seconds };
            println!("{}", serde_json::to_string(&printed).context("results are JSON")?);
        } else {
            println!("{results}");
        }
        let missed = results.missed();
        if common.quick || missed.is_empty() {
            return Ok(());
        }
        Err(Failure::failed(anyhow!("goals were missed: {}", missed.join("; "))))
    }
}

/// Waits until `look` gives something, looking that often; `None` after the time that it has.
async fn until<T>(
    within: Duration,
    every: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        if begun.elapsed() > within {
            return Ok(None);
        }
        tokio::time::sleep(every).await;
    }
}
