//! Where a user is connected, and since when.

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_protocol::{ConnId, DeviceId, Instance, LoginId, UserId, message::Session};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::Names,
    query::Params,
    refusal::Refusal,
    request::Call,
};

/// A user's connections, the oldest first; none: he is not online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GetUserResponse)]
pub struct Response {
    pub devices: Vec<Device>,
}

/// One connection that is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DeviceOnline)]
pub struct Device {
    #[schema(value_type = String)]
    pub device: DeviceId,
    #[schema(value_type = String)]
    pub comet: Instance,
    #[schema(value_type = String)]
    pub login_id: LoginId,
    /// Milliseconds since 1970.
    pub since: u64,
    /// Set while the connection is broken and its login goes on for a while: milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
}

/// Find out where a user is online
///
/// For backends with the scope room:read.
#[utoipa::path(
    get, path = "/v1/online/users/{user}", tag = "online", operation_id = "get_user",
    security(("backend" = ["room:read"])),
    params(("user" = String, Path, description = "The user")),
    responses((status = 200, body = Response)),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    params: Params,
) -> Result<axum::Json<Response>, Refusal> {
    params.only(&[])?;
    Ok(axum::Json(run(&api, &call, names.user()?).await?))
}

/// What both doors do.
pub async fn run(api: &Api, call: &Call, user: UserId) -> Result<Response, Refusal> {
    call.caller.backend_with(Scope::RoomRead)?;
    let device = |(_, session): (ConnId, Session)| {
        let Session { device, comet, login_id, since, left, .. } = session;
        Device { device, comet, login_id, since, left }
    };
    Ok(Response { devices: api.sessions(&user).await?.into_iter().map(device).collect() })
}
