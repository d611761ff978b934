//! The active calls of a client's own logins: what he is pushed, asked for.

use std::{collections::BTreeMap, time::Duration};

use axum::extract::State;
use futures_util::{StreamExt, stream};
use pushmesh_protocol::{
    CallId, DeviceId, Kind, LoginId, Payload, PushId, Unit, UserId,
    message::{CallsAnswer, CallsRequest, Session},
    name::Subject,
    wire,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    openapi::Data,
    query::Params,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

/// A kind's owner has so long to answer.
const WITHIN: Duration = Duration::from_secs(1);
/// Questions of one request that are on their way at once.
const AT_ONCE: usize = 16;
/// Most logins of one answer; who has more is told of the newest.
const LOGINS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ListMyCallsResponse)]
pub struct Response {
    pub calls: Vec<MyCall>,
    /// Kinds that did not answer in time: their pushes tell of their calls all the same.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<Kind>,
}

/// An active call, as one of the logins is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MyCall {
    /// The id that its push has or will have.
    #[schema(value_type = String)]
    pub id: PushId,
    #[schema(value_type = String)]
    pub login_id: LoginId,
    #[schema(value_type = String)]
    pub device: DeviceId,
    #[schema(value_type = String, example = "group")]
    pub kind: Kind,
    #[schema(value_type = String)]
    pub call_id: CallId,
    #[schema(value_type = String)]
    pub unit: Unit,
    /// Milliseconds since 1970.
    pub started_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Data>)]
    pub data: Option<Payload>,
}

/// List one's own active calls
///
/// For clients. Of all logins that have a session.
#[utoipa::path(
    get, path = "/v1/me/calls", tag = "online", operation_id = "list_my_calls",
    security(("client" = [])),
    responses(
        (status = 200, body = Response),
        (status = 403, body = ErrorBody, description = "A backend has no calls of its own"),
    ),
)]
pub async fn http(State(api): State<Shared>, call: Call, params: Params) -> Result<axum::Json<Response>, Refusal> {
    params.only(&[])?;
    Ok(axum::Json(run(&api, &call).await?))
}

/// What both doors do.
pub async fn run(api: &Api, call: &Call) -> Result<Response, Refusal> {
    let Some(user) = call.caller.user() else {
        return Err(Refusal::forbidden("only a client has calls of his own"));
    };
    let newest = api.sessions(user).await?.into_iter().rev().take(LOGINS_MAX);
    let logins: BTreeMap<_, _> = newest.map(|(_, session)| (session.login_id.clone(), session)).collect();
    let mut questions = Vec::new();
    for session in logins.into_values() {
        questions.extend(api.reads.kinds.iter().map(|kind| ask(api, user, session.clone(), kind.clone())));
    }
    let answers: Vec<_> = stream::iter(questions).buffered(AT_ONCE).collect().await;
    let mut found = Response { calls: Vec::new(), missing: Vec::new() };
    for (session, kind, answer) in answers {
        match answer {
            Some(answer) => found.calls.extend(answer.calls.into_iter().map(|active| MyCall {
                id: active.id,
                login_id: session.login_id.clone(),
                device: session.device.clone(),
                kind: active.call.kind,
                call_id: active.call.call_id,
                unit: active.call.unit,
                started_at: active.call.started_at,
                data: active.call.data,
            })),
            None if found.missing.contains(&kind) => {}
            None => found.missing.push(kind),
        }
    }
    Ok(found)
}

/// The calls of one login in one kind, if its owner told them in time.
async fn ask(api: &Api, user: &UserId, session: Session, kind: Kind) -> (Session, Kind, Option<CallsAnswer>) {
    let request = CallsRequest { user: user.clone(), login_id: session.login_id.clone() };
    let subject = Subject::calls(&kind, api.partitions.of_user(user));
    let answer = api.bus.request(subject, wire::encode(&request).into(), WITHIN).await;
    let answer = match answer.map(|answer| wire::decode(&answer)) {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::error!(%kind, %error, "a kind's answer can't be read");
            api.metrics.malformed.increment(1);
            None
        }
        Err(error) => {
            tracing::debug!(%kind, %error, "a kind did not answer");
            None
        }
    };
    (session, kind, answer)
}
