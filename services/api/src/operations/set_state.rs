//! What a room is: open, playable, banned. The bucket first, then everybody in the room is told.

use std::sync::Arc;

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_bus::KvError;
use pushmesh_protocol::{
    RoomId,
    frame::RoomState,
    name::Key,
    room::{RoomHappening, StateRecord},
    wire,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::{Json, Names},
    refusal::Refusal,
    request::Call,
    standing::Fact,
};

/// How often somebody else may be faster.
const TURNS: usize = 10;

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetStateRequest)]
pub struct Request {
    /// Whether people may join and send. What is absent stays as it is.
    #[serde(default)]
    pub open: Option<bool>,
    /// Whether its stream can be watched: told, not enforced.
    #[serde(default)]
    pub playable: Option<bool>,
    /// Whether every send is refused.
    #[serde(default)]
    pub banned: Option<bool>,
}

/// What the room is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RoomState)]
pub struct Response {
    pub open: bool,
    pub playable: bool,
    pub banned: bool,
}

impl From<RoomState> for Response {
    fn from(state: RoomState) -> Self {
        Self { open: state.open, playable: state.playable, banned: state.banned }
    }
}

/// Open, close or ban a room
///
/// For backends. Holds at every instance within a second, and is told to everybody in the room.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/state", tag = "rooms", operation_id = "set_state",
    security(("backend" = ["room:write"])),
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
    call.caller.backend_with(Scope::RoomWrite)?;
    if (request.open, request.playable, request.banned) == (None, None, None) {
        return Err(Refusal::invalid("body", "names none of open, playable and banned: name one at least"));
    }
    let (whole, call) = (Arc::clone(api), call.clone());
    api.see_through(async move { set(&whole, &call, &room, request).await }).await
}

async fn set(api: &Api, call: &Call, room: &RoomId, request: Request) -> Result<Response, Refusal> {
    let unkept = |error: KvError| Refusal::unkept(&error, api.config.retry_after);
    let (key, states) = (Key::room_state(room), api.rooms.patient());
    let (mut state, mut revision) = (RoomState::default(), None);
    for _ in 0..TURNS {
        let known = states.get(&key).await.map_err(unkept)?;
        state = match &known {
            Some(entry) => changed(read(api, &entry.value)?, request),
            None => changed(RoomState::default(), request),
        };
        let value = wire::encode(&StateRecord { state, at: call.now }).into();
        let written = match known {
            Some(entry) => states.update(&key, value, entry.revision).await,
            None => states.create(&key, value).await,
        };
        match written {
            Ok(written) => {
                revision = Some(written);
                break;
            }
            Err(KvError::WrongRevision | KvError::Exists) => {}
            Err(error) => return Err(unkept(error)),
        }
    }
    let mut revision = revision.ok_or_else(|| unkept(KvError::WrongRevision))?;
    // Another change may have been told before ours and stand behind it: then the last word is what stands.
    for _ in 0..TURNS {
        api.standing.wrote(Fact::State { room: room.clone(), state }, revision);
        api.tell(call, room, RoomHappening::State(state)).await?;
        match api.rooms.get(&key).await.map_err(unkept)? {
            Some(entry) if entry.revision > revision => {
                (state, revision) = (read(api, &entry.value)?, entry.revision);
            }
            _ => break,
        }
    }
    Ok(state.into())
}

fn changed(state: RoomState, request: Request) -> RoomState {
    RoomState {
        open: request.open.unwrap_or(state.open),
        playable: request.playable.unwrap_or(state.playable),
        banned: request.banned.unwrap_or(state.banned),
    }
}

fn read(api: &Api, value: &[u8]) -> Result<RoomState, Refusal> {
    wire::decode::<StateRecord>(value).map(|record| record.state).map_err(|error| {
        tracing::error!(%error, "a room's state can't be read");
        api.metrics.malformed.increment(1);
        Refusal::internal("the room's state can't be read")
    })
}
