//! Whether what is due is done as fast as it comes.

use std::time::Duration;

/// A look at a run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the run's start.
    pub at: Duration,
    pub due: u64,
    pub done: u64,
}

/// Growth of the backlog that counts as none: a part of what comes in, …
const GROWTH: f64 = 0.01;
/// … and what is noise between two looks, as time.
const NOISE: Duration = Duration::from_millis(20);
/// A backlog that is worth more than this is one, even if it grows no more.
const MOST: Duration = Duration::from_secs(1);

/// Whether the backlog grows over a run at `per_s`: its mean in the last third, beside that in the third before. The
/// first third is left out, in which it comes to be.
pub fn grows(samples: &[Sample], per_s: f64) -> bool {
    let Some(end) = samples.last().map(|sample| sample.at) else { return true };
    let (first, second) = (end / 3, end * 2 / 3);
    let mean = |from: Duration, to: Duration| {
        let within = || samples.iter().filter(move |sample| sample.at > from && sample.at <= to);
        let sum: f64 = within().map(|sample| sample.due.saturating_sub(sample.done) as f64).sum();
        sum / within().count().max(1) as f64
    };
    let (before, after) = (mean(first, second), mean(second, end));
    let tolerated = per_s * ((second - first).as_secs_f64() * GROWTH + NOISE.as_secs_f64());
    after - before > tolerated || after > per_s * MOST.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 s at 1,000 a second, with so much done of them at each moment.
    fn run(done: impl Fn(f64) -> f64) -> Vec<Sample> {
        let sample = |tenth: u64| {
            let seconds = tenth as f64 / 10.0;
            let due = seconds * 1000.0;
            Sample {
                at: Duration::from_millis(tenth * 100),
                due: due as u64,
                done: done(seconds).clamp(0.0, due) as u64,
            }
        };
        (1..=200).map(sample).collect()
    }

    #[test]
    fn what_keeps_up_does_not_grow() {
        assert!(!grows(&run(|seconds| (seconds - 0.05) * 1000.0), 1000.0));
        let with_a_pause = |seconds: f64| if (8.0..8.3).contains(&seconds) { 7950.0 } else { seconds * 1000.0 - 50.0 };
        assert!(!grows(&run(with_a_pause), 1000.0));
    }

    #[test]
    fn what_falls_behind_grows() {
        assert!(grows(&run(|seconds| seconds * 980.0), 1000.0));
        assert!(grows(&run(|seconds| seconds.min(15.0) * 1000.0), 1000.0));
        assert!(grows(&run(|seconds| (seconds - 1.5) * 1000.0), 1000.0), "late for good");
        assert!(grows(&[], 1000.0), "nothing seen is nothing shown");
    }
}
