//! Ends of logins, reported to login-ingest: those of a comet that died come by the thousand, and go by the hundred.

use std::time::Duration;

use pushmesh_bus::Bus;
use pushmesh_protocol::{
    message::{LoginAnswer, LoginAnswers, LoginReport, LoginReports},
    name::Subject,
    wire,
};
use tokio::sync::{mpsc, oneshot};

/// Reports of one request.
const REPORTS_MAX: usize = 256;
/// Reports that wait; beyond, partitions' effects wait.
const QUEUE_MAX: usize = 1024;
/// Longer than login-ingest holds a record over an outage: `nats.outage_hold`, 20 s by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// When to try again, where login-ingest could not say.
const AGAIN_MS: u32 = 2_000;

type Asked = (LoginReport, oneshot::Sender<LoginAnswer>);

#[derive(Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Asked>,
}

impl Reporter {
    pub async fn report(&self, report: LoginReport) -> LoginAnswer {
        let (answer, answered) = oneshot::channel();
        if self.queue.send((report, answer)).await.is_err() {
            return unknown("the service is ending");
        }
        answered.await.unwrap_or_else(|_| unknown("the service is ending"))
    }
}

/// The reporter and the task behind it, which ends with the last [`Reporter`].
pub fn reporter(bus: Bus) -> (Reporter, impl Future<Output = ()> + Send) {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    (Reporter { queue }, run(bus, waiting))
}

async fn run(bus: Bus, mut waiting: mpsc::Receiver<Asked>) {
    let mut some = Vec::with_capacity(REPORTS_MAX);
    while waiting.recv_many(&mut some, REPORTS_MAX).await > 0 {
        let (reports, mut askers): (Vec<_>, Vec<_>) = some.drain(..).filter(|(_, asker)| !asker.is_closed()).unzip();
        let count = reports.len();
        if count == 0 {
            continue;
        }
        let answered = tokio::select! {
            answered = ask(&bus, LoginReports(reports)) => answered,
            // Nobody is left who wants to know: their partitions have gone, and whoever has them reports again.
            () = all_gone(&mut askers) => continue,
        };
        let answers = match answered {
            Ok(answers) if answers.len() == count => answers,
            Ok(answers) => vec![unknown(&format!("{} answers to {count} reports", answers.len())); count],
            Err(reason) => vec![unknown(&reason); count],
        };
        for (asker, answer) in askers.into_iter().zip(answers) {
            // Whoever lost its partition meanwhile is not interested any more.
            let _ = asker.send(answer);
        }
    }
}

async fn all_gone(askers: &mut [oneshot::Sender<LoginAnswer>]) {
    for asker in askers {
        asker.closed().await;
    }
}

async fn ask(bus: &Bus, reports: LoginReports) -> Result<Vec<LoginAnswer>, String> {
    let payload = wire::encode(&reports).into();
    let answer =
        bus.request(Subject::login_report(), payload, ANSWER_WITHIN).await.map_err(|error| error.to_string())?;
    let answers: LoginAnswers = wire::decode(&answer).map_err(|error| error.to_string())?;
    Ok(answers.0)
}

fn unknown(reason: &str) -> LoginAnswer {
    LoginAnswer::Unknown { reason: reason.to_owned(), retry_after_ms: AGAIN_MS }
}
