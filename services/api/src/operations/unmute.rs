//! A mute that ends before its time.

use std::sync::Arc;

use axum::extract::State;

use super::mute::Response;
use crate::{api::Shared, http::Names, mute::Mute, refusal::Refusal, request::Call};

/// End somebody's mute in a room
///
/// For backends, and hosts and admins of the room. A mute in every room stays.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/mutes/{user}", tag = "rooms", operation_id = "unmute",
    params(("room" = String, Path, description = "The room"), ("user" = String, Path, description = "The user")),
    responses((status = 200, body = Response)),
)]
pub async fn http_in_room(
    State(api): State<Shared>,
    call: Call,
    names: Names,
) -> Result<axum::Json<Response>, Refusal> {
    let mute = Mute { room: Some(names.room()?), user: names.user()? };
    Ok(axum::Json(run(&api, &call, mute).await?))
}

/// End somebody's mute in every room
///
/// For backends. Mutes in single rooms stay.
#[utoipa::path(
    delete, path = "/v1/mutes/{user}", tag = "rooms", operation_id = "unmute_everywhere",
    security(("backend" = ["room:write"])),
    params(("user" = String, Path, description = "The user")),
    responses((status = 200, body = Response)),
)]
pub async fn http_everywhere(
    State(api): State<Shared>,
    call: Call,
    names: Names,
) -> Result<axum::Json<Response>, Refusal> {
    let mute = Mute { room: None, user: names.user()? };
    Ok(axum::Json(run(&api, &call, mute).await?))
}

/// What both doors do.
pub async fn run(api: &Shared, call: &Call, mute: Mute) -> Result<Response, Refusal> {
    mute.check(api, &call.caller)?;
    let (whole, call) = (Arc::clone(api), call.clone());
    api.see_through(async move {
        mute.end(&whole, &call).await?;
        Ok(Response { user: mute.user, until: 0 })
    })
    .await
}
