//! What Linux says of this process, in the names that Prometheus' own clients use.

use std::fmt::Write;

// Of /proc/self/stat: fixed at 100 on every Linux that user space sees.
const TICKS_PER_SECOND: f64 = 100.0;

/// Lines in Prometheus' text format; what can't be read is left out.
pub(crate) fn render(out: &mut String) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    let resident = field("VmRSS:").map(|kib: f64| kib * 1024.0);
    gauge(out, "process_resident_memory_bytes", "Memory held in RAM.", resident);
    gauge(out, "process_threads", "Threads.", field("Threads:"));
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    gauge(out, "process_open_fds", "Open file descriptors.", open);
    line(out, "process_cpu_seconds_total", "counter", "Processor time used, in user and system mode.", cpu_seconds());
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name, in parentheses, and may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn gauge(out: &mut String, name: &str, help: &str, value: Option<f64>) {
    line(out, name, "gauge", help, value);
}

fn line(out: &mut String, name: &str, kind: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
}
