//! A login system that reports records in an open loop, over several gRPC streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{
    LoginEvent, ReportRequest, ReportResponse, login_ingest_client::LoginIngestClient, report_response::Answer,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::{
    backend,
    latency::Latencies,
    machine,
    mesh::Mesh,
    population::{device, record_login, user},
    schedule::Schedule,
};

/// Report streams; all records of a user go through the same one.
const STREAMS: usize = 4;
/// Records of one stream that wait to be sent.
const QUEUE: usize = 1024;
/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(1);

/// Open streams to login-ingest.
pub struct Reporter {
    streams: Vec<mpsc::Sender<ReportRequest>>,
    answers: Arc<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    accepted: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
}

/// What became of a run of records.
#[derive(Debug, Default)]
pub struct Reported {
    pub offered: u64,
    /// How late this process woke up to send, apart from when the mesh made it wait.
    pub lag: Latencies,
}

/// A run of records.
#[derive(Debug, Clone, Copy)]
pub struct Records {
    pub run: u64,
    pub users: u64,
    pub schedule: Schedule,
    pub window: Duration,
}

impl Reporter {
    pub async fn open(mesh: &Mesh) -> anyhow::Result<Self> {
        let token = backend::authorization(mesh, &[Scope::LoginWrite])?;
        let (mut streams, answers) = (Vec::new(), Arc::<Answers>::default());
        for _ in 0..STREAMS {
            let (records, outgoing) = mpsc::channel(QUEUE);
            let mut request = Request::new(ReceiverStream::new(outgoing));
            request.metadata_mut().insert("authorization", token.clone());
            let mut client = LoginIngestClient::new(backend::channel(mesh, "login-ingest")?);
            let responses = client.report(request).await.context("login-ingest refuses the report stream")?;
            tokio::spawn(collect(responses.into_inner(), answers.clone()));
            streams.push(records);
        }
        Ok(Self { streams, answers })
    }

    /// Reports what is due until the window is over; what the mesh did not take by then is not offered any more.
    pub async fn report(&self, records: Records) -> anyhow::Result<Reported> {
        let Records { run, users, schedule, window } = records;
        let (count, end) = (schedule.count(window), schedule.start + window);
        let mut reported = Reported::default();
        let mut wake = schedule.start;
        while reported.offered < count && machine::now() < end {
            sleep_until(Instant::now() + wake.saturating_sub(machine::now())).await;
            let woken = machine::now();
            reported.lag.record(woken.saturating_sub(wake));
            let due = schedule.due(woken).min(count);
            while reported.offered < due && machine::now() < end {
                self.say(run, reported.offered, users).await?;
                reported.offered += 1;
            }
            wake = machine::now().max(wake) + TICK;
        }
        Ok(reported)
    }

    /// Records that were answered so far: accepted, and not.
    pub fn answered(&self) -> anyhow::Result<(u64, u64)> {
        if self.answers.broken.load(Relaxed) > 0 {
            bail!("a report stream to login-ingest broke");
        }
        Ok((self.answers.accepted.load(Relaxed), self.answers.refused.load(Relaxed)))
    }

    async fn say(&self, run: u64, sequence: u64, users: u64) -> anyhow::Result<()> {
        let number = sequence % users;
        let record = ReportRequest {
            r#ref: sequence,
            user: user(number).to_string(),
            device: device().to_string(),
            login_id: record_login(run, sequence).to_string(),
            event: LoginEvent::Online.into(),
            at_ms: 0,
        };
        let stream = &self.streams[(number % STREAMS as u64) as usize];
        stream.send(record).await.ok().context("a report stream to login-ingest has ended")
    }
}

async fn collect(mut responses: Streaming<ReportResponse>, answers: Arc<Answers>) {
    loop {
        match responses.message().await {
            Ok(Some(ReportResponse { answer: Some(Answer::Accepted(_)), .. })) => {
                answers.accepted.fetch_add(1, Relaxed);
            }
            Ok(Some(_)) => {
                answers.refused.fetch_add(1, Relaxed);
            }
            // It ends with the bench, and never before.
            Ok(None) | Err(_) => {
                answers.broken.fetch_add(1, Relaxed);
                return;
            }
        }
    }
}
