//! A user who may not speak, in a room or in every one, for a while. The bucket first, then everybody in the room is told.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_protocol::{
    RoomId, UserId,
    name::Key,
    room::{MuteRecord, RoomHappening},
    wire,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::{Json, Names},
    refusal::{ErrorBody, Refusal},
    request::Call,
    standing::Fact,
};

/// The shortest mute, and the longest.
const FOR: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600)];

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MuteRequest)]
pub struct Request {
    /// For how long: 1s to 30d.
    #[serde(rename = "for", with = "pushmesh_config::duration")]
    #[schema(value_type = String, example = "10m")]
    pub period: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = MuteResponse)]
pub struct Response {
    #[schema(value_type = String)]
    pub user: UserId,
    /// Milliseconds since 1970; 0: not muted.
    pub until: u64,
}

/// Mute somebody in a room
///
/// For backends, and hosts and admins of the room. Holds at every instance within a second.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/mutes/{user}", tag = "rooms", operation_id = "mute",
    params(("room" = String, Path, description = "The room"), ("user" = String, Path, description = "The user")),
    request_body = Request,
    responses(
        (status = 200, body = Response),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
)]
pub async fn http_in_room(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, Some(names.room()?), names.user()?, request).await?))
}

/// Mute somebody in every room
///
/// For backends. Holds at every instance within a second.
#[utoipa::path(
    put, path = "/v1/mutes/{user}", tag = "rooms", operation_id = "mute_everywhere",
    security(("backend" = ["room:write"])),
    params(("user" = String, Path, description = "The user")),
    request_body = Request,
    responses(
        (status = 200, body = Response),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
)]
pub async fn http_everywhere(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, None, names.user()?, request).await?))
}

/// What both doors do; without a room in every one.
pub async fn run(
    api: &Shared,
    call: &Call,
    room: Option<RoomId>,
    user: UserId,
    request: Request,
) -> Result<Response, Refusal> {
    match &room {
        Some(room) => call.caller.outranks(&user, room, &api.standing)?,
        None => call.caller.backend_with(Scope::RoomWrite).map(drop)?,
    }
    let [shortest, longest] = FOR;
    if request.period < shortest || request.period > longest {
        return Err(Refusal::beyond("for", "mute_for", "must be 1s to 30d"));
    }
    let most = api.config.limits.mutes_per_room;
    if let Some(room) = &room
        && api.standing.muted(room, &user, call.now).is_none()
        && api.standing.mutes(room) >= most
    {
        return Err(Refusal::beyond("user", "mutes_per_room", format!("would be one more than {most} muted users")));
    }
    let (whole, call) = (Arc::clone(api), call.clone());
    api.see_through(async move { mute(&whole, &call, room, user, request.period).await }).await
}

async fn mute(
    api: &Api,
    call: &Call,
    room: Option<RoomId>,
    user: UserId,
    period: Duration,
) -> Result<Response, Refusal> {
    let until = call.now + period.as_millis() as u64;
    let key = match &room {
        Some(room) => Key::mute_in(room, &user),
        None => Key::mute_everywhere(&user),
    };
    let record = MuteRecord { until, by: call.caller.user().cloned(), at: call.now };
    let written = api.mutes.put_for(&key, wire::encode(&record).into(), period).await;
    let revision = written.map_err(|error| Refusal::unkept(&error, api.config.retry_after))?;
    api.standing.wrote(Fact::Mute { room: room.clone(), user: user.clone(), until }, revision);
    if let Some(room) = room {
        api.tell(call, &room, RoomHappening::Mute { user: user.clone(), until, everywhere: false }).await?;
    }
    Ok(Response { user, until })
}
