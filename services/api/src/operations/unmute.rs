//! A mute that ends before its time. The bucket first, then everybody in the room is told.

use std::sync::Arc;

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_protocol::{RoomId, UserId, name::Key, room::RoomHappening};

use super::mute::Response;
use crate::{
    api::{Api, Shared},
    http::Names,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

/// End somebody's mute in a room
///
/// For backends, and hosts and admins of the room. A mute in every room stays.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/mutes/{user}", tag = "rooms", operation_id = "unmute",
    params(("room" = String, Path, description = "The room"), ("user" = String, Path, description = "The user")),
    responses(
        (status = 200, body = Response),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
)]
pub async fn http_in_room(
    State(api): State<Shared>,
    call: Call,
    names: Names,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, Some(names.room()?), names.user()?).await?))
}

/// End somebody's mute in every room
///
/// For backends. Mutes in single rooms stay.
#[utoipa::path(
    delete, path = "/v1/mutes/{user}", tag = "rooms", operation_id = "unmute_everywhere",
    security(("backend" = ["room:write"])),
    params(("user" = String, Path, description = "The user")),
    responses(
        (status = 200, body = Response),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
)]
pub async fn http_everywhere(
    State(api): State<Shared>,
    call: Call,
    names: Names,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, None, names.user()?).await?))
}

/// What both doors do; without a room the mute in every one.
pub async fn run(api: &Shared, call: &Call, room: Option<RoomId>, user: UserId) -> Result<Response, Refusal> {
    match &room {
        Some(room) => call.caller.outranks(&user, room, &api.standing)?,
        None => call.caller.backend_with(Scope::RoomWrite).map(drop)?,
    }
    let (whole, call) = (Arc::clone(api), call.clone());
    api.see_through(async move { unmute(&whole, &call, room, user).await }).await
}

async fn unmute(api: &Api, call: &Call, room: Option<RoomId>, user: UserId) -> Result<Response, Refusal> {
    let key = match &room {
        Some(room) => Key::mute_in(room, &user),
        None => Key::mute_everywhere(&user),
    };
    api.mutes.purge(&key).await.map_err(|error| Refusal::unkept(&error, api.config.retry_after))?;
    if let Some(room) = room {
        api.tell(call, &room, RoomHappening::Mute { user: user.clone(), until: 0, everywhere: false }).await?;
    }
    Ok(Response { user, until: 0 })
}
