//! `pushmesh bench storm`: everybody comes at once, and once more when their comet is gone.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::bail;
use serde::Serialize;

use super::{
    Common, Frame, Verdict,
    backend::Backend,
    clients::Order,
    crew::{Crew, Seen},
    echo::EchoServer,
    latency::rounded,
    load::{Load, Watch},
    machine,
    mesh::{LOGIN_PUSH, Mesh},
    population::Logins,
    scrape::Settled,
    until,
};

/// Options of `bench storm`.
#[derive(Debug, clap::Args)]
pub struct Storm {
    #[command(flatten)]
    pub(super) common: Common,
    /// Clients that come at once: 1 to 15,000 [default: 10000, quick 500]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=15_000))]
    connections: Option<u64>,
}

/// What is printed; the keys are a contract.
#[derive(Debug, Serialize)]
pub struct Results {
    connections: u64,
    /// From the moment of connecting until the last was logged in.
    all_in_s: f64,
    /// The same number of connects to a bare echo server, the mean of before and after.
    echo_s: f64,
    /// Connections that full accept queues have cost, in both storms.
    listen_overflows: u64,
    peak_rss_mib: BTreeMap<String, f64>,
    /// Logins whose push was shown.
    records_through: u64,
    /// From the kill until all were in again and had what was said meanwhile.
    failover_s: f64,
    /// Until the last of those pushes was shown.
    records_through_s: f64,
    lost: u64,
    duplicated: u64,
    /// The part of `failover_s` until the last was logged in again.
    back_in_s: f64,
    echo_runs_s: [f64; 2],
    load: Load,
}

/// How long a storm may take, and a quick one.
const WITHIN: Duration = Duration::from_secs(180);
const QUICK_WITHIN: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(100);
/// Between the order and the moment at which all connect.
const LEAD: Duration = Duration::from_millis(500);
/// The calls before the storm, and those that start while nobody is there.
const CALLS: &str = "call";
const MISSED: &str = "missed";
/// The comet that takes over.
const OTHER: &str = "comet-2";

/// A mesh and the clients that are to come.
struct Stage<'a> {
    frame: &'a Frame,
    mesh: Mesh,
    crew: Crew,
    backend: Backend,
    clients: u64,
    /// How long one storm may take.
    within: Duration,
}

/// A storm that is over.
struct Over {
    seen: Seen,
    began: Duration,
}

impl Storm {
    pub async fn measure(&self, frame: &Frame) -> anyhow::Result<Results> {
        let clients = self.connections.unwrap_or(if self.common.quick { 500 } else { 10_000 });
        let within = if self.common.quick { QUICK_WITHIN } else { WITHIN };
        let mut stage = Stage::set(frame, clients, within).await?;
        let echo_before = stage.echo().await?;
        let overflows = machine::listen_overflows();
        let watch = Watch::begin(stage.mesh.pids(), &stage.crew.pids());
        let first = stage.come().await?;
        let load = watch.end(0.0);
        let mut peaks = BTreeMap::new();
        stage.note_peaks(&mut peaks);
        let second = stage.fail_over().await?;
        let listen_overflows = machine::listen_overflows() - overflows;
        stage.note_peaks(&mut peaks);
        let echo_after = stage.echo().await?;
        frame.say_complaints(&stage.mesh);
        let since = |over: &Over, at: Duration| rounded(at.saturating_sub(over.began).as_secs_f64());
        Ok(Results {
            connections: clients,
            all_in_s: since(&first, first.seen.last_login),
            echo_s: rounded((echo_before + echo_after) / 2.0),
            listen_overflows,
            peak_rss_mib: peaks,
            records_through: first.seen.shown,
            failover_s: since(&second, second.seen.last_login.max(second.seen.last_shown)),
            records_through_s: since(&first, first.seen.last_shown),
            lost: 2 * clients - first.seen.shown - second.seen.shown,
            duplicated: first.seen.duplicated + second.seen.duplicated,
            back_in_s: since(&second, second.seen.last_login),
            echo_runs_s: [rounded(echo_before), rounded(echo_after)],
            load,
        })
    }
}

impl<'a> Stage<'a> {
    async fn set(frame: &'a Frame, clients: u64, within: Duration) -> anyhow::Result<Self> {
        let mesh = Mesh::start(&LOGIN_PUSH, "1s").await?;
        let backend = Backend::new(&mesh)?;
        backend.populate(clients).await?;
        backend.start_calls(CALLS, clients).await?;
        let mut crew = Crew::start(clients)?;
        let jwks = mesh.jwks().to_owned();
        crew.tell(|first, count| Order::Prepare { first, count, jwks: jwks.clone() }).await?;
        frame.say(format_args!("the mesh is ready, {clients} clients are about to come"));
        Ok(Self { frame, mesh, crew, backend, clients, within })
    }

    /// Seconds until all had their echoes.
    async fn echo(&mut self) -> anyhow::Result<f64> {
        let server = EchoServer::start().await?;
        let at = machine::now() + LEAD;
        let last = self.crew.echo(server.address, at).await?;
        let seconds = last.saturating_sub(at).as_secs_f64();
        self.frame.say(format_args!("floor: {} connects to a bare echo server in {seconds:.2} s", self.clients));
        Ok(seconds)
    }

