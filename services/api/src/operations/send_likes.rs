//! Likes: counted here, told to the room as a sum.

use std::num::NonZeroU32;

use axum::{extract::State, http::StatusCode};
use pushmesh_protocol::{RoomId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::{Json, Names},
    likes::Full,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SendLikesRequest)]
pub struct Request {
    /// Whose likes: a client's own user, which is also the default; a backend must name somebody.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub from: Option<UserId>,
    /// How many since the last time.
    #[schema(minimum = 1)]
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SendLikesResponse)]
pub struct Response {
    /// How many count: more than one user makes in a second is fake.
    pub accepted: u32,
    /// The limit that the others passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "likes_per_user")]
    pub limit: Option<&'static str>,
    /// They are stored within about this many milliseconds; a crash before that loses them.
    pub stored_within_ms: u64,
}

/// Like a room
///
/// Counted when answered, and stored with the next tick: a crash loses the likes of one tick at most.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/likes", tag = "rooms", operation_id = "send_likes",
    params(("room" = String, Path, description = "The room")),
    request_body = Request,
    responses(
        (status = 202, body = Response),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The room is closed"),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "None of them counts"), (status = 503, body = ErrorBody),
    ),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<(StatusCode, axum::Json<Response>), Refusal> {
    Ok((StatusCode::ACCEPTED, axum::Json(run(&api, &call, names.room()?, request)?)))
}

/// What both doors do.
pub fn run(api: &Api, call: &Call, room: RoomId, request: Request) -> Result<Response, Refusal> {
    let from = call.caller.somebody(request.from)?;
    let count =
        NonZeroU32::new(request.count).ok_or_else(|| Refusal::invalid("count", "is 0; it must be at least 1"))?;
    api.standing.admits(&room)?;
    let accepted = api.limits.likes(&from, count).inspect_err(|_| {
        api.metrics.likes_fake.increment(u64::from(count.get()));
    })?;
    let counted = api.tally.lock().add(&room, accepted, call.now);
    counted.map_err(|Full| Refusal::busy("like_rooms_max", api.config.retry_after))?;
    api.metrics.likes_accepted.increment(u64::from(accepted));
    api.metrics.likes_fake.increment(u64::from(count.get() - accepted));
    Ok(Response {
        accepted,
        limit: (accepted < count.get()).then_some("likes_per_user"),
        stored_within_ms: api.config.likes_tick.as_millis() as u64,
    })
}
