//! How many are connected: to the mesh, and to each comet.

use std::time::Instant;

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_protocol::Instance;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    comets::Seen,
    query::Params,
    refusal::Refusal,
    request::Call,
};

/// How many are connected; each comet's word is less than 5 s old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GetTotalsResponse)]
pub struct Response {
    /// In the whole mesh.
    pub connections: u64,
    /// By name.
    pub comets: Vec<Comet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = CometTotals)]
pub struct Comet {
    #[schema(value_type = String)]
    pub comet: Instance,
    pub connections: u32,
    /// The most it takes.
    pub capacity: u32,
    /// Rooms with a member there.
    pub rooms: u32,
    /// It takes nobody any more.
    pub draining: bool,
    /// Milliseconds since it said so.
    pub age_ms: u64,
}

/// Count who is online
///
/// For backends with the scope room:read. How many are in a room, the room itself tells. Where no comet was heard for 5 s
/// nobody knows, and the answer is a 503.
#[utoipa::path(
    get, path = "/v1/online", tag = "online", operation_id = "get_totals",
    security(("backend" = ["room:read"])),
    responses((status = 200, body = Response)),
)]
pub async fn http(State(api): State<Shared>, call: Call, params: Params) -> Result<axum::Json<Response>, Refusal> {
    params.only(&[])?;
    Ok(axum::Json(run(&api, &call)?))
}

/// What both doors do.
pub fn run(api: &Api, call: &Call) -> Result<Response, Refusal> {
    call.caller.backend_with(Scope::RoomRead)?;
    let unknown = |why| Err(Refusal::unavailable(why, api.config.retry_after));
    if !api.bus.health().borrow().connected {
        return unknown("the broker is away");
    }
    let seen = api.reads.comets.lock().seen(Instant::now());
    // A mesh without comets has nobody online either; but whoever hears nothing can't tell that from being deaf.
    if seen.is_empty() {
        return unknown("no comet was heard for 5 s: there is none, or the broker is away");
    }
    let connections = seen.iter().map(|seen| u64::from(seen.status.connections)).sum();
    let comet = |Seen { comet, status, age }: Seen| Comet {
        comet,
        connections: status.connections,
        capacity: status.capacity,
        rooms: status.rooms,
        draining: status.draining,
        age_ms: age.as_millis() as u64,
    };
    Ok(Response { connections, comets: seen.into_iter().map(comet).collect() })
}
