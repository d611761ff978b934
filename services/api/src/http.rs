//! The HTTP door: its routes, and how a request is read.
//!
//! Every answer that is no success is an [`ErrorBody`](crate::refusal::ErrorBody), also of paths that nobody serves.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any},
};
use futures_util::StreamExt;
use pushmesh_protocol::{RoomId, Token, UserId};
use pushmesh_telemetry::{propagate, span};
use serde::de::DeserializeOwned;

use crate::{
    api::{Api, Shared},
    metrics::Door,
    operations::{self, Operation},
    refusal::{Code, Refusal},
    request::{Call, Trail, now},
};

/// Most bytes of a body that names users: a thousand names of 64, and a push's data in any writing.
pub const LARGE_BODY_BYTES: usize = 256 * 1024;
pub const LARGE_BODY_LIMIT: &str = "large_body_bytes";
/// Of all other bodies: how many is configured.
pub const BODY_LIMIT: &str = "body_max_bytes";

/// One method of one path.
pub struct Route {
    /// `POST /v1/rooms/{room}/gifts`: as spans and the OpenAPI document call it.
    pub name: &'static str,
    pub operation: Operation,
    pub handler: MethodRouter<Shared>,
}

impl Route {
    pub fn new(name: &'static str, operation: Operation, handler: MethodRouter<Shared>) -> Self {
        Self { name, operation, handler }
    }

    pub fn path(&self) -> &'static str {
        self.name.split_once(' ').map_or(self.name, |(_, path)| path)
    }
}

/// All that the door serves.
pub fn routes(api: Shared) -> Router {
    let served = operations::routes().into_iter().fold(Router::new(), |router, route| {
        let seen = Seen { api: Arc::clone(&api), operation: route.operation, name: route.name };
        router.route(route.path(), route.handler.layer(from_fn_with_state(seen, observe)))
    });
    served
        .method_not_allowed_fallback(async || {
            Refusal::new(Code::MethodNotAllowed, "the path has no such method: GET /v1/openapi.json names all")
        })
        .route("/", any(unknown))
        .route("/{*path}", any(unknown))
        .with_state(api)
}

/// What nobody serves: a gRPC client is told in its own way.
async fn unknown(headers: HeaderMap) -> Response {
    let is_grpc =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return tonic::Status::unimplemented("there is no such service or method").into_http::<Body>();
    }
    Refusal::new(Code::NotFound, "there is no such path: GET /v1/openapi.json names all").into_response()
}

#[derive(Clone)]
struct Seen {
    api: Shared,
    operation: Operation,
    name: &'static str,
}

/// Counts a request and opens its span. It counts as under way until its answer is made.
async fn observe(State(seen): State<Seen>, mut request: Request, next: Next) -> Response {
    let Seen { api, operation, name } = seen;
    let _visit = api.visits.token();
    let begun = Instant::now();
    let trail = Trail::begin(name, propagate::from_headers(request.headers()));
    request.extensions_mut().insert(trail.clone());
    let response = next.run(request).await;
    let status = response.status();
    span::set(&trail.span, "http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span::fail(&trail.span, &status);
    }
    let refused = response.extensions().get::<Code>().copied();
    api.metrics.answered(operation, Door::Http, refused, begun.elapsed().as_secs_f64());
    response
}

impl FromRequestParts<Shared> for Call {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let caller = api.admit(api.door.who_http(&parts.headers)?)?;
        let trail = parts.extensions.get::<Trail>().cloned();
        let trail = trail.unwrap_or_else(|| Trail { span: tracing::Span::none(), parent: None });
        Ok(Self { caller, now: now(), trail })
    }
}

/// The names in a path. Comes behind [`Call`]: a stranger is told nothing of them.
pub struct Names(Vec<(String, String)>);

impl FromRequestParts<Shared> for Names {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, api).await;
        let params = params.map_err(|_| Refusal::invalid("path", "is no UTF-8 once its escapes are resolved"))?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl Names {
    pub fn room(&self) -> Result<RoomId, Refusal> {
        self.token("room").map(RoomId::from)
    }

    pub fn user(&self) -> Result<UserId, Refusal> {
        self.token("user").map(UserId::from)
    }

    fn token(&self, name: &'static str) -> Result<Token, Refusal> {
        let text = self.0.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text);
        Token::new(text).map_err(|error| Refusal::invalid(name, error))
    }
}

