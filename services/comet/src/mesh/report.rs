//! Login reports to login-ingest: the reports of connections that log in at once travel together.

use std::{sync::Arc, time::Duration};

use pushmesh_bus::{Bus, RequestError};
use pushmesh_protocol::{
    message::{LoginAnswer, LoginAnswers, LoginReport, LoginReports},
    name::Subject,
    wire,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Most reports in one request.
const BATCH: usize = 256;
/// Requests under way at once; what comes meanwhile gathers for the next one.
const UNDER_WAY: usize = 8;
/// When to say it again, where login-ingest did not say.
const RETRY_AFTER_MS: u32 = 1_000;

struct Waiting {
    report: LoginReport,
    answer: oneshot::Sender<LoginAnswer>,
}

/// Reports logins. Clones share the batches.
#[derive(Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Waiting>,
}

impl Reporter {
    /// With the task behind it, which ends when the last clone is gone.
    pub fn new(bus: Bus, within: Duration) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(4 * BATCH);
        (Self { queue }, run(bus, within, waiting))
    }

    pub async fn report(&self, report: LoginReport) -> LoginAnswer {
        let (answer, answered) = oneshot::channel();
        // A closed queue shows as the answer that never comes.
        let _ = self.queue.send(Waiting { report, answer }).await;
        answered.await.unwrap_or_else(|_| unknown("this comet is going"))
    }
}

async fn run(bus: Bus, within: Duration, mut waiting: mpsc::Receiver<Waiting>) {
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let bus = bus.clone();
        tokio::spawn(async move {
            send(&bus, within, batch).await;
            drop(place);
        });
    }
}

async fn send(bus: &Bus, within: Duration, batch: Vec<Waiting>) {
    let (reports, askers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.report, one.answer)).unzip();
    let payload = wire::encode(&LoginReports(reports));
    let answers = match bus.request(Subject::login_report(), payload.into(), within).await {
        Ok(answer) => read(&answer, askers.len()),
        Err(error @ (RequestError::NoResponders | RequestError::Timeout(_) | RequestError::Disconnected)) => {
            Err(format!("login-ingest: {error}"))
        }
        Err(error @ RequestError::TooLarge { .. }) => Err(error.to_string()),
    };
    match answers {
        Ok(answers) => askers.into_iter().zip(answers).for_each(|(asker, answer)| drop(asker.send(answer))),
        Err(reason) => askers.into_iter().for_each(|asker| drop(asker.send(unknown(&reason)))),
    }
}

fn read(payload: &[u8], expected: usize) -> Result<Vec<LoginAnswer>, String> {
    match wire::decode::<LoginAnswers>(payload) {
        Ok(LoginAnswers(answers)) if answers.len() == expected => Ok(answers),
        Ok(LoginAnswers(answers)) => Err(format!("login-ingest gave {} answers to {expected} reports", answers.len())),
        Err(error) => Err(format!("login-ingest's answer: {error}")),
    }
}

fn unknown(reason: &str) -> LoginAnswer {
    LoginAnswer::Unknown { reason: reason.to_owned(), retry_after_ms: RETRY_AFTER_MS }
}
