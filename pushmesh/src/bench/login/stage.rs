//! A mesh with connected clients, on which rates of records are tried.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use tokio::time::{MissedTickBehavior, interval};

use crate::bench::{
    Frame,
    backend::Backend,
    backlog::{Sample, grows},
    clients::Order,
    crew::{Crew, Seen},
    jetstream,
    latency::rounded,
    load::{Load, Watch},
    machine,
    mesh::{LOGIN_PUSH, Mesh},
    population::Logins,
    reporter::{Records, Reported, Reporter},
    schedule::Schedule,
    scrape::Settled,
    until,
};

/// The round of calls that go on during the whole bench.
const CALLS: &str = "call";
/// How long all clients may take to log in and be told of their calls.
const CONNECT_WITHIN: Duration = Duration::from_secs(120);
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Between the order to watch and the first record.
const LEAD: Duration = Duration::from_millis(200);
/// What is not settled after so long without a change stays so: longer than the time between two transmissions.
const DRAIN_QUIET: Duration = Duration::from_secs(12);
const DRAIN_WITHIN: Duration = Duration::from_secs(90);

/// Everything that stands still while rates change.
pub struct Stage<'a> {
    frame: &'a Frame,
    mesh: Mesh,
    crew: Crew,
    reporter: Reporter,
    clients: u64,
    runs: u64,
}

/// What one rate gave.
pub struct Measured {
    pub per_s: f64,
    /// No backlog grew, and all was sent.
    pub held: bool,
    pub offered: u64,
    /// Records a second, settled by a client's acknowledgement within the window.
    pub settled_per_s: f64,
    pub refused: u64,
    /// Accepted records whose push no client showed.
    pub lost: u64,
    pub seen: Seen,
    /// Transmissions beyond a push's first.
    pub again: u64,
    pub load: Load,
}

impl<'a> Stage<'a> {
    /// A mesh whose server syncs so often, and so many clients that are logged in and know of their calls.
    pub async fn set(frame: &'a Frame, clients: u64, sync_interval: &str) -> anyhow::Result<Self> {
        let mesh = Mesh::start(&LOGIN_PUSH, sync_interval).await?;
        frame.say(format_args!("the mesh is ready: {} processes, sync_interval {sync_interval}", mesh.pids().len()));
        let backend = Backend::new(&mesh)?;
        backend.populate(clients).await?;
        backend.start_calls(CALLS, clients).await?;
        let mut crew = Crew::start(clients)?;
        let jwks = mesh.jwks().to_owned();
        crew.tell(|first, count| Order::Prepare { first, count, jwks: jwks.clone() }).await?;
        let reporter = Reporter::open(&mesh).await?;
        let mut stage = Self { frame, mesh, crew, reporter, clients, runs: 0 };
        stage.connect().await?;
        Ok(stage)
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        self.watch(Logins::Own, None).await?;
        let address = format!("ws://{}", self.mesh.door("comet", "ws")?);
        let at_us = (machine::now() + LEAD).as_micros() as u64;
        self.crew.tell(|_, _| Order::Connect { address: address.clone(), at_us }).await?;
        let (crew, mesh, clients) = (&mut self.crew, &mut self.mesh, self.clients);
        let mut last = Seen::default();
        let all = until(CONNECT_WITHIN, LOOK, async || {
            mesh.check()?;
            last = crew.seen(false).await?;
            Ok((last.online == clients && last.shown == clients).then_some(()))
        });
        if all.await?.is_none() {
            self.frame.say_complaints(mesh);
            bail!(
                "of {clients} clients {} are logged in and {} were told of their call; the last trouble: {}",
                last.online,
                last.shown,
                last.trouble.unwrap_or_else(|| "none".into())
            );
        }
        self.frame.say(format_args!("{clients} clients are logged in"));
        self.settle(Settled::default(), clients).await.map(drop)
    }

    /// What the mesh's own nats-server stores a second, of the simplest messages.
    pub async fn floor(&self, window: Duration) -> anyhow::Result<f64> {
        let per_s = jetstream::publish_per_s(&self.mesh.nats_url(), window).await?.round();
        self.frame.say(format_args!("floor: {per_s:.0} JetStream publishes/s"));
        self.frame.say_complaints(&self.mesh);
        Ok(per_s)
    }

