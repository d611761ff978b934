//! What a person sees of a running demo: a table that is drawn anew four times a second, on a terminal;
//! elsewhere a line every five seconds, on standard error both.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::oracle::{Judgement, Oracle, Shown};

/// A moment of the run.
pub struct Progress<'a> {
    pub elapsed: Duration,
    pub length: Duration,
    /// All steps are done; the clients have time to show what they must.
    pub settling: bool,
    pub online: usize,
    pub logins: u64,
    pub calls: usize,
    pub withdrawn: u64,
    pub acked: u64,
    pub oracle: &'a Oracle,
    pub shown: &'a [Shown],
}

/// How often the oracle is asked for the table's last line at most: it looks at the whole run, …
const JUDGE_EVERY: Duration = Duration::from_secs(2);
/// … and has no more than one part in so many of the driver's time.
const JUDGE_SHARE: u32 = 20;
const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Table {
    _bars: MultiProgress,
    bar: ProgressBar,
    rows: Vec<ProgressBar>,
    terminal: bool,
    judge_at: Cell<Duration>,
    lined: Cell<Duration>,
    verdict: std::cell::RefCell<Judgement>,
}

impl Table {
    pub fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let terminal = !bars.is_hidden();
        let style = |template| ProgressStyle::with_template(template).expect("a template of ours");
        let bar = bars.add(ProgressBar::new(1).with_style(style("{bar:40} {percent:>3} %  {msg}")));
        let rows = (0..5).map(|_| bars.add(ProgressBar::new(1).with_style(style("  {msg}")))).collect();
        Self {
            _bars: bars,
            bar,
            rows,
            terminal,
            judge_at: Cell::new(JUDGE_EVERY),
            lined: Cell::new(Duration::ZERO),
            verdict: Default::default(),
        }
    }

    /// Where the rooms show how they get on: the table's last row, or lines of their own where there is no terminal.
    pub fn rooms_row(&self) -> impl Fn(String) + use<> {
        let row = self.rows.last().expect("five rows").clone();
        let (terminal, lined) = (self.terminal, Cell::new(None::<Instant>));
        move |text| {
            if terminal {
                row.set_message(text);
            } else if lined.get().is_none_or(|at| at.elapsed() >= LINE_EVERY) {
                lined.set(Some(Instant::now()));
                eprintln!("{}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }

    pub fn show(&self, progress: &Progress<'_>) {
        if progress.elapsed >= self.judge_at.get() {
            let begun = Instant::now();
            *self.verdict.borrow_mut() = progress.oracle.judge(progress.shown);
            self.judge_at.set(progress.elapsed + JUDGE_EVERY.max(begun.elapsed() * JUDGE_SHARE));
        }
        let verdict = self.verdict.borrow();
        let seconds = progress.elapsed.as_secs_f64().max(0.001);
        let phase = if progress.settling { "settling" } else { "replaying" };
        let rows = [
            format!(
                "online   {:>7}   logins {:>7} ({:.0}/s)",
                progress.online,
                progress.logins,
                progress.logins as f64 / seconds
            ),
            format!(
                "calls    {:>7}   pushes {:>7} ({:.0}/s)   acked {}   withdrawn {}",
                progress.calls,
                progress.shown.len(),
                progress.shown.len() as f64 / seconds,
                progress.acked,
                progress.withdrawn
            ),
            format!(
                "latency  p50 {:.1} ms   p99 {:.1} ms   (report accepted to shown)",
                percentile_ms(&verdict.latencies, 0.50),
                percentile_ms(&verdict.latencies, 0.99)
            ),
            format!(
                "so far   must {}   outstanding {}   duplicated {}   extra {}",
                verdict.must, verdict.lost, verdict.duplicated, verdict.extra
            ),
        ];
        if self.terminal {
            self.bar.set_length(progress.length.as_millis() as u64);
            self.bar.set_position(progress.elapsed.min(progress.length).as_millis() as u64);
            self.bar.set_message(phase);
            self.rows.iter().zip(rows).for_each(|(row, text)| row.set_message(text));
        } else if progress.elapsed >= self.lined.get() + LINE_EVERY {
            self.lined.set(progress.elapsed);
            let [online, calls, latency, so_far] = rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "));
            eprintln!(
                "{phase} {:.0} of {:.0} s; {online}; {calls}; {latency}; {so_far}",
                seconds,
                progress.length.as_secs_f64()
            );
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
        self.rows.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// The value below which this share of the values lies, in milliseconds; 0 where there is none.
pub fn percentile_ms(values: &[Duration], share: f64) -> f64 {
    let mut sorted: Vec<_> = values.to_vec();
    sorted.sort_unstable();
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).map_or(0.0, |value| value.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let values: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!((percentile_ms(&values, 0.5), percentile_ms(&values, 0.99)), (50.0, 99.0));
        assert_eq!(percentile_ms(&[], 0.5), 0.0);
    }
}
