//! gRPC: `LoginIngest.Report`, a stream of records and a stream of answers.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_boot::Caller;
use pushmesh_proto::v1::{
    LoginEvent, ReportRequest, ReportResponse, login_ingest_server,
    report_response::{self, Accepted, Refused, Unknown},
};
use pushmesh_protocol::message::{OfflineCause, ReportedEvent};
use pushmesh_telemetry::propagate;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Doorway,
    reader::{Reader, Stop},
};
use crate::{
    answers::Answer,
    gather::{mint, now},
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
        let backend = self.0.door.check(request.metadata(), Scope::LoginWrite)?;
        let trace = propagate::from_metadata(request.metadata());
        let caller = request.extensions().get::<Caller>().cloned();
        let (mut reader, mut answers) = Reader::new(&self.0, Door::Grpc, &backend, caller, trace);
        let (end, ended) = oneshot::channel();
        let mut records = request.into_inner();
        let retry_after = self.0.intake.retry_after();
        self.0.readers.spawn(async move {
            let (stop, status) = match read(&mut reader, &mut records).await {
                Ok(ended) => (None, ended.err()),
                Err(stop) => (Some(stop), status(stop, retry_after)),
            };
            // Gone: then nobody waits for the end either.
            let tell = || drop(end.send(status));
            reader.end(stop, tell, records).await;
        });
        let mut some = Vec::with_capacity(1);
        let answers = stream::poll_fn(move |cx| {
            answers.poll_some(cx, &mut some, 1).map(|_| some.pop().map(|(number, answer)| Ok(response(number, answer))))
        });
        // After the last answer, why reading stopped, where that was not the caller's wish.
        let end = stream::once(ended).filter_map(|end| async { end.ok().flatten().map(Err) });
        Ok(Response::new(answers.chain(end).boxed()))
    }
}

/// Reads until the caller ends or fails, or a stop. Every slot it took is answered.
async fn read(reader: &mut Reader, records: &mut Streaming<ReportRequest>) -> Result<Result<(), Status>, Stop> {
    loop {
        let slot = reader.slot().await?;
        match reader.next(records.message()).await? {
            Ok(Some(request)) => {
                let checked = record::check(&told(&request), now(), mint);
                reader.take(request.r#ref, slot, checked);
            }
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(status)),
        }
    }
}

fn status(stop: Stop, retry_after: Duration) -> Option<Status> {
    let again = "what has no answer was not taken; send it again";
    Some(match stop {
        Stop::Closing => {
            let seconds = retry_after.as_secs_f32();
            Status::unavailable(format!("this instance is stopping: {again} after {seconds} s"))
        }
        Stop::Expired => {
            Status::unauthenticated(format!("exp of the token has passed: {again} with a new token, on a new stream"))
        }
        Stop::Unread { answers, limit } => Status::resource_exhausted(format!(
            "{answers} answers waited, and none was read for {limit:?}, which is the limit: {again}, and read while you write"
        )),
        Stop::Gone => return None,
    })
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
