//! What a gRPC door serves, with the names that health and reflection tell.

use std::convert::Infallible;

use anyhow::Context as _;
use axum::{extract::Request, middleware::map_request, response::IntoResponse};
use futures_util::StreamExt;
use pushmesh_protocol::Token;
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    service::Routes,
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::Builder;

use crate::readiness::Readiness;

// What every door serves, as reflection lists it.
const EVERYWHERE: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// The gRPC services behind one door. Reflection lists these and no other of their files; health answers for each by name.
pub struct Contracts {
    descriptors: &'static [u8],
    routes: Routes,
    names: Vec<&'static str>,
}

impl Contracts {
    /// None yet. `descriptors` is the encoded set of files in which they stand.
    pub fn new(descriptors: &'static [u8]) -> Self {
        Self { descriptors, routes: Routes::default(), names: Vec::new() }
    }

    /// One more.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }

    /// All of them with health and reflection. Health mirrors readiness until `drain` is cancelled, under the empty name, the
    /// `service`'s and each contract's; then it is not serving, who watches it is told so and let go, and reflection's streams
    /// end with what was asked by then: no drain waits for them.
    pub(crate) async fn into_router(
        self,
        service: &Token,
        readiness: Readiness,
        drain: CancellationToken,
    ) -> anyhow::Result<(axum::Router, impl Future<Output = ()> + Send + 'static)> {
        let reflection = || {
            let builder = Builder::configure()
                .register_encoded_file_descriptor_set(self.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            self.names.iter().chain(&EVERYWHERE).fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let names: Vec<String> =
            ["", service.as_str()].iter().chain(&self.names).map(|name| (*name).to_owned()).collect();
        let mut reporter = HealthReporter::new();
        tell(&reporter, &names, readiness.is_ready()).await;
        let ending = drain.clone();
        let ours = Routes::new(HealthServer::new(HealthService::from_health_reporter(reporter.clone())))
            .add_service(reflection().build_v1().context("malformed gRPC descriptors")?)
            .add_service(reflection().build_v1alpha().context("malformed gRPC descriptors")?)
            .into_axum_router()
            .layer(map_request(move |request: Request| std::future::ready(ending_by(request, &ending))));
        let router = self.routes.into_axum_router().merge(ours.reset_fallback());
        let mirroring = async move {
            loop {
                let ready = readiness.is_ready();
                tell(&reporter, &names, ready).await;
                tokio::select! {
                    () = readiness.until(!ready) => {}
                    () = drain.cancelled() => break,
                }
            }
            tell(&reporter, &names, false).await;
            for name in &names {
                reporter.clear_service_status(name).await;
            }
            tell(&reporter, &names, false).await;
        };
        Ok((router, mirroring))
    }
}

// A caller who keeps his stream of questions open asks none any more.
fn ending_by(request: Request, end: &CancellationToken) -> Request {
    let end = end.clone().cancelled_owned();
    request.map(|body| axum::body::Body::from_stream(body.into_data_stream().take_until(end)))
}

async fn tell(reporter: &HealthReporter, names: &[String], ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}
