//! HTTP: `POST /v1/logins`, NDJSON in and NDJSON out, both as streams.
//!
//! One answer for each line, by its number from 1, in any order. The status tells of the first answer alone: 503 with
//! `Retry-After` where that record could not be stored, else 200; every line has the truth about itself.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{StreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_protocol::TraceContext;
use pushmesh_telemetry::propagate;
use tokio::sync::{mpsc, oneshot};

use super::{
    Doorway,
    line::{self, Line, Lines, Stopped},
};
use crate::{
    gather::{Answer, mint, now},
    metrics::Door,
};

/// Answers that are written at once.
const ANSWERS_AT_ONCE: usize = 256;
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The door's one route.
pub fn routes(doorway: Doorway) -> Router {
    Router::new().route("/v1/logins", post(logins)).with_state(doorway)
}

async fn logins(State(doorway): State<Doorway>, request: Request) -> Response {
    if let Err(error) = doorway.door.check_http(request.headers(), Scope::LoginWrite) {
        return (error.http_status(), format!("{error}\n")).into_response();
    }
    let trace = propagate::from_headers(request.headers());
    let (answers, mut answered) = mpsc::channel(doorway.limits.waiting_max);
    let (end, ended) = oneshot::channel();
    let retry_after = doorway.intake.retry_after();
    let reading = doorway.clone();
    doorway.readers.spawn(async move {
        let stopped = read(&reading, request.into_body(), answers, trace).await;
        let _ = end.send(stopped);
    });
    let first = answered.recv().await;
    let unavailable = match &first {
        Some((_, answer)) => matches!(answer, Answer::Unknown { .. }),
        // Nothing was read.
        None => doorway.closing.is_cancelled(),
    };
    let mut head = vec![];
    if let Some((number, answer)) = &first {
        line::write(*number, answer, &mut head);
    }
    let body = stream::once(async move { Bytes::from(head) }).chain(rest(answered, ended)).map(Ok::<_, std::io::Error>);
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, NDJSON);
    if unavailable {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let seconds = retry_after.as_secs().max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answers after the first, then why reading stopped, where it was not at the body's end.
fn rest(
    answered: mpsc::Receiver<(u64, Answer)>,
    ended: oneshot::Receiver<Option<Stopped>>,
) -> impl futures_util::Stream<Item = Bytes> {
    let answers = stream::unfold(answered, |mut answered| async {
        let mut some = Vec::with_capacity(ANSWERS_AT_ONCE);
        if answered.recv_many(&mut some, ANSWERS_AT_ONCE).await == 0 {
            return None;
        }
        let mut out = vec![];
        for (number, answer) in &some {
            line::write(*number, answer, &mut out);
        }
        Some((Bytes::from(out), answered))
    });
    let last = stream::once(ended).filter_map(|end| async {
        let stopped = end.ok().flatten()?;
        let mut out = vec![];
        line::write_stopped(&stopped, &mut out);
        Some(Bytes::from(out))
    });
    answers.chain(last)
}

/// Reads until the body ends, breaks or idles, its caller goes, or we close.
async fn read(
    doorway: &Doorway,
    body: Body,
    answers: mpsc::Sender<(u64, Answer)>,
    trace: Option<TraceContext>,
) -> Option<Stopped> {
    let mut body = body.into_data_stream();
    let mut lines = Lines::default();
    let mut number = 0;
    let stopped = |after_line, reason: String| {
        let retry_after_ms = doorway.intake.retry_after().as_millis() as u64;
        Some(Stopped { after_line, reason, retry_after_ms })
    };
    let stopping = |after_line| stopped(after_line, "this instance is stopping".into());
    loop {
        let chunk = tokio::select! {
            biased;
            () = doorway.closing.cancelled() => return stopping(number),
            chunk = tokio::time::timeout(doorway.limits.idle, body.next()) => chunk,
        };
        let chunk = match chunk {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return stopped(number, format!("the body broke off: {error}")),
            Ok(None) => break,
            Err(_) => {
                let seconds = doorway.limits.idle.as_secs();
                return stopped(number, format!("nothing came for {seconds} s, which is the limit"));
            }
        };
        let mut rest = &chunk[..];
        while let Some(line) = lines.next(&mut rest) {
            match take(doorway, number + 1, &line, &answers, trace).await {
                Took::Line => number += 1,
                Took::NothingMore => return stopping(number),
                Took::CallerGone => return None,
            }
        }
    }
    match lines.finish() {
        Some(line) => match take(doorway, number + 1, &line, &answers, trace).await {
            Took::NothingMore => stopping(number),
            Took::Line | Took::CallerGone => None,
        },
        None => None,
    }
}

enum Took {
    Line,
    /// We are closing.
    NothingMore,
    CallerGone,
}

/// Waits for a free slot first: a caller who does not read its answers is not read.
async fn take(
    doorway: &Doorway,
    number: u64,
    line: &Line,
    answers: &mpsc::Sender<(u64, Answer)>,
    trace: Option<TraceContext>,
) -> Took {
    let slot = tokio::select! {
        biased;
        () = doorway.closing.cancelled() => return Took::NothingMore,
        slot = answers.clone().reserve_owned() => slot,
    };
    let Ok(slot) = slot else { return Took::CallerGone };
    if let Some(checked) = line::check(line, now(), mint) {
        doorway.intake.take(Door::Http, number, slot, checked, trace);
    }
    Took::Line
}
