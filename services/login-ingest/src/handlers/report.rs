//! The bus: requests on `pm.v1.login.report`, one answer for each report, in their order.

use pushmesh_bus::{Bus, Message, Subscription};
use pushmesh_protocol::{
    message::{LoginAnswer, LoginAnswers, LoginReports},
    wire,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answers::{Answer, Answers, answers},
    gather::{Intake, mint, now},
    metrics::Door,
    record::{self, Field, Refused},
};

/// Most reports in one request.
pub const REPORTS_MAX: usize = 4096;

/// Takes requests until `closing`, then those that had already come. Reports are taken in the order of arrival; only
/// waiting for their answers happens beside one another, bounded by the intake's queue.
pub async fn serve(bus: Bus, mut requests: Subscription, intake: Intake, closing: CancellationToken) {
    let answering = TaskTracker::new();
    loop {
        let message = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            message = requests.next() => message,
        };
        match message {
            Some(message) => take(&bus, &intake, &answering, message),
            None => break,
        }
    }
    while let Some(message) = requests.try_next() {
        take(&bus, &intake, &answering, message);
    }
    drop(requests);
    answering.close();
    answering.wait().await;
}

fn take(bus: &Bus, intake: &Intake, answering: &TaskTracker, message: Message) {
    let reports = match wire::decode::<LoginReports>(&message.payload) {
        Ok(LoginReports(reports)) if reports.len() <= REPORTS_MAX => reports,
        Ok(LoginReports(reports)) => {
            let reason = format!("has {} reports; the limit is {REPORTS_MAX}", reports.len());
            return refuse(bus, intake, answering, message, reason);
        }
        Err(error) => return refuse(bus, intake, answering, message, error.to_string()),
    };
    let count = reports.len();
    let (slots, answered) = answers(count.max(1));
    for (number, report) in reports.into_iter().enumerate() {
        let slot = slots.try_next().expect("a slot for each report");
        let trace = report.trace;
        let checked = record::check_report(report, now(), mint);
        intake.take(Door::Bus, number as u64, slot, checked, trace);
    }
    drop(slots);
    let bus = bus.clone();
    answering.spawn(async move {
        let answers = collect(answered, count).await;
        reply(&bus, message, answers).await;
    });
}

/// In the order of their numbers, though they come in any.
async fn collect(mut answered: Answers, count: usize) -> LoginAnswers {
    let mut all = vec![None; count];
    loop {
        let some = answered.some(count.max(1)).await;
        if some.is_empty() {
            return LoginAnswers(all.into_iter().map(|answer| answer.expect("each report has one answer")).collect());
        }
        for (number, answer) in some {
            all[number as usize] = Some(told(answer));
        }
    }
}

fn told(answer: Answer) -> LoginAnswer {
    match answer {
        Answer::Accepted { login_id } => LoginAnswer::Accepted { login_id },
        Answer::Refused(Refused { field, reason }) => LoginAnswer::Refused { field: field.name().into(), reason },
        Answer::Unknown { reason, retry_after, .. } => {
            LoginAnswer::Unknown { reason: reason.into(), retry_after_ms: retry_after.as_millis() as u32 }
        }
    }
}

/// A request that can't be read has no records to answer: it gets one answer, as a whole.
fn refuse(bus: &Bus, intake: &Intake, answering: &TaskTracker, message: Message, reason: String) {
    tracing::warn!(reason, bytes = message.payload.len(), "a login report was refused as a whole");
    intake.metrics().refused(Door::Bus, Field::Request);
    let bus = bus.clone();
    answering.spawn(async move {
        let refused = LoginAnswer::Refused { field: Field::Request.name().into(), reason };
        reply(&bus, message, LoginAnswers(vec![refused])).await;
    });
}

async fn reply(bus: &Bus, message: Message, answers: LoginAnswers) {
    let Some(reply) = message.reply else { return };
    // Not told, the sender says it again: its login ids dedupe.
    if let Err(error) = bus.reply(reply, wire::encode(&answers).into()).await {
        tracing::warn!(%error, "a login report's answer could not be sent");
    }
}
