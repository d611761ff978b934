//! The one owner of all partitions of a service, killed and followed by another.

use std::time::Duration;

use anyhow::{Context, bail};
use pushmesh_protocol::{
    metric::{Gauge, Histogram},
    topology::TopologyConfig,
};

use crate::bench::{machine, mesh::Mesh, scrape::Counters, until};

/// How exactly a take-over is timed.
const LOOK: Duration = Duration::from_millis(20);
const FIRST_WITHIN: Duration = Duration::from_secs(60);

pub struct Owner {
    service: &'static str,
    /// Has one value for each partition that was taken and can be asked since.
    loads: Histogram,
    number: u32,
}

impl Owner {
    /// The first, once it answers for all partitions.
    pub async fn start(mesh: &mut Mesh, service: &'static str, loads: Histogram) -> anyhow::Result<Self> {
        let owner = Self { service, loads, number: 1 };
        mesh.add(service, &owner.name()).await?;
        match owner.holds_all(mesh, 0, &[], FIRST_WITHIN).await? {
            Some(()) => Ok(owner),
            None => bail!("{} does not answer for all partitions after {FIRST_WITHIN:?}", owner.name()),
        }
    }

    /// The process's, of the mesh's.
    pub fn name(&self) -> String {
        format!("{}-{}", self.service, self.number)
    }

    /// kill -9, and another process is started at once: the time from the kill until it answers for all partitions and
    /// holds so much, by these gauges together; `None` if it does not get there.
    pub async fn replace(
        &mut self,
        mesh: &mut Mesh,
        holding: u64,
        gauges: &[Gauge],
        within: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let killed = machine::now();
        mesh.kill(&self.name())?;
        self.number += 1;
        mesh.add(self.service, &self.name()).await?;
        Ok(self.holds_all(mesh, holding, gauges, within).await?.map(|()| machine::now() - killed))
    }

    /// What it holds, by these gauges together.
    pub async fn holds(&self, mesh: &Mesh, gauges: &[Gauge]) -> anyhow::Result<u64> {
        let counters = self.counters(mesh).await?;
        Ok(gauges.iter().map(|gauge| counters.sum(gauge.name, "")).sum())
    }

    pub fn memory_mib(&self, mesh: &Mesh) -> anyhow::Result<f64> {
        let pid = mesh.pids().get(&self.name()).copied().with_context(|| format!("{} is gone", self.name()))?;
        Ok(machine::memory_kib(pid) as f64 / 1024.0)
    }

    // One that lost partitions while it loaded them has loaded more than all, and holds less.
    async fn holds_all(
        &self,
        mesh: &mut Mesh,
        holding: u64,
        gauges: &[Gauge],
        within: Duration,
    ) -> anyhow::Result<Option<()>> {
        let all = u64::from(TopologyConfig::default().partitions.count());
        let name = format!("{}_count", self.loads.name);
        until(within, LOOK, async || {
            mesh.check()?;
            let counters = self.counters(mesh).await?;
            let held: u64 = gauges.iter().map(|gauge| counters.sum(gauge.name, "")).sum();
            Ok((counters.sum(&name, "") >= all && held == holding).then_some(()))
        })
        .await
    }

    async fn counters(&self, mesh: &Mesh) -> anyhow::Result<Counters> {
        Counters::read(mesh.door(&self.name(), "admin")?).await
    }
}
