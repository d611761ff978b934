//! Likes: counted here, told to the room as a sum.

use std::num::NonZeroU32;

use axum::{extract::State, http::StatusCode};
use pushmesh_protocol::{RoomId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::{Json, Names},
    likes::Uncounted,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

const BEHIND: &str = "earlier likes still wait to be stored, and a crash would lose them; none of these was counted";

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
    /// They are stored within about this many milliseconds; a crash of this instance before that loses them. While the broker is
    /// away they wait longer: after 2 s more likes are refused (503).
    pub stored_within_ms: u64,
}

/// Like a room
///
/// Counted when answered, and stored with the next tick: a crash loses the likes of one tick. Where they can't be stored for 2 s
/// none are taken until they are, so that it never loses more than those.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/likes", tag = "rooms", operation_id = "send_likes",
    params(("room" = String, Path, description = "The room")),
    request_body = Request,
    responses(
        (status = 202, body = Response),
        (status = 409, body = ErrorBody, description = "The room is closed"),
        (status = 429, body = ErrorBody, description = "None of them counts"),
        (status = 503, body = ErrorBody, description = "None of them counts: earlier ones can't be stored now, or too many \
            rooms have likes"),
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
    let retry_after = api.config.retry_after;
    counted.map_err(|uncounted| match uncounted {
        Uncounted::Full => Refusal::full("like_rooms_max", "too many rooms have likes at this instance", retry_after),
        Uncounted::Behind => Refusal::unavailable(BEHIND, retry_after),
    })?;
    api.metrics.likes_accepted.increment(u64::from(accepted));
    api.metrics.likes_fake.increment(u64::from(count.get() - accepted));
    Ok(Response {
        accepted,
        limit: (accepted < count.get()).then_some("likes_per_user"),
        stored_within_ms: api.config.likes_tick.as_millis() as u64,
    })
}
