//! The admin port: health, readiness, metrics, build and log level; gRPC health and reflection too, since not every service
//! has a gRPC door of its own.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, put},
};
use pushmesh_telemetry::Telemetry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use crate::{
    CONNECTIONS_MAX, REVISION, VERSION,
    accept::{Bounds, Counters, connections},
    readiness::Readiness,
    settings::DoorsConfig,
};

#[derive(Clone)]
pub(crate) struct Admin {
    pub service: String,
    pub instance: String,
    pub readiness: Readiness,
    /// None where the process has none of its own, as in tests.
    pub telemetry: Option<Telemetry>,
}

/// Serves until `end` is cancelled: HTTP/1, and HTTP/2 by prior knowledge for the routes of `grpc`.
pub(crate) async fn serve(
    listener: TcpListener,
    doors: DoorsConfig,
    admin: Admin,
    grpc: Router,
    end: CancellationToken,
) {
    let counters = Counters::of(&admin.service);
    let router = Router::new()
        // The process alone, never what it depends on: a restart mends nothing of that.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/buildinfo", get(buildinfo))
        .route("/log-level", put(log_level))
        .with_state(admin)
        // What is unknown is a 404 here, as everywhere on HTTP; a gRPC client reads it as unimplemented.
        .merge(grpc.reset_fallback());
    let bounds = Bounds { connections_max: CONNECTIONS_MAX, first_byte_within: doors.first_byte_within };
    let (incoming, accepting) = connections(listener, bounds, counters, end.clone(), CancellationToken::new());
    let serving = Server::builder()
        .accept_http1(true)
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(incoming, end.cancelled_owned());
    if let ((), Err(error)) = tokio::join!(accepting, serving) {
        tracing::error!(%error, "the admin port broke");
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let reasons = admin.readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = admin.telemetry.map(|telemetry| telemetry.prometheus()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn buildinfo(State(admin): State<Admin>) -> impl IntoResponse {
    Json(json!({
        "service": admin.service, "instance": admin.instance, "version": VERSION, "revision": REVISION,
    }))
}

async fn log_level(State(admin): State<Admin>, filter: String) -> (StatusCode, String) {
    let Some(telemetry) = &admin.telemetry else {
        return (StatusCode::NOT_IMPLEMENTED, "this process has no log of its own\n".to_owned());
    };
    match telemetry.set_log_level(&filter) {
        Ok(()) => {
            tracing::warn!(filter = filter.trim(), "log level changed");
            (StatusCode::OK, format!("{}\n", filter.trim()))
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