    /// Offers so many records a second for a while, and waits until what came of them is over.
    pub async fn measure(&mut self, per_s: f64, window: Duration) -> anyhow::Result<Measured> {
        self.runs += 1;
        let (run, users) = (self.runs, self.clients);
        let before = self.settled().await?;
        let (accepted, refused) = self.reporter.answered()?;
        let schedule = Schedule { start: machine::now() + LEAD, per_s };
        self.watch(Logins::Records { run, users }, Some(schedule)).await?;
        let watch = Watch::begin(self.mesh.pids(), &self.crew.pids());
        let (reported, samples) = tokio::try_join!(
            self.reporter.report(Records { run, users, schedule, window }),
            self.sample(schedule, window, before.acked)
        )?;
        let load = watch.end(reported.lag.percentile_ms(0.99));
        let settled = self.settle(before, reported.offered).await?;
        let (accepted, refused) = self.answered(&reported, accepted, refused).await?;
        let seen = self.crew.seen(true).await?;
        let all_sent = reported.offered == schedule.count(window);
        let measured = Measured {
            per_s,
            held: all_sent && refused == 0 && !grows(&samples, per_s),
            offered: reported.offered,
            settled_per_s: rounded(samples.last().map_or(0.0, |last| last.done as f64 / last.at.as_secs_f64())),
            refused,
            lost: accepted.saturating_sub(seen.shown),
            again: settled.again,
            seen,
            load,
        };
        self.tell(&measured);
        Ok(measured)
    }

    async fn watch(&mut self, logins: Logins, schedule: Option<Schedule>) -> anyhow::Result<()> {
        self.crew.tell(|_, _| Order::Watch { round: CALLS.to_owned(), logins, schedule }).await
    }

    async fn settled(&self) -> anyhow::Result<Settled> {
        Settled::read(self.mesh.door("ack-retry", "admin")?).await
    }

    /// What is due and what is settled, from the schedule's start to the window's end.
    async fn sample(&self, schedule: Schedule, window: Duration, acked: u64) -> anyhow::Result<Vec<Sample>> {
        let (mut ticks, mut samples) = (interval(LOOK.min(window / 20)), Vec::new());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let done = self.settled().await?.acked - acked;
            let now = machine::now();
            let at = now.saturating_sub(schedule.start).min(window);
            if at > Duration::ZERO {
                samples.push(Sample { at, due: schedule.due(now).min(schedule.count(window)), done });
            }
            if at == window {
                return Ok(samples);
            }
        }
    }

    /// Waits until so many pushes are over, or nothing changes any more.
    async fn settle(&mut self, before: Settled, pushes: u64) -> anyhow::Result<Settled> {
        let admin = self.mesh.door("ack-retry", "admin")?;
        let mesh = &mut self.mesh;
        let (mut last, mut changed) = (0, machine::now());
        let settled = until(DRAIN_WITHIN, LOOK, async || {
            mesh.check()?;
            let settled = Settled::read(admin).await?.since(before);
            if settled.over != last {
                (last, changed) = (settled.over, machine::now());
            }
            let quiet = machine::now().saturating_sub(changed) > DRAIN_QUIET;
            Ok((settled.over >= pushes || quiet).then_some(settled))
        });
        settled.await?.with_context(|| format!("pushes are not over within {DRAIN_WITHIN:?}"))
    }

    /// The answers to a run's records: those accepted, and those not.
    async fn answered(&self, reported: &Reported, accepted: u64, refused: u64) -> anyhow::Result<(u64, u64)> {
        let answered = until(DRAIN_WITHIN, LOOK, async || {
            let (all_accepted, all_refused) = self.reporter.answered()?;
            let (accepted, refused) = (all_accepted - accepted, all_refused - refused);
            Ok((accepted + refused >= reported.offered).then_some((accepted, refused)))
        });
        answered.await?.context("login-ingest left records without an answer")
    }

    fn tell(&self, measured: &Measured) {
        let Measured { per_s, held, settled_per_s, lost, seen, again, load, refused, .. } = measured;
        self.frame.say(format_args!(
            "{per_s:.0}/s: {}, {settled_per_s:.0}/s settled, p50 {} ms, p99 {} ms, refused {refused}, superseded or lost \
             {lost}, shown twice {}, sent again {again}; idle {:.0} %, load generator {:.0} %",
            if *held { "held" } else { "did not hold" },
            seen.latencies.percentile_ms(0.5),
            seen.latencies.percentile_ms(0.99),
            seen.duplicated,
            load.idle * 100.0,
            load.generator_share * 100.0
        ));
        if let Some(bottleneck) = &load.bottleneck {
            self.frame.say(bottleneck);
        }
    }
}

impl Measured {
    /// Microseconds of CPU for each record, by service.
    pub fn cpu_us_per_record(&self) -> BTreeMap<String, f64> {
        let per_record = |seconds: &f64| rounded(seconds * 1e6 / self.offered.max(1) as f64);
        self.load.service_cpu_s.iter().map(|(name, seconds)| (name.clone(), per_record(seconds))).collect()
    }
}
