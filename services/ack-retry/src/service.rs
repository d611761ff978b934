//! How it is put together.

use std::sync::Arc;

use pushmesh_boot::{Context, Contracts, MESSAGE_MAX_BYTES};
use pushmesh_membership::Ownership;
use pushmesh_proto::v1::pushes_server::PushesServer;
use pushmesh_protocol::{Token, name::Bucket};

use crate::{api::Api, config::Config, metrics::Metrics, outbox::outbox, partition::Work, reporter::reporter};

/// The name under which comets join the mesh.
const COMETS: &str = "comet";

/// The running service.
pub struct Service {
    context: Context,
    ownership: Ownership,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "ack-retry";
    const ABOUT: &'static str =
        "Keeps pushes until they are acknowledged: three transmissions, then inbox or dead letter";
    type Config = Config;

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let (outbox, sending) = outbox(context.bus.clone(), Arc::clone(&metrics));
        let (reporter, reporting) = reporter(context.bus.clone());
        context.spawn("outbox", sending);
        context.spawn("reporter", reporting);

        let work = Arc::new(Work {
            bus: context.bus.clone(),
            membership: context.membership.clone(),
            service: context.service.clone(),
            comets: Token::new(COMETS).expect("made of token characters"),
            partitions: context.mesh.partitions,
            rules: config.rules(),
            outbox,
            reporter,
            metrics,
        });
        let ownership = context.membership.own(context.mesh.partitions, work);
        let (mut covered, taking) = (ownership.covered(), context.latch("partitions have no owner yet"));
        context.spawn("covered", async move {
            // Membership's end is the process's.
            let _ = covered.wait_for(|covered| *covered).await;
            drop(taking);
        });

        let api = Api {
            bus: context.bus.clone(),
            pending: context.bus.bucket(&Bucket::PENDING).await?,
            partitions: context.mesh.partitions,
            door: context.door(&config.door)?,
        };
        let pushes = PushesServer::new(api).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let contracts = Contracts::new(pushmesh_proto::DESCRIPTORS).with(pushes);
        context.serve_grpc(&config.door, contracts, None).await?;
        Ok(Self { context, ownership })
    }

    /// Every partition is handed over: what is on its way is finished, the rest stays where it is stored.
    async fn drain(self) {
        self.context.membership.leave().await;
        drop(self.ownership);
    }
}
