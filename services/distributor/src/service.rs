//! How it is put together.

use std::sync::Arc;

use pushmesh_boot::Context;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, gatherer::Gatherer, metrics::Metrics, partition::Work};

/// The running service.
pub struct Service {
    context: Context,
    /// Ends the gatherer.
    stop: CancellationToken,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "distributor";
    const ABOUT: &'static str = "Hands login records on to every push kind's owner of the user's partition";
    type Config = Config;

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let kinds = context.mesh.kinds.clone();
        let metrics = Arc::new(Metrics::new(&kinds));
        let (gatherer, inputs) = Gatherer::new(
            context.bus.clone(),
            &context.membership,
            kinds.clone(),
            config.clone(),
            Arc::clone(&metrics),
        );
        let work = Arc::new(Work {
            bus: context.bus.clone(),
            kinds,
            partitions: context.mesh.partitions,
            service: context.service.clone(),
            config,
            metrics,
            gatherer: inputs,
        });
        let stop = CancellationToken::new();
        context.spawn("gatherer", gatherer.run(stop.clone()));
        let uncovered = context.latch("partitions without an owner");
        let mut covered = context.membership.own(context.mesh.partitions, work).covered();
        let drain = context.shutdown().drain.clone();
        context.spawn("covered", async move {
            // Membership has ended, or all have one for the first time.
            let _ = drain.run_until_cancelled(covered.wait_for(|covered| *covered)).await;
            drop(uncovered);
        });
        Ok(Self { context, stop })
    }

    /// Every partition is handed over: what is on its way is finished, the rest stays where it is stored.
    async fn drain(self) {
        self.context.membership.leave().await;
        self.stop.cancel();
    }
}
