//! Latencies of many processes in one histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Microseconds, to three digits; a minute is the most.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// As it travels between processes: each value in microseconds and how often it came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counted(Vec<(u64, u64)>);

const MOST_US: u64 = 60_000_000;

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(MOST_US, 3).expect("bounds that are good"))
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_micros() as u64);
    }

    /// The same of so many.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        self.0.saturating_record_n(latency.as_micros() as u64, count);
    }

    pub fn add(&mut self, counted: &Counted) {
        for (value, count) in &counted.0 {
            self.0.saturating_record_n(*value, *count);
        }
    }

    pub fn counted(&self) -> Counted {
        Counted(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    /// The value that this share of all is not above, in milliseconds; 0 where there is none.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { rounded(self.0.value_at_quantile(share) as f64 / 1000.0) }
    }
}

/// Two digits behind the point are all that such figures are good for.
pub fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_processes() {
        let (mut one, mut other, mut all) = (Latencies::default(), Latencies::default(), Latencies::default());
        assert_eq!(all.percentile_ms(0.5), 0.0);
        (1..=50).for_each(|ms| one.record(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| other.record(Duration::from_millis(ms)));
        all.add(&one.counted());
        all.add(&other.counted());
        assert!((all.percentile_ms(0.5) - 50.0).abs() < 0.1, "{}", all.percentile_ms(0.5));
        assert!((all.percentile_ms(0.99) - 99.0).abs() < 0.1, "{}", all.percentile_ms(0.99));
        assert!((all.percentile_ms(1.0) - 100.0).abs() < 0.1);
    }

    #[test]
    fn what_takes_hours_counts_as_the_most() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_secs(7200));
        assert!(latencies.percentile_ms(0.5) >= 60_000.0);
    }
}
