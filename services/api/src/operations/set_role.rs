//! Hosts and admins of a room. The bucket first, then everybody in the room is told.

use std::sync::Arc;

use axum::extract::State;
use pushmesh_protocol::{
    RoomId, UserId,
    frame::Role,
    name::Key,
    room::{RoleRecord, RoomHappening},
    wire,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    caller::Rank,
    http::{Json, Names},
    refusal::Refusal,
    request::Call,
    standing::Fact,
};

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetRoleRequest)]
pub struct Request {
    /// host or admin.
    #[schema(value_type = String, pattern = "^(host|admin)$")]
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SetRoleResponse)]
pub struct Response {
    #[schema(value_type = String)]
    pub user: UserId,
    /// What he is now; null: nothing.
    #[schema(value_type = Option<String>)]
    pub role: Option<Role>,
}

/// Give somebody a role in a room
///
/// For backends; a host of the room may give and take admin.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/roles/{user}", tag = "rooms", operation_id = "set_role",
    params(("room" = String, Path, description = "The room"), ("user" = String, Path, description = "The user")),
    request_body = Request,
    responses((status = 200, body = Response)),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, names.room()?, names.user()?, Some(request.role)).await?))
}

/// Take somebody's role in a room away
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/roles/{user}", tag = "rooms", operation_id = "remove_role",
    params(("room" = String, Path, description = "The room"), ("user" = String, Path, description = "The user")),
    responses((status = 200, body = Response)),
)]
pub async fn http_delete(State(api): State<Shared>, call: Call, names: Names) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, names.room()?, names.user()?, None).await?))
}

/// What both doors do; `None` takes the role away.
pub async fn run(
    api: &Shared,
    call: &Call,
    room: RoomId,
    user: UserId,
    role: Option<Role>,
) -> Result<Response, Refusal> {
    let rank = call.caller.keeper_of(&room, &api.standing)?;
    call.caller.outranks(&user, &room, &api.standing)?;
    // Nobody makes his equals, and admins make nobody.
    if rank < Rank::Host || (role.is_some() && rank <= Rank::from(role)) {
        return Err(Refusal::forbidden("only a backend makes hosts, and only a host or a backend makes admins"));
    }
    let most = api.config.limits.roles_per_room;
    if role.is_some() && api.standing.role(&room, &user).is_none() && api.standing.roles(&room) >= most {
        let reason = format!("would be one more than {most} hosts and admins: take another's role away first");
        return Err(Refusal::beyond("user", "roles_per_room", reason));
    }
    let (whole, call) = (Arc::clone(api), call.clone());
    api.see_through(async move { set(&whole, &call, room, user, role).await }).await
}

async fn set(api: &Api, call: &Call, room: RoomId, user: UserId, role: Option<Role>) -> Result<Response, Refusal> {
    let (key, roles) = (Key::room_role(&room, &user), api.rooms.patient());
    let unkept = |error| Refusal::unkept(&error, api.config.retry_after);
    match role {
        Some(role) => {
            let record = wire::encode(&RoleRecord { role, at: call.now });
            let revision = roles.put(&key, record.into()).await.map_err(unkept)?;
            api.standing.wrote(Fact::Role { room: room.clone(), user: user.clone(), role }, revision);
        }
        None => roles.purge(&key).await.map_err(unkept)?,
    }
    api.tell(call, &room, RoomHappening::Role { user: user.clone(), role }).await?;
    Ok(Response { user, role })
}
