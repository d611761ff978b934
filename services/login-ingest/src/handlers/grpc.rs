//! gRPC: `LoginIngest.Report`, a stream of records and a stream of answers.

use std::{pin::Pin, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{
    LoginEvent, ReportRequest, ReportResponse, login_ingest_server,
    report_response::{self, Accepted, Refused, Unknown},
};
use pushmesh_protocol::{
    TraceContext,
    message::{OfflineCause, ReportedEvent},
};
use pushmesh_telemetry::propagate;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Doorway;
use crate::{
    gather::{Answer, mint, now},
    metrics::Door,
    record::{self, Told},
};

/// Largest message that is read at all, in bytes: an over-long id is refused by its field, not by its stream.
pub const MESSAGE_MAX_BYTES: usize = 64 * 1024;

pub struct Grpc(pub Doorway);

type Answers = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl login_ingest_server::LoginIngest for Grpc {
    type ReportStream = Answers;

    async fn report(&self, request: Request<Streaming<ReportRequest>>) -> Result<Response<Answers>, Status> {
        self.0.door.check(request.metadata(), Scope::LoginWrite)?;
        let trace = propagate::from_metadata(request.metadata());
        let (answers, answered) = mpsc::channel(self.0.limits.waiting_max);
        let (end, ended) = oneshot::channel();
        let (doorway, records) = (self.0.clone(), request.into_inner());
        self.0.readers.spawn(async move {
            let status = read(&doorway, records, answers, trace).await;
            // Gone: then nobody waits for the end either.
            let _ = end.send(status);
        });
        let answers = ReceiverStream::new(answered).map(|(number, answer)| Ok(response(number, answer)));
        // After the last answer, why reading stopped, where that was not the caller's wish.
        let end = stream::once(ended).filter_map(|end| async { end.ok().flatten().map(Err) });
        Ok(Response::new(answers.chain(end).boxed()))
    }
}

/// Reads until the caller ends, goes or fails, or we close. Every slot it took is answered.
async fn read(
    doorway: &Doorway,
    mut records: Streaming<ReportRequest>,
    answers: mpsc::Sender<(u64, Answer)>,
    trace: Option<TraceContext>,
) -> Option<Status> {
    loop {
        let next = async {
            let slot = answers.clone().reserve_owned().await.ok()?;
            Some((slot, records.message().await))
        };
        let (slot, message) = tokio::select! {
            biased;
            () = doorway.closing.cancelled() => return Some(closing(doorway.intake.retry_after())),
            next = next.fuse() => next?,
        };
        match message {
            Ok(Some(request)) => {
                let checked = record::check(&told(&request), now(), mint);
                doorway.intake.take(Door::Grpc, request.r#ref, slot, checked, trace);
            }
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

fn closing(retry_after: Duration) -> Status {
    let seconds = retry_after.as_secs_f32();
    Status::unavailable(format!(
        "this instance is stopping: what has no answer was not taken; send it again after {seconds} s"
    ))
}

fn told(request: &ReportRequest) -> Told<'_> {
    let event = match request.event() {
        LoginEvent::Online => Some(ReportedEvent::Online),
        LoginEvent::Offline => Some(ReportedEvent::Offline(OfflineCause::Reported)),
        LoginEvent::Unspecified => None,
    };
    Told { user: &request.user, device: &request.device, login_id: &request.login_id, event, at: request.at_ms }
}

fn response(number: u64, answer: Answer) -> ReportResponse {
    let text = |login_id: Option<pushmesh_protocol::LoginId>| login_id.map(|id| id.to_string()).unwrap_or_default();
    let answer = match answer {
        Answer::Accepted { login_id } => report_response::Answer::Accepted(Accepted { login_id: text(login_id) }),
        Answer::Refused(refused) => {
            report_response::Answer::Refused(Refused { field: refused.field.name().into(), reason: refused.reason })
        }
        Answer::Unknown { reason, retry_after, login_id } => report_response::Answer::Unknown(Unknown {
            reason: reason.into(),
            retry_after_ms: retry_after.as_millis() as u32,
            login_id: text(login_id),
        }),
    };
    ReportResponse { r#ref: number, answer: Some(answer) }
}