/// A body of JSON, read within its limits of bytes and time.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Refusal> {
        json(request, api, BODY_LIMIT, api.config.limits.body_max_bytes).await.map(Self)
    }
}

/// A body of JSON that may name a thousand users.
pub struct LargeJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for LargeJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Refusal> {
        json(request, api, LARGE_BODY_LIMIT, LARGE_BODY_BYTES).await.map(Self)
    }
}

async fn json<T: DeserializeOwned>(
    request: Request,
    api: &Api,
    limit: &'static str,
    most: usize,
) -> Result<T, Refusal> {
    let within = api.config.body_within;
    match tokio::time::timeout(within, read(request, limit, most)).await {
        Ok(bytes) => parse(&bytes?),
        Err(_) => Err(Refusal::new(Code::TooSlow, format!("the body was not there within {within:?}"))),
    }
}

async fn read(request: Request, limit: &'static str, most: usize) -> Result<Vec<u8>, Refusal> {
    let too_large = |bytes| Refusal::too_large("body", limit, bytes, most);
    let told = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(told) = told.filter(|told| *told > most) {
        return Err(too_large(told));
    }
    let mut body = request.into_body().into_data_stream();
    let mut bytes = Vec::with_capacity(told.unwrap_or_default());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Refusal::invalid("body", "broke off"))?;
        if bytes.len() + chunk.len() > most {
            return Err(too_large(bytes.len() + chunk.len()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // A list would be taken for the fields in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Refusal::invalid("body", "is no JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let reason = error.inner().to_string();
        Refusal::invalid(field(&error.path().to_string(), &reason), format!("is malformed: {reason}"))
    })?;
    json.end().map_err(|error| Refusal::invalid("body", format!("is malformed: {error}")))?;
    Ok(parsed)
}

/// Which field serde speaks of. A name that the caller made up is cut: he knows it.
fn field(path: &str, reason: &str) -> String {
    let named = ["missing field `", "duplicate field `"].iter().find_map(|start| reason.strip_prefix(start));
    match (named.and_then(|rest| rest.split_once('`')), path) {
        (Some((name, _)), _) => name.to_owned(),
        (None, "" | "." | "?") => "body".to_owned(),
        (None, path) => path.chars().take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        user: UserId,
        count: u32,
    }

    #[test]
    fn a_good_body_is_read() {
        let shape: Shape = parse(br#" {"count":2,"user":"a"} "#).unwrap();
        assert_eq!((shape.user.as_str(), shape.count), ("a", 2));
    }

    #[test]
    fn what_is_wrong_with_a_body_is_told_by_its_field() {
        let deep = format!("{{\"user\":{}", "[".repeat(10_000));
        for (body, expected, reason) in [
            ("", "body", "no JSON object"),
            ("{", "body", "EOF"),
            ("null", "body", "no JSON object"),
            (r#"["a",1]"#, "body", "no JSON object"),
            ("{} {}", "user", "missing field"),
            (r#"{"user":"a"}"#, "count", "missing field"),
            (r#"{"user":"a","count":1} x"#, "body", "trailing"),
            (r#"{"user":7,"count":1}"#, "user", "expected a string"),
            (r#"{"user":"a.b","count":1}"#, "user", "'.'"),
            (r#"{"user":"","count":1}"#, "user", "is empty"),
            (r#"{"user":"a","count":-1}"#, "count", "expected u32"),
            (r#"{"user":"a","count":1e99}"#, "count", "expected u32"),
            (r#"{"user":"a","count":99999999999999999999}"#, "count", "expected u32"),
            (r#"{"user":"a","count":1,"colour":"red"}"#, "colour", "unknown field"),
            (r#"{"user":"a","user":"b","count":1}"#, "user", "duplicate field"),
            (deep.as_str(), "user", "expected a string"),
        ] {
            let refusal = parse::<Shape>(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::Invalid);
            assert_eq!(refusal.field.as_deref(), Some(expected), "{body:.60}: {}", refusal.message);
            assert!(refusal.message.contains(reason), "{body:.60}: {}", refusal.message);
        }
    }
}
