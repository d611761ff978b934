//! `pushmesh bench login`: how many login records a second reach their clients and are settled, for how long they are on
//! their way, and what a nats-server stores of the simplest messages beside it.

mod stage;

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Context;
use serde::Serialize;

use self::stage::{Measured, Stage};
use super::{
    Common, Frame, Verdict,
    jetstream::{IN_FLIGHT, PAYLOAD_BYTES},
    latency::rounded,
    load::Load,
    search::Search,
};

/// Options of `bench login`.
#[derive(Debug, clap::Args)]
pub struct Login {
    #[command(flatten)]
    pub(super) common: Common,
    /// Connected WebSocket clients: 1 to 15,000 [default: 5000, quick 200]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=15_000))]
    clients: Option<u64>,
    /// How long a rate must hold [default: 20s, quick 3s]
    #[arg(long, value_parser = crate::duration::parse)]
    window: Option<Duration>,
    /// How often nats-server syncs what it has acknowledged: "always" or a duration
    #[arg(long, default_value = "1s", value_parser = sync_interval)]
    sync: String,
}

/// What is printed; the keys are a contract.
#[derive(Debug, Serialize)]
pub struct Results {
    records_per_s: f64,
    /// The floor before and after.
    jetstream_publish_per_s: [f64; 2],
    ratio: f64,
    half_rate_p50_ms: f64,
    half_rate_p99_ms: f64,
    lost: u64,
    duplicated: u64,
    workload: String,
    sync_interval: String,
    /// Transmissions beyond a push's first, at the sustained and at half of that rate.
    sent_again: u64,
    /// At the sustained rate.
    cpu_us_per_record: BTreeMap<String, f64>,
    sustained_load: Load,
    half_rate_load: Load,
}

/// How the search goes about it.
struct Plan {
    clients: u64,
    window: Duration,
    /// Of a rate that is only tried.
    try_window: Duration,
    floor_window: Duration,
    precision: f64,
}

/// The first rate that is tried, as a part of the floor, and at least.
const FIRST: f64 = 0.01;
const FIRST_LEAST: f64 = 50.0;
/// A rate that was found by trying and did not hold for the whole window is lowered so.
const LOWER: f64 = 0.95;
/// So often at most.
const LOWERED: usize = 10;
const GOAL_RATIO: f64 = 0.15;
const GOAL_P99_MS: f64 = 50.0;

impl Login {
    fn plan(&self) -> Plan {
        let quick = self.common.quick;
        let (clients, window, floor, precision) = if quick { (200, 3, 1, 1.3) } else { (5000, 20, 5, 1.05) };
        let window = self.window.unwrap_or(Duration::from_secs(window));
        Plan {
            clients: self.clients.unwrap_or(clients),
            window,
            try_window: window / if quick { 3 } else { 4 },
            floor_window: Duration::from_secs(floor).min(window),
            precision,
        }
    }

    pub async fn measure(&self, frame: &Frame) -> anyhow::Result<Results> {
        let plan = self.plan();
        let mut stage = Stage::set(frame, plan.clients, &self.sync).await?;
        let floor_before = stage.floor(plan.floor_window).await?;
        let sustained = sustained(&mut stage, &plan, floor_before).await?;
        let half = stage.measure(sustained.per_s / 2.0, plan.window).await?;
        let floor_after = stage.floor(plan.floor_window).await?;
        let floor = (floor_before + floor_after) / 2.0;
        Ok(Results {
            records_per_s: sustained.settled_per_s,
            jetstream_publish_per_s: [floor_before, floor_after],
            ratio: (sustained.settled_per_s / floor * 10_000.0).round() / 10_000.0,
            half_rate_p50_ms: half.seen.latencies.percentile_ms(0.5),
            half_rate_p99_ms: half.seen.latencies.percentile_ms(0.99),
            lost: sustained.lost + half.lost,
            duplicated: sustained.seen.duplicated + half.seen.duplicated,
            workload: self.workload(&plan),
            sync_interval: self.sync.clone(),
            sent_again: sustained.again + half.again,
            cpu_us_per_record: sustained.cpu_us_per_record(),
            sustained_load: sustained.load,
            half_rate_load: half.load,
        })
    }

