//! Sends somebody out of a room: his connections leave it, and he may come again.

use std::sync::Arc;

use axum::extract::State;
use pushmesh_protocol::{RoomId, UserId, room::RoomHappening};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::Shared,
    http::{Json, Names},
    refusal::Refusal,
    request::Call,
};

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KickRequest)]
pub struct Request {
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub user: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = KickResponse)]
pub struct Response {
    #[schema(value_type = String)]
    pub user: UserId,
    /// Where the kick stands in its stream.
    pub sequence: u64,
}

/// Send somebody out of a room
///
/// For backends, and hosts and admins of the room.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/kicks", tag = "rooms", operation_id = "kick",
    params(("room" = String, Path, description = "The room")),
    request_body = Request,
    responses((status = 200, body = Response)),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, names.room()?, request).await?))
}

/// What both doors do.
pub async fn run(api: &Shared, call: &Call, room: RoomId, request: Request) -> Result<Response, Refusal> {
    call.caller.outranks(&request.user, &room, &api.standing)?;
    let (whole, call, user) = (Arc::clone(api), call.clone(), request.user);
    api.see_through(async move {
        let sequence = whole.tell(&call, &room, RoomHappening::Kick { user: user.clone() }).await?;
        Ok(Response { user, sequence })
    })
    .await
}
