//! How it is put together.

use std::sync::Arc;

use pushmesh_boot::Context;
use pushmesh_bus::Bus;
use pushmesh_membership::Ownership;
use pushmesh_protocol::Token;

use crate::{config::Config, failing::Failing, metrics::Metrics, partition::Work, standing::standing};

/// The name under which comets join the mesh.
const COMETS: &str = "comet";

/// The running service.
pub struct Service {
    context: Context,
    /// The connection that streams are followed over.
    streams: Bus,
    ownership: Ownership,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "room-fanout";
    const ABOUT: &'static str = "Owns the rooms of a live stream: order, ledger, ranking, parts, and who is told what";
    type Config = Config;

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let streams = context.bus.dedicated("streams").await?;
        let (standing, watching) = standing(streams.clone(), context.mesh.partitions, Arc::clone(&metrics));
        context.spawn("standing", watching);

        let work = Arc::new(Work {
            bus: context.bus.clone(),
            streams: streams.clone(),
            membership: context.membership.clone(),
            service: context.service.clone(),
            comets: Token::new(COMETS).expect("made of token characters"),
            config,
            standing,
            failing: Failing::default(),
            metrics,
        });
        let ownership = context.membership.own(context.mesh.partitions, work);
        let (mut covered, taking) = (ownership.covered(), context.latch("partitions have no owner yet"));
        context.spawn("covered", async move {
            // Membership's end is the process's.
            let _ = covered.wait_for(|covered| *covered).await;
            drop(taking);
        });
        Ok(Self { context, streams, ownership })
    }

    /// Every partition is handed over: what is applied is told and written, the rest stays in the streams.
    async fn drain(self) {
        self.context.membership.leave().await;
        drop(self.ownership);
        self.streams.drain().await;
    }
}