    fn workload(&self, plan: &Plan) -> String {
        format!(
            "{} WebSocket clients in other processes; each record a fresh login id, users in turn, evaluated by group, \
             discuss and org, one push in total; counted when the client's acknowledgement settled it; open loop, \
             sustained for {:?}; floor: JetStream publish of {PAYLOAD_BYTES} bytes with message ids, {IN_FLIGHT} in \
             flight, same server; sync_interval {}",
            plan.clients, plan.window, self.sync
        )
    }
}

/// The highest rate that holds for the whole window.
async fn sustained(stage: &mut Stage<'_>, plan: &Plan, floor: f64) -> anyhow::Result<Measured> {
    let mut search = Search::new((floor * FIRST).max(FIRST_LEAST), plan.precision);
    while let Some(per_s) = search.next() {
        let tried = stage.measure(per_s, plan.try_window).await?;
        search.tried(per_s, tried.held);
    }
    let mut per_s = search.highest().context("no rate holds, not even the lowest")?;
    for _ in 0..LOWERED {
        let measured = stage.measure(per_s, plan.window).await?;
        if measured.held {
            return Ok(measured);
        }
        per_s *= LOWER;
    }
    anyhow::bail!("no rate near {per_s:.0} records/s holds for {:?}", plan.window)
}

fn sync_interval(text: &str) -> Result<String, String> {
    match text {
        "always" => Ok(text.to_owned()),
        duration => crate::duration::parse(duration).map(|_| text.to_owned()),
    }
}

impl Verdict for Results {
    fn missed(&self) -> Vec<String> {
        let goals = [
            (self.ratio >= GOAL_RATIO, format!("ratio {} (at least {GOAL_RATIO})", self.ratio)),
            (
                self.half_rate_p99_ms <= GOAL_P99_MS,
                format!("p99 at half rate {} ms (at most {GOAL_P99_MS})", self.half_rate_p99_ms),
            ),
            (self.lost == 0, format!("{} lost", self.lost)),
            (self.duplicated == 0, format!("{} duplicated", self.duplicated)),
        ];
        goals.into_iter().filter(|(met, _)| !met).map(|(_, goal)| goal).collect()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.jetstream_publish_per_s;
        writeln!(f, "sustained   {:.0} records/s, settled by their clients", self.records_per_s)?;
        writeln!(f, "floor       {before:.0} and {after:.0} JetStream publishes/s, before and after")?;
        writeln!(f, "ratio       {:.1} %", self.ratio * 100.0)?;
        writeln!(
            f,
            "at half     p50 {} ms, p99 {} ms from report to shown",
            self.half_rate_p50_ms, self.half_rate_p99_ms
        )?;
        writeln!(f, "lost        {}, duplicated {}, sent again {}", self.lost, self.duplicated, self.sent_again)?;
        let cpu: Vec<_> = self.cpu_us_per_record.iter().map(|(name, us)| format!("{name} {us}")).collect();
        let own = rounded(self.sustained_load.generator_share * 100.0);
        writeln!(f, "CPU µs      {} a record; the load generator used {own} % of all", cpu.join(", "))?;
        if let Some(bottleneck) = &self.sustained_load.bottleneck {
            writeln!(f, "BOTTLENECK  {bottleneck}: the mesh may do more")?;
        }
        write!(f, "workload    {}", self.workload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nats_server_takes_is_a_sync_interval() {
        for good in ["always", "1s", "500ms", "2m"] {
            assert_eq!(sync_interval(good).unwrap(), good);
        }
        assert!(sync_interval("never").is_err() && sync_interval("0s").is_err());
    }
}
