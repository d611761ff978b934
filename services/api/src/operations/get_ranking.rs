//! Who gave most in a room: its owner tells.

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_protocol::{
    RoomId, UserId,
    room::{RoomAnswer, RoomAsk},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::Names,
    query::Params,
    reads::misunderstood,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

/// Most places of one answer.
const PLACES_MAX: u16 = 1000;
const PLACES_DEFAULT: u16 = 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GetRankingResponse)]
pub struct Response {
    /// The greatest first.
    pub top: Vec<Place>,
    /// The value of all gifts, in the smallest unit of money.
    pub gifts_total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RankingPlace)]
pub struct Place {
    #[schema(value_type = String)]
    pub user: UserId,
    /// The value of his gifts.
    pub total: u64,
}

/// Find out who gave most in a room
///
/// For backends with the scope room:read.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/ranking", tag = "rooms", operation_id = "get_ranking",
    security(("backend" = ["room:read"])),
    params(
        ("room" = String, Path, description = "The room"),
        ("places" = Option<u16>, Query, description = "How many: 1 to 1,000; 10 if absent", minimum = 1, maximum = 1000),
    ),
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
    params.only(&["places"])?;
    Ok(axum::Json(run(&api, &call, names.room()?, params.number("places")?).await?))
}

/// What both doors do.
pub async fn run(api: &Api, call: &Call, room: RoomId, places: Option<u64>) -> Result<Response, Refusal> {
    call.caller.backend_with(Scope::RoomRead)?;
    let places = places.unwrap_or(PLACES_DEFAULT.into());
    let places = u16::try_from(places)
        .ok()
        .filter(|places| (1..=PLACES_MAX).contains(places))
        .ok_or_else(|| Refusal::beyond("places", "places", format!("is {places}; it must be 1 to {PLACES_MAX}")))?;
    match api.ask(&room, &RoomAsk::Ranking { room: room.clone(), places }).await? {
        RoomAnswer::Ranking { top, gifts_total } => {
            let top = top.into_iter().map(|place| Place { user: place.user, total: place.total });
            Ok(Response { top: top.collect(), gifts_total })
        }
        _ => Err(misunderstood(&"another answer than what was asked for")),
    }
}
