//! `pushmesh replay`: login records from a file, through login-ingest's door.

mod line;
mod source;
mod stream;

use std::{
    collections::{HashMap, VecDeque},
    io::IsTerminal,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{ReportRequest, ReportResponse, report_response::Answer};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{
    line::Record,
    source::Read,
    stream::{Reports, Said},
};
use crate::{
    doors::{Backend, Door},
    exit::{Failure, Outcome},
};

/// Records that may wait for their answers; login-ingest takes 2,000 of a stream.
const WINDOW: usize = 1000;
/// Refused lines that are printed; all are counted.
const REFUSALS_SHOWN: u64 = 20;
/// How long to wait before a broken stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Reports login records from a file.
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// NDJSON, plain or gzipped; - is standard input
    file: String,
    /// So many times faster than life, gaps of more than a second cut [default: as fast as it goes]
    #[arg(long, value_name = "TIMES", value_parser = speed)]
    speed: Option<f64>,
    /// Report records as of now, whatever their at_ms says
    #[arg(long)]
    now: bool,
    /// How often a record is reported again while nobody knows whether it was stored
    #[arg(long, default_value_t = 10)]
    retries: u32,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Stored.
    accepted: u64,
    /// Never will be stored as they are.
    refused: u64,
    /// Perhaps stored: no answer, or an outage that outlasted the retries.
    unknown: u64,
    /// Neither online nor offline.
    skipped: u64,
    seconds: f64,
}

/// A record on its way.
struct Waiting {
    line: u64,
    request: ReportRequest,
    tries: u32,
}

enum Event {
    Read(Option<Read>),
    Said(Said),
    Again,
    Stop,
}

impl Replay {
    pub async fn run(self) -> Outcome {
        let door = self.backend.open("login-ingest", Scope::LoginWrite).await?;
        let records = source::start(&self.file, self.speed).map_err(Failure::config)?;
        let begun = Instant::now();
        let mut work = Work {
            door,
            now: self.now,
            retries: self.retries,
            waiting: HashMap::new(),
            again: VecDeque::new(),
            summary: Summary::default(),
            progress: progress(self.backend.place.json),
            next: 0,
        };
        let carried_out = work.carry_out(records).await;
        work.progress.finish_and_clear();
        let mut summary = work.summary;
        summary.unknown += work.waiting.len() as u64;
        summary.seconds = begun.elapsed().as_secs_f64();
        let Summary { accepted, refused, unknown, skipped, seconds } = &summary;
        let text =
            format!("{accepted} accepted, {refused} refused, {unknown} unknown, {skipped} skipped in {seconds:.1} s");
        self.backend.place.output().line(text, &summary)?;
        carried_out?;
        match (summary.refused, summary.unknown) {
            (0, 0) => Ok(()),
            (refused, 0) => Err(Failure::failed(anyhow!("{refused} of the records were refused"))),
            (_, unknown) => {
                Err(Failure::unavailable(anyhow!("of {unknown} of the records nobody knows whether they are stored")))
            }
        }
    }
}

struct Work {
    door: Door,
    now: bool,
    retries: u32,
    waiting: HashMap<u64, Waiting>,
    /// References to report again, each at its time; the times grow.
    again: VecDeque<(Instant, u64)>,
    summary: Summary,
    progress: ProgressBar,
    next: u64,
}

impl Work {
    async fn carry_out(&mut self, mut records: mpsc::Receiver<Read>) -> Outcome {
        let mut reports = Reports::open(&self.door).await?;
        let (mut read_all, mut broken) = (false, 0);
        while !(read_all && self.waiting.is_empty()) {
            let due = self.again.front().map(|(at, _)| *at);
            let event = tokio::select! {
                _ = tokio::signal::ctrl_c() => Event::Stop,
                said = reports.said() => Event::Said(said),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Again,
                read = records.recv(), if !read_all && self.waiting.len() < WINDOW => Event::Read(read),
            };
            match event {
                Event::Stop => return Err(Failure::failed(anyhow!("interrupted"))),
                Event::Read(None) => read_all = true,
                Event::Read(Some(read)) => {
                    if let Some(request) = self.take(read) {
                        reports.send(request).await;
                    }
                }
                Event::Again => {
                    let reference = self.again.pop_front().map(|(_, reference)| reference);
                    if let Some(waiting) = reference.and_then(|reference| self.waiting.get(&reference)) {
                        reports.send(waiting.request.clone()).await;
                    }
                }
                Event::Said(Said::Answer(answer)) => {
                    broken = 0;
                    self.answered(answer);
                }
                Event::Said(Said::Broken(status)) => {
                    broken += 1;
                    if broken > self.retries || status.code() == tonic::Code::Unauthenticated {
                        return Err(self.door.refused(&status));
                    }
                    self.progress.suspend(|| eprintln!("the stream broke ({}); again in 1 s", status.message()));
                    tokio::time::sleep(REOPEN_AFTER).await;
                    reports = self.reopen().await?;
                }
            }
            self.progress.set_message(format!("{} refused, {} waiting", self.summary.refused, self.waiting.len()));
        }
        reports.finish().await;
        Ok(())
    }

