//! HTTP: `POST /v1/logins`, NDJSON in and NDJSON out, both as streams.
//!
//! One answer for each line, by its number from 1, in any order. The status tells of the first answer alone: 503 with
//! `Retry-After` where that record could not be stored, else 200; every line has the truth about itself.

use std::{convert::Infallible, future, time::Duration};

use axum::{
    Router,
    body::{Body, BodyDataStream, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use futures_util::{Stream, StreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_boot::Caller;
use pushmesh_telemetry::propagate;
use tokio::sync::oneshot;

use super::{
    Doorway,
    line::{self, Line, Lines, Stopped},
    reader::{Reader, Stop},
};
use crate::{
    answers::{Answer, Answers},
    gather::{mint, now},
    metrics::Door,
};

/// Answers that are written at once.
const ANSWERS_AT_ONCE: usize = 256;
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The door's one route; all other paths are nobody's.
pub fn routes(doorway: Doorway) -> Router {
    Router::new()
        .route("/v1/logins", post(logins))
        .route("/", any(unknown))
        .route("/{*path}", any(unknown))
        .with_state(doorway)
}

/// What nobody serves: a gRPC client is told in its own way.
async fn unknown(headers: HeaderMap) -> Response {
    let is_grpc =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return tonic::Status::unimplemented("there is no such service or method").into_http::<Body>();
    }
    (StatusCode::NOT_FOUND, "there is no such path: POST /v1/logins takes records\n").into_response()
}

async fn logins(State(doorway): State<Doorway>, request: Request) -> Response {
    let backend = match doorway.door.check_http(request.headers(), Scope::LoginWrite) {
        Ok(backend) => backend,
        Err(error) => return (error.http_status(), format!("{error}\n")).into_response(),
    };
    let trace = propagate::from_headers(request.headers());
    let caller = request.extensions().get::<Caller>().cloned();
    let (mut reader, mut answers) = Reader::new(&doorway, Door::Http, &backend, caller, trace);
    let (end, ended) = oneshot::channel();
    let retry_after = doorway.intake.retry_after();
    doorway.readers.spawn(async move {
        let mut body = request.into_body().into_data_stream();
        let mut lines = 0;
        let cut = read(&mut reader, &mut body, &mut lines).await.err();
        let last = cut.as_ref().and_then(|cut| cut.told(lines, retry_after));
        // Gone: then nobody waits for the end either.
        let tell = || drop(end.send(last));
        reader.end(cut.as_ref().and_then(Cut::stop), tell, body).await;
    });

    let first = answers.some(1).await;
    let (status, body) = match first.first() {
        Some((_, answer)) => {
            let unknown = matches!(answer, Answer::Unknown { .. });
            let status = if unknown { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            let head = stream::once(future::ready(written(&first)));
            (status, Body::from_stream(head.chain(rest(answers, ended)).map(Ok::<_, Infallible>)))
        }
        // No line was read that has an answer.
        None => match ended.await.ok().flatten() {
            Some(last) => (last.status, Body::from(last.line)),
            None => (StatusCode::OK, Body::empty()),
        },
    };
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, NDJSON);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = retry_after.as_secs().max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn written(answers: &[(u64, Answer)]) -> Bytes {
    let mut out = vec![];
    for (number, answer) in answers {
        line::write(*number, answer, &mut out);
    }
    out.into()
}

/// The answers after the first, then why reading stopped, where it was not at the body's end.
fn rest(answers: Answers, ended: oneshot::Receiver<Option<Last>>) -> impl Stream<Item = Bytes> {
    let answers = stream::unfold(answers, |mut answers| async {
        let some = answers.some(ANSWERS_AT_ONCE).await;
        (!some.is_empty()).then(|| (written(&some), answers))
    });
    let last = stream::once(ended).filter_map(|last| async { Some(last.ok().flatten()?.line) });
    answers.chain(last)
}

/// The last line of an answer that does not cover its whole body.
struct Last {
    line: Bytes,
    /// The whole answer's, where there is no other line.
    status: StatusCode,
}

/// Why a body was not read to its end.
enum Cut {
    Stop(Stop),
    Broke(String),
    Idle(Duration),
}

impl From<Stop> for Cut {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Cut {
    fn stop(&self) -> Option<Stop> {
        match self {
            Self::Stop(stop) => Some(*stop),
            Self::Broke(_) | Self::Idle(_) => None,
        }
    }

    fn told(&self, after_line: u64, retry_after: Duration) -> Option<Last> {
        let (status, reason) = match self {
            Self::Stop(Stop::Closing) => (StatusCode::SERVICE_UNAVAILABLE, "this instance is stopping".into()),
            Self::Stop(Stop::Expired) => {
                (StatusCode::UNAUTHORIZED, "exp of the token has passed: send the rest with a new one".into())
            }
            Self::Stop(Stop::Unread { answers, limit }) => {
                let reason = format!("{answers} answers waited, and none was read for {limit:?}, which is the limit");
                (StatusCode::OK, format!("{reason}: read while you write"))
            }
            Self::Stop(Stop::Gone) => return None,
            Self::Broke(error) => (StatusCode::OK, format!("the body broke off: {error}")),
            Self::Idle(limit) => (StatusCode::OK, format!("nothing came for {limit:?}, which is the limit")),
        };
        let mut line = vec![];
        let stopped = Stopped { after_line, reason, retry_after_ms: retry_after.as_millis() as u64 };
        line::write_stopped(&stopped, &mut line);
        Some(Last { line: line.into(), status })
    }
}

/// Reads until the body ends, breaks or idles, or a stop; counts the lines.
async fn read(reader: &mut Reader, body: &mut BodyDataStream, number: &mut u64) -> Result<(), Cut> {
    let idle = reader.doorway().limits.idle;
    let mut lines = Lines::default();
    loop {
        let chunk = match reader.next(tokio::time::timeout(idle, body.next())).await? {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(Cut::Broke(error.to_string())),
            Ok(None) => break,
            Err(_) => return Err(Cut::Idle(idle)),
        };
        let mut rest = &chunk[..];
        while let Some(line) = lines.next(&mut rest) {
            take(reader, number, &line).await?;
        }
    }
    match lines.finish() {
        Some(line) => Ok(take(reader, number, &line).await?),
        None => Ok(()),
    }
}

async fn take(reader: &mut Reader, number: &mut u64, line: &Line) -> Result<(), Stop> {
    let slot = reader.slot().await?;
    *number += 1;
    if let Some(checked) = line::check(line, now(), mint) {
        reader.take(*number, slot, checked);
    }
    Ok(())
}
