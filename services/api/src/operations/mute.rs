//! A user who may not speak, in a room or in every one, for a while.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use pushmesh_protocol::UserId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::Shared,
    http::{Json, Names},
    mute::Mute,
    refusal::Refusal,
    request::Call,
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
/// For backends, and hosts and admins of the room. Holds at every instance within a second; everybody in the room is told.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/mutes/{user}", tag = "rooms", operation_id = "mute",
    params(("room" = String, Path, description = "The room"), ("user" = String, Path, description = "The user")),
    request_body = Request,
    responses((status = 200, body = Response)),
)]
pub async fn http_in_room(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    let mute = Mute { room: Some(names.room()?), user: names.user()? };
    Ok(axum::Json(run(&api, &call, mute, request).await?))
}

/// Mute somebody in every room
///
/// For backends. Holds at every instance within a second; everybody in a room where he is then is told, and he himself by the
/// answer to his JOIN where he comes later. It stands beside mutes in single rooms: he may speak once all of them have ended.
#[utoipa::path(
    put, path = "/v1/mutes/{user}", tag = "rooms", operation_id = "mute_everywhere",
    security(("backend" = ["room:write"])),
    params(("user" = String, Path, description = "The user")),
    request_body = Request,
    responses((status = 200, body = Response)),
)]
pub async fn http_everywhere(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    let mute = Mute { room: None, user: names.user()? };
    Ok(axum::Json(run(&api, &call, mute, request).await?))
}

/// What both doors do.
pub async fn run(api: &Shared, call: &Call, mute: Mute, request: Request) -> Result<Response, Refusal> {
    mute.check(api, &call.caller)?;
    let [shortest, longest] = FOR;
    if request.period < shortest || request.period > longest {
        return Err(Refusal::beyond("for", "mute_for", format!("is {:?}; it must be 1s to 30d", request.period)));
    }
    let most = api.config.limits.mutes_per_room;
    if let Some(room) = &mute.room
        && api.standing.muted(room, &mute.user, call.now).is_none()
        && api.standing.mutes(room) >= most
    {
        let reason = format!("would be one more than {most} who are muted in the room: end another's mute first");
        return Err(Refusal::beyond("user", "mutes_per_room", reason));
    }
    let (whole, call) = (Arc::clone(api), call.clone());
    api.see_through(async move {
        let until = mute.begin(&whole, &call, request.period).await?;
        Ok(Response { user: mute.user, until })
    })
    .await
}
