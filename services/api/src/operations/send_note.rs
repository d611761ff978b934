//! A note of those who keep order in a room: told to everybody there, when there is time.

use axum::extract::State;
use pushmesh_protocol::{Payload, RoomId, Token, frame::item, room::Note};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::send_message::note;
use crate::{
    api::{Api, Shared, fresh},
    http::{Json, Names},
    openapi::Data,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SendNoteRequest)]
pub struct Request {
    /// Text, or {"base64": "…"}: at most 4,096 bytes.
    #[schema(value_type = Data)]
    pub data: Payload,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SendNoteResponse)]
pub struct Response {
    /// Where it stands in its stream.
    pub sequence: u64,
}

/// Send a note to a room
///
/// For backends, and hosts and admins of the room who are not muted. Stored when answered.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/notes", tag = "rooms", operation_id = "send_note",
    params(("room" = String, Path, description = "The room")),
    request_body = Request,
    responses(
        (status = 200, body = Response),
        (status = 409, body = ErrorBody, description = "The room is closed"),
    ),
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
pub async fn run(api: &Api, call: &Call, room: RoomId, request: Request) -> Result<Response, Refusal> {
    call.caller.keeper_of(&room, &api.standing)?;
    api.check_data(&request.data)?;
    api.standing.admits(&room)?;
    if let Some(user) = call.caller.user() {
        api.standing.lets_speak(&room, user, call.now)?;
    }
    let kind = Token::new(item::NOTE).expect("the mesh's own types are tokens");
    let from = call.caller.user().cloned();
    let about = Note { room, kind, from, at: call.now, data: request.data };
    Ok(Response { sequence: note(api, call, about, &fresh()).await? })
}
