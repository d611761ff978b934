//! Handles of metrics. Make them once and keep them: a look-up by name is dear in a hot loop.
//!
//! A label takes one of a fixed set of values, never a user, room or id.

use metrics::Label;
use pushmesh_protocol::metric::{Counter, Gauge, Histogram};

/// The label pairs of a handle.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Bounds of the buckets of every `…_seconds` histogram, in seconds.
pub const SECONDS_BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of the buckets of every `…_bytes` histogram, in bytes.
pub const BYTES_BUCKETS: [f64; 10] =
    [64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// Bounds of the buckets of every other histogram: counts of things.
pub const COUNT_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

pub fn counter(counter: &Counter) -> metrics::Counter {
    counter_with(counter, &[])
}

pub fn counter_with(counter: &Counter, labels: Labels<'_>) -> metrics::Counter {
    metrics::describe_counter!(counter.name, counter.help);
    metrics::counter!(counter.name, owned(labels))
}

pub fn gauge(gauge: &Gauge) -> metrics::Gauge {
    gauge_with(gauge, &[])
}

pub fn gauge_with(gauge: &Gauge, labels: Labels<'_>) -> metrics::Gauge {
    metrics::describe_gauge!(gauge.name, gauge.help);
    metrics::gauge!(gauge.name, owned(labels))
}

pub fn histogram(histogram: &Histogram) -> metrics::Histogram {
    histogram_with(histogram, &[])
}

pub fn histogram_with(histogram: &Histogram, labels: Labels<'_>) -> metrics::Histogram {
    metrics::describe_histogram!(histogram.name, histogram.help);
    metrics::histogram!(histogram.name, owned(labels))
}

fn owned(labels: Labels<'_>) -> Vec<Label> {
    labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect()
}
