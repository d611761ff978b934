//! How it is put together.

use std::sync::Arc;

use pushmesh_boot::{Context, Contracts};
use pushmesh_proto::v1::login_ingest_server::LoginIngestServer;
use pushmesh_protocol::name::{Filter, QueueGroup, Subject};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    gather::gathering,
    handlers::{Doorway, grpc, http, report},
    metrics::Metrics,
};

/// The running service.
pub struct Service {
    closing: CancellationToken,
    /// Every stream's reader, and the one of the bus.
    readers: TaskTracker,
    /// The task that stores, and its end.
    storing: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "login-ingest";
    const ABOUT: &'static str = "Takes login records in: validates, mints login ids, stores them in LOGIN";
    type Config = Config;

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let limits = config.limits(context.settings.shutdown.grace);
        let (intake, gatherer) = gathering(context.bus.clone(), context.mesh.partitions, limits, Arc::clone(&metrics));
        let (closing, stop) = (CancellationToken::new(), CancellationToken::new());
        let storing = context.spawn_own("storing", gatherer.run(closing.clone(), stop.clone()));
        let service = Self { closing, readers: TaskTracker::new(), storing, stop };

        let (reports, group) = (Filter::from(Subject::login_report()), QueueGroup::LOGIN_INGEST);
        let requests = context.bus.subscribe_group(reports, group).await?;
        let bus = context.bus.clone();
        service.readers.spawn(report::serve(bus, requests, intake.clone(), service.closing.clone()));

        let doorway = Doorway {
            intake,
            door: Arc::new(context.door(&config.door)?),
            leeway: context.settings.auth.leeway,
            closing: service.closing.clone(),
            readers: service.readers.clone(),
            limits: config.stream_limits(),
        };
        let reports =
            LoginIngestServer::new(grpc::Grpc(doorway.clone())).max_decoding_message_size(grpc::MESSAGE_MAX_BYTES);
        let contracts = Contracts::new(pushmesh_proto::DESCRIPTORS).with(reports);
        let http = http::routes(doorway);
        context.serve_grpc(&config.door, contracts, Some(http)).await?;
        Ok(service)
    }

    /// Nothing more is read; all that was read is stored and answered.
    async fn drain(self) {
        self.closing.cancel();
        self.readers.close();
        self.readers.wait().await;
        self.stop.cancel();
        if let Err(error) = self.storing.await {
            tracing::error!(%error, "storing ended badly");
        }
    }
}
