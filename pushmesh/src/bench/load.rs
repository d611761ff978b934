//! Who used the machine during a measurement, and whether the load generator was what held it up.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    latency::rounded,
    machine::{self, Ticks},
};

/// A look at the clocks of all processes, to be compared with a later one.
pub struct Watch {
    services: BTreeMap<String, (u32, Duration)>,
    generator: Vec<(u32, Duration)>,
    ticks: Ticks,
}

/// What was used between two looks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Load {
    /// CPU seconds of each service, and of nats-server.
    pub service_cpu_s: BTreeMap<String, f64>,
    /// CPU seconds of this process and its clients.
    pub generator_cpu_s: f64,
    /// The generator's share of what both used.
    pub generator_share: f64,
    /// The machine's idle time, and what other machines took, 0 to 1.
    pub idle: f64,
    pub stolen: f64,
    /// How late the generator woke up to send, in 99 of 100 cases.
    pub lag_p99_ms: f64,
    /// Why the load generator was the bottleneck; absent if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<String>,
}

/// Later than this, and the schedule is not what was wanted.
const LAG_MS: f64 = 20.0;
/// A machine with less to spare is busy, and then the generator takes what the mesh would need …
const BUSY: f64 = 0.05;
/// … if its share is more than this.
const SHARE: f64 = 0.5;

impl Watch {
    /// `services` by name; `children` are the generator's other processes.
    pub fn begin(services: BTreeMap<String, u32>, children: &[u32]) -> Self {
        let cpu = |pid| machine::cpu_time(pid).unwrap_or_default();
        let generator = children.iter().copied().chain([std::process::id()]);
        Self {
            services: services.into_iter().map(|(name, pid)| (name, (pid, cpu(pid)))).collect(),
            generator: generator.map(|pid| (pid, cpu(pid))).collect(),
            ticks: Ticks::now(),
        }
    }

    pub fn end(&self, lag_p99_ms: f64) -> Load {
        let used = |(pid, before): (u32, Duration)| {
            machine::cpu_time(pid).unwrap_or(before).saturating_sub(before).as_secs_f64()
        };
        let services: BTreeMap<_, _> = self.services.iter().map(|(name, one)| (name.clone(), used(*one))).collect();
        let generator: f64 = self.generator.iter().map(|one| used(*one)).sum();
        let both = services.values().sum::<f64>() + generator;
        let (idle, stolen) = Ticks::now().idle_and_stolen_since(self.ticks);
        let share = generator / both.max(f64::MIN_POSITIVE);
        Load {
            service_cpu_s: services.into_iter().map(|(name, seconds)| (name, rounded(seconds))).collect(),
            generator_cpu_s: rounded(generator),
            generator_share: rounded(share),
            idle: rounded(idle),
            stolen: rounded(stolen),
            lag_p99_ms,
            bottleneck: bottleneck(idle, share, lag_p99_ms),
        }
    }
}

fn bottleneck(idle: f64, share: f64, lag_p99_ms: f64) -> Option<String> {
    if lag_p99_ms > LAG_MS {
        return Some(format!("the load generator woke up {lag_p99_ms:.0} ms late"));
    }
    let percent = share * 100.0;
    (idle < BUSY && share > SHARE)
        .then(|| format!("the load generator took {percent:.0} % of the CPU, and the machine had none to spare"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_named_when_it_was_in_the_way() {
        assert_eq!(bottleneck(0.3, 0.9, 1.0), None, "there was enough for all");
        assert_eq!(bottleneck(0.0, 0.3, 1.0), None, "the mesh had most");
        assert!(bottleneck(0.0, 0.6, 1.0).unwrap().contains("60 %"));
        assert!(bottleneck(0.5, 0.1, 80.0).unwrap().contains("80 ms late"));
    }

    #[test]
    fn cpu_is_counted_from_look_to_look() {
        let watch = Watch::begin([("own".to_owned(), std::process::id())].into(), &[]);
        let begun = machine::cpu_time(std::process::id()).unwrap();
        while machine::cpu_time(std::process::id()).unwrap() < begun + Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let load = watch.end(0.0);
        assert!(load.service_cpu_s["own"] >= 0.02 && load.generator_cpu_s >= 0.02, "{load:?}");
    }
}