    /// The request of a record; `None` for a line that is none.
    fn take(&mut self, read: Read) -> Option<ReportRequest> {
        let record = match read.record {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.summary.skipped += 1;
                return None;
            }
            Err(reason) => {
                self.refuse(read.line, &reason);
                return None;
            }
        };
        self.next += 1;
        let request = self.request(self.next, record);
        self.waiting.insert(self.next, Waiting { line: read.line, request: request.clone(), tries: 0 });
        Some(request)
    }

    fn request(&self, reference: u64, record: Record) -> ReportRequest {
        // The time is fixed at the first try: an offline that is said again must not end a login begun meanwhile.
        let at_ms = record.at_ms.filter(|_| !self.now).unwrap_or_else(wall_millis);
        ReportRequest {
            r#ref: reference,
            user: record.user,
            device: record.device,
            login_id: record.login_id,
            event: record.event.into(),
            at_ms,
        }
    }

    fn answered(&mut self, answer: ReportResponse) {
        let Some(waiting) = self.waiting.get_mut(&answer.r#ref) else { return };
        match answer.answer {
            Some(Answer::Accepted(_)) => {
                self.summary.accepted += 1;
                self.progress.inc(1);
                self.waiting.remove(&answer.r#ref);
            }
            Some(Answer::Refused(refused)) => {
                let line = waiting.line;
                self.waiting.remove(&answer.r#ref);
                self.refuse(line, &format!("field {}: {}", refused.field, refused.reason));
            }
            Some(Answer::Unknown(unknown)) if waiting.tries < self.retries => {
                waiting.tries += 1;
                if waiting.request.login_id.is_empty() {
                    waiting.request.login_id = unknown.login_id;
                }
                let at = Instant::now() + Duration::from_millis(unknown.retry_after_ms.clamp(50, 30_000).into());
                let place = self.again.partition_point(|(other, _)| *other <= at);
                self.again.insert(place, (at, answer.r#ref));
            }
            Some(Answer::Unknown(_)) | None => {
                self.summary.unknown += 1;
                self.waiting.remove(&answer.r#ref);
            }
        }
    }

    fn refuse(&mut self, line: u64, reason: &str) {
        self.summary.refused += 1;
        match self.summary.refused {
            shown if shown <= REFUSALS_SHOWN => {
                self.progress.suspend(|| eprintln!("line {line} refused: {reason}"));
            }
            shown if shown == REFUSALS_SHOWN + 1 => {
                self.progress.suspend(|| eprintln!("more lines are refused, and only counted"));
            }
            _ => {}
        }
    }

    /// A new stream; all that waits for an answer is said again, in its order.
    async fn reopen(&mut self) -> Result<Reports, Failure> {
        let mut reports = Reports::open(&self.door).await?;
        self.again.clear();
        let mut all: Vec<_> = self.waiting.values().map(|waiting| waiting.request.clone()).collect();
        all.sort_by_key(|request| request.r#ref);
        for request in all {
            reports.send(request).await;
        }
        Ok(reports)
    }
}

fn progress(json: bool) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if json || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} accepted, {per_sec}, {msg}");
    bar.with_style(style.expect("the template is well-formed"))
}

fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.1..=100_000.0).contains(&speed) => Ok(speed),
        _ => Err("must be a number from 0.1 to 100000".into()),
    }
}
