//! What processes have and use while nothing is asked of them but what they do by themselves.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use crate::bench::{latency::rounded, machine, mesh::Mesh};

/// nats-server's memory follows its garbage collector for minutes: it is not waited for.
const NATS_SERVER: &str = "nats-server";
const LOOK: Duration = Duration::from_secs(1);
/// Memory has settled when all services together did not change by more than this over [`LOOKS`] looks.
const SETTLED_KIB: u64 = 256;
const LOOKS: u32 = 3;

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    /// At most, until memory does not change any more.
    pub settle: Duration,
    /// Over which CPU is measured, after that.
    pub window: Duration,
}

/// By service.
#[derive(Debug, Clone, Default)]
pub struct Used {
    pub rss_mib: BTreeMap<String, f64>,
    pub cpu_ms_per_s: BTreeMap<String, f64>,
}

impl Rest {
    pub async fn take(self, mesh: &mut Mesh) -> anyhow::Result<Used> {
        self.settle(mesh).await?;
        let pids = mesh.pids();
        let cpu = |pid: u32| machine::cpu_time(pid).unwrap_or_default();
        let (begun, before) = (machine::now(), pids.values().map(|pid| cpu(*pid)).collect::<Vec<_>>());
        sleep(self.window).await;
        mesh.check()?;
        let seconds = (machine::now() - begun).as_secs_f64().max(f64::MIN_POSITIVE);
        let mut used = Used::default();
        for ((name, pid), before) in pids.iter().zip(before) {
            let service = service(name).to_owned();
            let ms = cpu(*pid).saturating_sub(before).as_secs_f64() * 1000.0;
            used.cpu_ms_per_s.insert(service.clone(), rounded(ms / seconds));
            used.rss_mib.insert(service, rounded(machine::memory_kib(*pid) as f64 / 1024.0));
        }
        Ok(used)
    }

    async fn settle(self, mesh: &mut Mesh) -> anyhow::Result<()> {
        let pids: Vec<_> = mesh.pids().into_iter().filter(|(name, _)| name != NATS_SERVER).collect();
        let all = || pids.iter().map(|(_, pid)| machine::memory_kib(*pid)).sum::<u64>();
        let (begun, mut last, mut same) = (machine::now(), all(), 0);
        while same < LOOKS && machine::now() - begun < self.settle {
            sleep(LOOK).await;
            mesh.check()?;
            let now = all();
            same = if now.abs_diff(last) <= SETTLED_KIB { same + 1 } else { 0 };
            last = now;
        }
        Ok(())
    }
}

/// One that was started anew has a number behind its service.
fn service(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((service, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => service,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_is_known_by_its_service() {
        let names = ["group-push-12", "group-push", "comet", "nats-server"];
        assert_eq!(names.map(super::service), ["group-push", "group-push", "comet", "nats-server"]);
    }
}
