//! What a delivery costs the comet, beside a raw write on the same sockets: in pairs, ABBA.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    fleet::DRAIN_WITHIN,
    frames::Protocol,
    hook::Hook,
    scene::{Hall, Scene},
};
use crate::bench::{latency::rounded, machine, until};

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub transport: &'static str,
    pub connections: u64,
    pub messages_per_write: u64,
    /// Of the whole comet process: medians.
    pub cpu_us_per_delivery: f64,
    pub floor_us_per_delivery: f64,
    /// The median of the pairs' ratios, and their quartiles.
    pub ratio: f64,
    pub ratio_p25: f64,
    pub ratio_p75: f64,
    pub pairs: usize,
    /// What the comet needs with nothing to deliver; taken off both halves of a pair.
    pub idle_cpu_ms_per_s: f64,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub pairs: usize,
    /// Writes of one half of a pair, roughly.
    pub writes: u64,
}

/// A pair's half is tried so often until no two writes were one.
const TRIES: usize = 8;
/// At least so many in a row are all that a socket's buffers hold.
const BURSTS: (u64, u64) = (2, 20);
/// How long the comet is watched with nothing to do.
const IDLE_FOR: Duration = Duration::from_secs(1);
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// One room on which pairs are measured.
struct Bench<'a, 'b> {
    scene: &'a mut Scene<'b>,
    hall: &'a mut Hall,
    hook: &'a mut Hook,
    protocol: Protocol,
    comet: u32,
    per_write: u64,
    bursts: u64,
    /// Between two bursts: as long as the comet needs for one, and more.
    pace: Duration,
    /// CPU time in a second of nothing.
    idle: f64,
}

