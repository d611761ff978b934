//! Chat, danmaku, or a type of the application's: into the stream of its class.

use axum::extract::State;
use pushmesh_bus::Outgoing;
use pushmesh_protocol::{
    Payload, RoomId, Token, UserId,
    name::{MessageId, Subject},
    room::{Note, RoomClass, RoomHappening, RoomMessage},
    wire,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared, fresh},
    http::{Json, Names},
    openapi::Data,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SendMessageRequest)]
pub struct Request {
    /// chat, danmaku, or a type of the application's.
    #[serde(rename = "type")]
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub kind: Token,
    /// Who says it: a client's own user, which is also the default; a backend names anybody or nobody.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub from: Option<UserId>,
    /// Text, or {"base64": "…"}: at most 4,096 bytes.
    #[schema(value_type = Data)]
    pub data: Payload,
    /// The sender's own id for it: said twice within two minutes it is one message.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub id: Option<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SendMessageResponse)]
pub struct Response {
    /// Where it stands in the stream of its class.
    pub sequence: u64,
}

/// Send a message into a room
///
/// Stored when answered. Which class a type has is configuration; chat and danmaku are high. Types that only the mesh makes
/// are refused.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/messages", tag = "rooms", operation_id = "send_message",
    params(("room" = String, Path, description = "The room")),
    request_body = Request,
    responses(
        (status = 200, body = Response),
        (status = 403, body = ErrorBody, description = "Not in this name, the sender is muted, or the room is banned"),
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
    let from = call.caller.sender(request.from.clone())?;
    let class = api.config.types.class(&request.kind)?;
    api.check_data(&request.data)?;
    api.standing.admits(&room)?;
    if let Some(from) = &from {
        api.standing.lets_speak(&room, from, call.now)?;
    }
    if let Some(user) = call.caller.user() {
        api.limits.chat(user)?;
    }
    api.limits.chat_in(&room)?;
    let (kind, data, id) = (request.kind, request.data, request.id.unwrap_or_else(fresh));
    let sequence = match class {
        RoomClass::High => high(api, call, room, kind, from, data, &id).await?,
        RoomClass::Normal => api.tell_once(call, &room, RoomHappening::Message { kind, data }, from, &id).await?,
        RoomClass::Low => note(api, call, Note { room, kind, from, at: call.now, data }, &id).await?,
    };
    Ok(Response { sequence })
}

async fn high(
    api: &Api,
    call: &Call,
    room: RoomId,
    kind: Token,
    from: Option<UserId>,
    data: Payload,
    id: &Token,
) -> Result<u64, Refusal> {
    let publishing = call.publishing("publish pm.v1.room.high.chat.{p}.{room}");
    let subject = Subject::room_chat(api.partitions.of_room(&room), &room);
    let id = MessageId::room(&room, from.as_ref(), id);
    let message = RoomMessage { room, kind, from, at: call.now, data, trace: publishing.trace };
    let outgoing = Outgoing { subject, payload: wire::encode(&message).into(), id, trace: publishing.trace };
    Ok(api.store(outgoing, publishing).await?.sequence)
}

/// Stores a note under an id of its own.
pub(super) async fn note(api: &Api, call: &Call, note: Note, id: &Token) -> Result<u64, Refusal> {
    let publishing = call.publishing("publish pm.v1.room.low.note.{p}.{room}.{id}");
    let outgoing = Outgoing {
        subject: Subject::room_note(api.partitions.of_room(&note.room), &note.room, id),
        payload: wire::encode(&note).into(),
        id: MessageId::room(&note.room, note.from.as_ref(), id),
        trace: publishing.trace,
    };
    Ok(api.store(outgoing, publishing).await?.sequence)
}
