//! What a room is like: its owner tells.

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_protocol::{
    RoomId,
    room::{RoomAnswer, RoomAsk, RoomInfo},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::set_state;
use crate::{
    api::{Api, Shared},
    http::Names,
    query::Params,
    reads::misunderstood,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

/// A room that nobody ever used is like every new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GetRoomResponse)]
pub struct Response {
    #[schema(value_type = String)]
    pub room: RoomId,
    pub state: set_state::Response,
    /// Connections in it, roughly.
    pub present: u64,
    /// Virtual rooms that it is cut into; 1: it is whole.
    pub parts: u16,
    /// How many gifts.
    pub gifts: u64,
    /// Their value, in the smallest unit of money.
    pub gifts_total: u64,
    pub likes_total: u64,
}

/// Find out what a room is like
///
/// For backends with the scope room:read.
#[utoipa::path(
    get, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "get_room",
    security(("backend" = ["room:read"])),
    params(("room" = String, Path, description = "The room")),
    responses(
        (status = 200, body = Response),
        (status = 503, body = ErrorBody, description = "The room's owner did not answer within 2 s"),
    ),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    params: Params,
) -> Result<axum::Json<Response>, Refusal> {
    params.only(&[])?;
    Ok(axum::Json(run(&api, &call, names.room()?).await?))
}

/// What both doors do.
pub async fn run(api: &Api, call: &Call, room: RoomId) -> Result<Response, Refusal> {
    call.caller.backend_with(Scope::RoomRead)?;
    match api.ask(&room, &RoomAsk::Info { room: room.clone() }).await? {
        RoomAnswer::Info(RoomInfo { room, state, present, parts, gifts, gifts_total, likes_total, .. }) => {
            Ok(Response { room, state: state.into(), present, parts, gifts, gifts_total, likes_total })
        }
        _ => Err(misunderstood(&"another answer than what was asked for")),
    }
}