/// Measures pairs; the clients read nothing meanwhile, and everything between.
pub async fn measure(
    scene: &mut Scene<'_>,
    hall: &mut Hall,
    hook: &mut Hook,
    protocol: Protocol,
    per_write: u64,
    effort: Effort,
) -> anyhow::Result<Run> {
    let (comet, members) = (scene.comet()?, hall.members);
    let bursts = (effort.writes / members).clamp(BURSTS.0, BURSTS.1);
    let mut bench = Bench { scene, hall, hook, protocol, comet, per_write, bursts, pace: Duration::ZERO, idle: 0.0 };
    bench.warm_up().await?;
    bench.rest().await?;
    let (mut reals, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..effort.pairs {
        let (real, floor) = if pair % 2 == 0 {
            let real = bench.real().await?;
            (real, bench.floor().await?)
        } else {
            let floor = bench.floor().await?;
            (bench.real().await?, floor)
        };
        reals.push(real);
        floors.push(floor);
        ratios.push(real / floor);
    }
    let run = Run {
        transport: if protocol == Protocol::Tcp { "tcp" } else { "websocket" },
        connections: members,
        messages_per_write: per_write,
        cpu_us_per_delivery: digits(quantile(&mut reals, 0.5)),
        floor_us_per_delivery: digits(quantile(&mut floors, 0.5)),
        ratio: digits(quantile(&mut ratios, 0.5)),
        ratio_p25: digits(quantile(&mut ratios, 0.25)),
        ratio_p75: digits(quantile(&mut ratios, 0.75)),
        pairs: effort.pairs,
        idle_cpu_ms_per_s: digits(bench.idle * 1000.0),
    };
    bench.scene.frame.say(&run);
    Ok(run)
}

impl Bench<'_, '_> {
    /// The first frames make the room's owner unheard, and say how long a burst takes.
    async fn warm_up(&mut self) -> anyhow::Result<()> {
        for _ in 0..2 {
            let (before, begun) = (self.hook.written().await?, Instant::now());
            self.hall.publisher.say(self.per_write).await?;
            self.wait_written(before + self.hall.members).await?;
            self.pace = begun.elapsed() * 3 / 2 + Duration::from_millis(1);
            self.drain(1).await?;
        }
        Ok(())
    }

    /// Microseconds of CPU a delivery, through the comet.
    async fn real(&mut self) -> anyhow::Result<f64> {
        for _ in 0..TRIES {
            let before = self.hook.written().await?;
            let (begun, cpu, expected) = (Instant::now(), self.cpu()?, self.hall.members * self.bursts);
            for _ in 0..self.bursts {
                self.hall.publisher.say(self.per_write).await?;
                sleep(self.pace).await;
            }
            let waited = self.wait_deliveries(before, expected).await?;
            let used = self.used(cpu, begun)?;
            self.drain(self.bursts).await?;
            if waited == expected {
                return Ok(self.per_delivery(used));
            }
            // Two bursts came together: the machine was slower than it was before.
            self.pace = self.pace * 3 / 2;
        }
        bail!("the comet puts several bursts into a write, although {:?} are between them", self.pace)
    }

    /// The same by the loop in the comet that only writes.
    async fn floor(&mut self) -> anyhow::Result<f64> {
        let first = self.hall.publisher.next;
        let burst = |number| {
            let numbers = first + number * self.per_write..first + (number + 1) * self.per_write;
            numbers.flat_map(|number| self.protocol.on_the_wire(&self.hall.room, number)).collect::<Vec<u8>>()
        };
        let bursts: Vec<_> = (0..self.bursts).map(burst).collect();
        let (begun, cpu) = (Instant::now(), self.cpu()?);
        // At the same pace: what lies in the CPU's caches after a pause is part of the work.
        let writes = self.hook.write_paced(&self.hall.room, &bursts, self.pace).await?;
        let used = self.used(cpu, begun)?;
        if writes != self.hall.members * self.bursts {
            bail!("the floor's loop wrote {writes} times to {} members", self.hall.members);
        }
        self.hall.publisher.next += self.bursts * self.per_write;
        self.drain(self.bursts).await?;
        Ok(self.per_delivery(used))
    }

    /// What the comet needs while it has nothing to do is no delivery's, and a half with pauses would have more of it.
    async fn rest(&mut self) -> anyhow::Result<()> {
        let (begun, cpu) = (Instant::now(), self.cpu()?);
        sleep(IDLE_FOR).await;
        self.idle = self.used(cpu, begun)? / begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// Seconds of CPU for what was done since.
    fn used(&self, before: Duration, begun: Instant) -> anyhow::Result<f64> {
        let used = self.cpu()?.saturating_sub(before).as_secs_f64();
        Ok((used - self.idle * begun.elapsed().as_secs_f64()).max(0.0))
    }

    fn per_delivery(&self, used: f64) -> f64 {
        used * 1e6 / (self.hall.members * self.bursts * self.per_write) as f64
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        machine::cpu_time(self.comet).context("the comet ended")
    }

    async fn wait_written(&mut self, writes: u64) -> anyhow::Result<()> {
        let hook = &mut self.hook;
        let written = until(WRITTEN_WITHIN, Duration::from_millis(1), async || {
            Ok((hook.written().await? >= writes).then_some(()))
        });
        written.await?.with_context(|| format!("not all members were written to within {WRITTEN_WITHIN:?}"))
    }

    /// Waits until nothing more is written; the writes since `before`.
    async fn wait_deliveries(&mut self, before: u64, expected: u64) -> anyhow::Result<u64> {
        let (hook, pace, mut last) = (&mut self.hook, self.pace, u64::MAX);
        let quiet = until(WRITTEN_WITHIN, pace, async || {
            let written = hook.written().await? - before;
            let is_over = written >= expected || std::mem::replace(&mut last, written) == written;
            Ok(is_over.then_some(written))
        });
        quiet.await?.context("the comet does not come to rest")
    }

    async fn drain(&mut self, bursts: u64) -> anyhow::Result<()> {
        let seen = self.scene.fleet.read(self.hall.publisher.next, None, DRAIN_WITHIN).await?;
        seen.must_be_whole(self.hall.members, bursts * self.per_write)
    }
}

/// The value that this share of all is not above, between neighbours.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Three digits behind the point: the eighth part of a microsecond counts.
fn digits(value: f64) -> f64 {
    if value >= 100.0 { rounded(value) } else { (value * 1000.0).round() / 1000.0 }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<9} {:>6} connections, {} a write: {:.2} µs a delivery, floor {:.2} µs, ratio {:.3} (quartiles {:.3}, {:.3}); \
             idle {} ms/s",
            self.transport,
            self.connections,
            self.messages_per_write,
            self.cpu_us_per_delivery,
            self.floor_us_per_delivery,
            self.ratio,
            self.ratio_p25,
            self.ratio_p75,
            self.idle_cpu_ms_per_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quartile_lies_between_its_neighbours() {
        let mut values = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!((quantile(&mut values, 0.5), quantile(&mut values, 0.25)), (3.0, 2.0));
        assert_eq!(quantile(&mut [1.0, 2.0], 0.25), 1.25);
        assert_eq!(quantile(&mut [7.0], 0.5), 7.0);
    }
}
