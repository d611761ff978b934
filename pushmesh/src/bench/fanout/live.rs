//! Messages at a rate, with clients that read: latencies, losses, and what it costs.

use std::time::Duration;

use super::{
    fleet::{Fleet, Seen},
    orders::Due,
    publisher::Publisher,
};
use crate::bench::{
    latency::rounded,
    load::{Load, Watch},
    machine,
    schedule::Schedule,
};

/// Between the order to read and the first message.
const LEAD: Duration = Duration::from_millis(100);
/// What has not come so long after the last message was due is lost.
const LATE: Duration = Duration::from_secs(15);
/// The decoders' messages, at least, must have been decoded.
const MESSAGES_MIN: u64 = 10;

/// What one rate gave.
#[derive(Debug, Clone)]
pub struct Lived {
    pub seen: Seen,
    /// From the first message's moment until the last was read.
    pub took: Duration,
    pub load: Load,
    pub cpu: Duration,
}

/// Says so many a second for a while; `servers` are the processes whose CPU time counts.
pub async fn live(
    fleet: &mut Fleet,
    publisher: &mut Publisher,
    per_s: f64,
    window: Duration,
    servers: &[(String, u32)],
) -> anyhow::Result<Lived> {
    let schedule = Schedule { start: machine::now() + LEAD, per_s };
    let messages = schedule.count(window).max(MESSAGES_MIN);
    let first = publisher.next;
    let due = Due { first, start_ns: schedule.start.as_nanos() as u64, period_ns: (1e9 / per_s) as u64 };
    let within = LEAD + Duration::from_secs_f64(messages as f64 / per_s) + LATE;
    let cpu = || servers.iter().filter_map(|(_, pid)| machine::cpu_time(*pid)).sum::<Duration>();
    fleet.begin_reading(first + messages, Some(due), within).await?;
    let watch = Watch::begin(servers.iter().cloned().collect(), &fleet.pids());
    let before = cpu();
    let lag = publisher.follow(schedule, messages).await?;
    let seen = fleet.read_now().await?;
    let load = watch.end(lag.percentile_ms(0.99));
    let last = Duration::from_nanos(seen.tally.last_ns);
    Ok(Lived { took: last.saturating_sub(schedule.start), cpu: cpu().saturating_sub(before), seen, load })
}

impl Lived {
    pub fn deliveries_per_s(&self) -> f64 {
        (self.seen.tally.frames as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)).round()
    }

    pub fn cpu_us_per_delivery(&self) -> f64 {
        (self.cpu.as_secs_f64() * 1e9 / self.seen.tally.frames.max(1) as f64).round() / 1000.0
    }

    pub fn percentile_ms(&self, share: f64) -> f64 {
        rounded(self.seen.latencies.percentile_ms(share))
    }

    /// What the members did not get, or not as it was sent.
    pub fn lost(&self) -> u64 {
        let tally = &self.seen.tally;
        tally.missing + tally.spoilt + tally.duplicated
    }
}
