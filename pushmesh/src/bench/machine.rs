//! What the machine says of itself and of a process, from `/proc` and the kernel's clocks.

use std::{fs, time::Duration};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use serde::Serialize;

/// The time since the machine started: the same in every process, and it never steps.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
    Duration::from(time)
}

/// CPU time of all threads of a process so far; `None` when it has ended.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// The most memory that a process ever had, in KiB; 0 when it has ended.
pub fn peak_memory_kib(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| kib(&text, "VmHWM:")).unwrap_or(0)
}

/// The memory that a process has now, in KiB; 0 when it has ended.
pub fn memory_kib(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| kib(&text, "VmRSS:")).unwrap_or(0)
}

/// The processes that a process has started and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// A field of `/proc/<pid>/status`: its name, then a number of kB.
fn kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Connections that a full accept queue has cost so far, of all listeners.
pub fn listen_overflows() -> u64 {
    fs::read_to_string("/proc/net/netstat")
        .ok()
        .and_then(|text| netstat(&text, "TcpExt:", "ListenOverflows"))
        .unwrap_or(0)
}

/// A value of `/proc/net/netstat`: a line of names, then one of values, both under the same label.
fn netstat(text: &str, label: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(label));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|found| found == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// Ticks of all CPUs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ticks {
    idle: u64,
    steal: u64,
    all: u64,
}

impl Ticks {
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat").ok().and_then(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// `cpu user nice system idle iowait irq softirq steal …`
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        (ticks.len() == 8).then(|| Self { idle: ticks[3] + ticks[4], steal: ticks[7], all: ticks.iter().sum() })
    }

    /// The share of time, from an earlier look to this one, in which CPUs had nothing to do, and that others took.
    pub fn idle_and_stolen_since(self, earlier: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(earlier.all).max(1) as f64;
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / all;
        (share(self.idle, earlier.idle), share(self.steal, earlier.steal))
    }
}

/// Lets this process, and those that it starts, open as many files as the system allows. The limit.
pub fn raise_descriptor_limit() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// What the figures were taken on.
#[derive(Debug, Clone, Serialize)]
pub struct Fingerprint {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    /// Over the minute before the run: what else the machine was doing.
    pub load_1m: f64,
    /// "release", or "debug", whose figures say nothing.
    pub build: &'static str,
    pub version: &'static str,
    pub descriptors: u64,
}

impl Fingerprint {
    pub fn take(descriptors: u64) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg");
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            load_1m: load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
            descriptors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_under_its_name() {
        let text = "IpExt: InOctets\nIpExt: 7\nTcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\n";
        assert_eq!(netstat(text, "TcpExt:", "ListenOverflows"), Some(22));
        assert_eq!(netstat(text, "TcpExt:", "Absent"), None);
        assert_eq!(netstat("", "TcpExt:", "ListenOverflows"), None);
    }

    #[test]
    fn shares_are_of_the_time_between() {
        let then = Ticks::parse("cpu  10 0 10 70 10 0 0 0 0 0\n").unwrap();
        let now = Ticks::parse("cpu  60 0 20 90 20 0 0 10 0 0\n").unwrap();
        assert_eq!(now.idle_and_stolen_since(then), (0.3, 0.1));
        assert!(Ticks::parse("cpu0 1 2").is_none());
    }

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_some() && peak_memory_kib(pid) >= memory_kib(pid) && memory_kib(pid) > 0);
    }
}
