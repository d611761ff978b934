//! gRPC doors: health, reflection and limits, the same at every service, and HTTP routes beside them on the same port.

use std::{net::SocketAddr, pin::pin, time::Duration};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tonic::{service::Routes, transport::Server};

use crate::{
    accept::{Bounds, Counters, connections},
    context::Context,
    contracts::Contracts,
    settings::DoorConfig,
};

/// Largest message a service should take: `FooServer::new(…).max_decoding_message_size(MESSAGE_MAX_BYTES)`.
pub const MESSAGE_MAX_BYTES: usize = 1 << 20;
/// Most connections to one door at a time; beyond it new ones are closed at once.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Most calls on one connection at a time.
pub const STREAMS_MAX: u32 = 256;
/// Most bytes of one call's headers: a token has up to 3 KiB.
pub const HEADERS_MAX_BYTES: u32 = 16 * 1024;
/// A silent connection is probed so often, and closed if it doesn't answer as long.
const KEEPALIVE: Duration = Duration::from_secs(20);

impl Context {
    /// Serves `contracts` with health (mirrors readiness) and reflection, and the HTTP routes `extra` on the same port.
    /// Announced as `grpc`. Each request's extensions hold its [`Caller`](crate::Caller).
    ///
    /// On `drain` it takes no new connection or call, and finishes those begun: for half of the grace period, so that no
    /// caller who neither reads nor goes holds up the rest of the drain; then their connections are cut.
    pub async fn serve_grpc(
        &self,
        door: &DoorConfig,
        contracts: Contracts,
        extra: Option<axum::Router>,
    ) -> anyhow::Result<SocketAddr> {
        self.serve_many(door, contracts, extra, CONNECTIONS_MAX).await
    }

    /// [`serve_grpc`](Self::serve_grpc) for as many connections at a time: for doors that clients come to themselves.
    pub async fn serve_many(
        &self,
        door: &DoorConfig,
        contracts: Contracts,
        extra: Option<axum::Router>,
        connections_max: usize,
    ) -> anyhow::Result<SocketAddr> {
        // Also refuses a door that is open to strangers, whether the service checks tokens or not.
        self.door(door)?;
        let listener =
            TcpListener::bind(door.listen).await.with_context(|| format!("can't listen on {}", door.listen))?;
        let address = listener.local_addr()?;

        let (drain, readiness) = (self.shutdown().drain.clone(), self.readiness().clone());
        let (router, mirroring) = contracts.into_router(&self.service, readiness, drain.clone()).await?;
        let routes = Routes::from(match extra {
            Some(extra) => router.merge(extra),
            None => router,
        });
        self.spawn("grpc-health", mirroring);

        let counters = Counters::of(self.service.as_str());
        let bounds = Bounds { connections_max, first_byte_within: self.settings.doors.first_byte_within };
        let cut = self.shutdown().stop.child_token();
        let (incoming, accepting) = connections(listener, bounds, counters, drain.clone(), cut.clone());
        self.spawn("grpc-accept", accepting);

        let server = Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADERS_MAX_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, drain.clone().cancelled_owned());
        let (life, within) = (self.life.clone(), self.settings.shutdown.grace / 2);
        self.spawn("grpc-serve", async move {
            let mut server = pin!(server);
            let overdue = async {
                drain.cancelled().await;
                tokio::time::sleep(within).await;
            };
            let ended = tokio::select! {
                ended = &mut server => ended,
                () = overdue => {
                    tracing::warn!(?within, "calls at a door did not end in time: their connections are cut");
                    cut.cancel();
                    server.await
                }
            };
            if let Err(error) = ended {
                life.fail(anyhow::Error::from(error).context("a gRPC door broke"));
            }
        });

        self.announce("grpc", address);
        Ok(address)
    }
}