    /// All connect at once; over when each was told of his call.
    async fn come(&mut self) -> anyhow::Result<Over> {
        self.watch(CALLS).await?;
        let address = self.address("comet")?;
        let began = machine::now() + LEAD;
        let at_us = began.as_micros() as u64;
        self.crew.tell(|_, _| Order::Connect { address: address.clone(), at_us }).await?;
        let seen = self.all_in(began).await?;
        self.settled().await?;
        Ok(Over { seen, began })
    }

    /// The comet dies, a call starts in every block while nobody is there, and all come back to another comet.
    async fn fail_over(&mut self) -> anyhow::Result<Over> {
        self.mesh.add("comet", OTHER).await?;
        let address = self.address(OTHER)?;
        self.crew.tell(|_, _| Order::Move { address: address.clone() }).await?;
        self.watch(MISSED).await?;
        let began = machine::now();
        self.mesh.kill("comet")?;
        self.frame.say("the comet was killed");
        let (backend, clients) = (self.backend.clone(), self.clients);
        let calls = tokio::spawn(async move { backend.start_calls(MISSED, clients).await });
        let seen = self.all_in(began).await?;
        calls.await??;
        Ok(Over { seen, began })
    }

    /// Waits until everybody is logged in and was told of his call, or the time is over.
    async fn all_in(&mut self, began: Duration) -> anyhow::Result<Seen> {
        let Self { frame, mesh, crew, clients, within, .. } = self;
        let (clients, within, mut said, mut last) = (*clients, *within, (began, 0), Seen::default());
        let all = until(within, LOOK, async || {
            mesh.check()?;
            last = crew.seen(false).await?;
            let (now, so_far) = (machine::now(), last.online + last.shown);
            if now > said.0 + Duration::from_secs(1) && so_far != said.1 {
                said = (now, so_far);
                frame.say(format_args!("{} are in, {} were told of their call", last.online, last.shown));
            }
            Ok((last.online == clients && last.shown == clients && last.last_login >= began).then_some(()))
        });
        if all.await?.is_none() && last.online < clients {
            frame.say_complaints(mesh);
            let trouble = last.trouble.unwrap_or_else(|| "none".into());
            bail!("only {} of {clients} clients are in after {within:?}; the last trouble: {trouble}", last.online);
        }
        frame.say(format_args!("all are in; {} of {clients} were told of their call", last.shown));
        Ok(last)
    }

    /// Waits until no push of the first storm is on its way: what comes after belongs to the second.
    async fn settled(&mut self) -> anyhow::Result<()> {
        let (admin, clients, within) = (self.mesh.door("ack-retry", "admin")?, self.clients, self.within);
        let settled = until(within, LOOK, async || Ok((Settled::read(admin).await?.over >= clients).then_some(())));
        match settled.await? {
            Some(()) => Ok(()),
            None => {
                self.frame.say_complaints(&self.mesh);
                bail!("the pushes of the storm are not settled within {within:?}")
            }
        }
    }

    async fn watch(&mut self, round: &str) -> anyhow::Result<()> {
        let order = Order::Watch { round: round.to_owned(), logins: Logins::Own, schedule: None };
        self.crew.tell(|_, _| order.clone()).await
    }

    fn address(&self, comet: &str) -> anyhow::Result<String> {
        Ok(format!("ws://{}", self.mesh.door(comet, "ws")?))
    }

    fn note_peaks(&self, peaks: &mut BTreeMap<String, f64>) {
        for (name, pid) in self.mesh.pids() {
            let peak = rounded(machine::peak_memory_kib(pid) as f64 / 1024.0);
            let noted = peaks.entry(name).or_default();
            *noted = noted.max(peak);
        }
    }
}

impl Verdict for Results {
    fn missed(&self) -> Vec<String> {
        let goals = [
            (self.listen_overflows == 0, format!("{} listen overflows", self.listen_overflows)),
            (self.lost == 0, format!("{} lost", self.lost)),
            (self.duplicated == 0, format!("{} duplicated", self.duplicated)),
        ];
        goals.into_iter().filter(|(met, _)| !met).map(|(_, goal)| goal).collect()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peaks: Vec<_> = self.peak_rss_mib.iter().map(|(name, mib)| format!("{name} {mib}")).collect();
        let [before, after] = self.echo_runs_s;
        writeln!(f, "connections {}", self.connections)?;
        writeln!(f, "all in      {} s; a bare echo server {before} s before, {after} s after", self.all_in_s)?;
        writeln!(f, "records     {} through, the last after {} s", self.records_through, self.records_through_s)?;
        writeln!(f, "failover    {} s, of which until all were in again {} s", self.failover_s, self.back_in_s)?;
        writeln!(f, "overflows   {} of listen queues", self.listen_overflows)?;
        writeln!(f, "lost        {}, duplicated {}", self.lost, self.duplicated)?;
        write!(f, "peak MiB    {}", peaks.join(", "))
    }
}
