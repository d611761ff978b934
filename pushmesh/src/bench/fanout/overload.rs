//! More than a room ever says, into 5,000 connections of one shard on one core.

use std::time::Duration;

use serde::Serialize;

use super::{
    frames::Protocol,
    live::{Lived, live},
    scene::{COMET, Hall, Scene},
};
use crate::bench::{Frame, load::Load};

/// Of what was to hold and did not, what is tried next.
const LOWERED: [f64; 5] = [0.8, 0.65, 0.5, 0.4, 0.25];

/// What one rate gave.
#[derive(Debug, Clone, Serialize)]
pub struct Overload {
    pub messages_per_s: f64,
    pub connections: u64,
    pub deliveries_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Frames that a client did not get, and those that the comet says it dropped, whichever are more.
    pub dropped: u64,
    /// Frames that were decoded whole.
    pub decoded: u64,
    pub cpu_us_per_delivery: f64,
    pub load: Load,
}

/// What is tried.
#[derive(Debug, Clone)]
pub struct Plan {
    pub connections: u64,
    pub rates: Vec<f64>,
    pub window: Duration,
}

/// Each rate; where one drops frames, the highest of those below it that drops none comes behind it.
pub async fn measure(frame: &Frame, plan: &Plan) -> anyhow::Result<Vec<Overload>> {
    let mut measured = Vec::new();
    for rate in &plan.rates {
        let tried = attempt(frame, plan, *rate).await?;
        let mut held = tried.dropped == 0;
        measured.push(tried);
        for share in LOWERED {
            let lower = rate * share;
            // What holds above it holds at it.
            if held || measured.iter().any(|one| one.dropped == 0 && one.messages_per_s >= lower) {
                break;
            }
            let tried = attempt(frame, plan, lower).await?;
            held = tried.dropped == 0;
            if held {
                measured.push(tried);
            }
        }
    }
    Ok(measured)
}

/// A rate, with a comet and clients of its own: what one drops would come late into the next.
async fn attempt(frame: &Frame, plan: &Plan, per_s: f64) -> anyhow::Result<Overload> {
    let mut scene = Scene::set(frame, Protocol::WebSocket, plan.connections, &["service.shards=1"]).await?;
    scene.fleet.leave_first_cpu().await?;
    scene.connect(plan.connections).await?;
    let mut hall = scene.fill(plan.connections).await?;
    // The room's owner is unheard from the first frame on.
    let servers = vec![(COMET.to_owned(), scene.comet()?)];
    live(&mut scene.fleet, &mut hall.publisher, 10.0, Duration::from_secs(1), &servers).await?;
    let measured = run(&mut scene, &mut hall, per_s, plan.window).await?;
    frame.say_complaints(&scene.mesh);
    Ok(measured)
}

async fn run(scene: &mut Scene<'_>, hall: &mut Hall, per_s: f64, window: Duration) -> anyhow::Result<Overload> {
    let before = scene.dropped().await?;
    let servers: Vec<_> = scene.mesh.pids().into_iter().collect();
    let lived = live(&mut scene.fleet, &mut hall.publisher, per_s, window, &servers).await?;
    let told = scene.dropped().await? - before;
    let overload = Overload {
        messages_per_s: per_s,
        connections: hall.members,
        deliveries_per_s: lived.deliveries_per_s(),
        p50_ms: lived.percentile_ms(0.5),
        p99_ms: lived.percentile_ms(0.99),
        dropped: lived.lost().max(told),
        decoded: lived.seen.tally.decoded,
        cpu_us_per_delivery: comet_us(&lived),
        load: lived.load.clone(),
    };
    let trouble = lived.seen.tally.trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
    scene.frame.say(format_args!("{overload}{trouble}"));
    scene.mesh.check()?;
    Ok(overload)
}

fn comet_us(lived: &Lived) -> f64 {
    let seconds = lived.load.service_cpu_s.get(COMET).copied().unwrap_or_default();
    (seconds * 1e9 / lived.seen.tally.frames.max(1) as f64).round() / 1000.0
}

impl std::fmt::Display for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} messages/s into {} connections: {:.2} M deliveries/s, p50 {} ms, p99 {} ms, dropped {}, {} µs a \
             delivery; idle {:.0} %, load generator {:.0} %",
            self.messages_per_s,
            self.connections,
            self.deliveries_per_s / 1e6,
            self.p50_ms,
            self.p99_ms,
            self.dropped,
            self.cpu_us_per_delivery,
            self.load.idle * 100.0,
            self.load.generator_share * 100.0
        )?;
        match &self.load.bottleneck {
            Some(bottleneck) => write!(f, "; BOTTLENECK: {bottleneck}"),
            None => Ok(()),
        }
    }
}
