//! Where a client should connect.

use std::time::{Duration, Instant};

use axum::extract::State;
use pushmesh_protocol::Instance;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    comets::{self, Transport},
    query::Params,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

/// A comet tells every second: then there may be one.
const NONE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FindCometsResponse)]
pub struct Response {
    /// In the order in which to try them: 1 to 5, drawn by free capacity; none that drains or is full.
    pub candidates: Vec<Candidate>,
}

/// A comet with room for more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = CometCandidate)]
pub struct Candidate {
    #[schema(value_type = String, example = "comet-1")]
    pub comet: Instance,
    /// As the comet tells it.
    #[schema(example = "ws://comet-1.example:8080/")]
    pub address: String,
}

/// Find out where to connect
///
/// For clients, and for backends that tell theirs.
#[utoipa::path(
    get, path = "/v1/connect", tag = "online", operation_id = "find_comets",
    security(("client" = []), ("backend" = [])),
    params(("transport" = Option<String>, Query, description = "ws or tcp", pattern = "^(ws|tcp)$", example = "ws")),
    responses(
        (status = 200, body = Response),
        (status = 503, body = ErrorBody, description = "No comet has room now"),
    ),
)]
pub async fn http(State(api): State<Shared>, _: Call, params: Params) -> Result<axum::Json<Response>, Refusal> {
    params.only(&["transport"])?;
    Ok(axum::Json(run(&api, params.text("transport"))?))
}

/// What both doors do; whoever has a token may ask.
pub fn run(api: &Api, transport: Option<&str>) -> Result<Response, Refusal> {
    let transport = match transport {
        None | Some("ws") => Transport::WebSocket,
        Some("tcp") => Transport::Tcp,
        Some(_) => return Err(Refusal::invalid("transport", "is not known; known are ws and tcp")),
    };
    let drawn = api.reads.comets.lock().candidates(transport, Instant::now(), fastrand::f64);
    if drawn.is_empty() {
        return Err(Refusal::unavailable("no comet has room now", NONE_RETRY_AFTER));
    }
    let candidate = |comets::Candidate { comet, address }| Candidate { comet, address };
    Ok(Response { candidates: drawn.into_iter().map(candidate).collect() })
}
