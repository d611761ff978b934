//! How it is put together.

use std::{sync::Arc, time::Duration};

use pushmesh_boot::Context;
use pushmesh_membership::Membership;
use pushmesh_protocol::{
    Token,
    name::{Bucket, Filter},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{Api, Shared},
    config::Config,
    grpc, http,
    likes::{Likes, Tally, Teller},
    limits::Limits,
    metrics::Metrics,
    reads::{Reads, Roll},
    standing::Standing,
    till::till,
    watching,
};

/// How often limits forget who was not here of late.
const FORGET_EVERY: Duration = Duration::from_secs(5);
/// How much longer than a gift is held over an outage its answer is awaited.
const GIFT_PATIENCE: Duration = Duration::from_secs(2);

/// The running service.
pub struct Service {
    api: Shared,
    /// What stores gifts and tells likes, and its end.
    storing: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "api";
    const ABOUT: &'static str = "The front door of rooms: HTTP and gRPC for backends and clients";
    type Config = Config;

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let standing = Arc::new(Standing::default());
        let unknown = context.latch("rooms and mutes are not known yet");
        let watching = watching::watch(context.bus.clone(), Arc::clone(&standing), Arc::clone(&metrics), unknown);
        let ended = context.clone();
        context.spawn("standing", async move {
            ended.shutdown().drain.run_until_cancelled(watching).await;
        });

        let limits = Arc::new(Limits::new(&config.limits));
        let keeping = keep(Arc::clone(&limits), context.membership.clone(), context.service.clone(), metrics.clone());
        let ended = context.clone();
        context.spawn("limits", async move {
            ended.shutdown().drain.run_until_cancelled(keeping).await;
        });

        let stop = CancellationToken::new();
        let gifts = context.bus.dedicated("gifts").await?;
        let (till, cashier) = till(gifts, config.gifts_waiting_max, config.gift_batch_max, Arc::clone(&metrics));
        let tally = Tally::new(Likes::new(context.membership.epoch(), config.like_rooms_max, config.likes_tick));
        let teller = Teller {
            bus: context.bus.clone(),
            partitions: context.mesh.partitions,
            instance: context.instance.clone(),
            tally: tally.clone(),
            tick: config.likes_tick,
            metrics: Arc::clone(&metrics),
        };
        let storing = vec![
            context.spawn_own("gifts", cashier.run(stop.clone())),
            context.spawn_own("likes", teller.run(stop.clone())),
        ];

        let api = Arc::new(Api {
            bus: context.bus.clone(),
            partitions: context.mesh.partitions,
            door: context.door(&config.door)?,
            metrics: Arc::clone(&metrics),
            standing,
            limits,
            till,
            tally,
            rooms: context.bus.bucket(&Bucket::ROOMS).await?,
            mutes: context.bus.bucket(&Bucket::MUTES).await?,
            reads: reads(&context, Arc::clone(&metrics)).await?,
            gift_within: context.settings.nats.outage_hold + GIFT_PATIENCE,
            places: Semaphore::new(config.messages_waiting_max),
            visits: TaskTracker::new(),
            config: config.clone(),
        });
        let contracts = grpc::contracts(&api);
        let address = context
            .serve_many(&config.door, contracts, Some(http::routes(Arc::clone(&api))), config.connections_max)
            .await?;
        context.announce("http", address);
        Ok(Self { api, storing, stop })
    }

    /// No request comes any more; those under way are answered, then all that was accepted is stored.
    async fn drain(self) {
        self.api.visits.close();
        self.api.visits.wait().await;
        self.stop.cancel();
        for task in self.storing {
            if let Err(error) = task.await {
                tracing::error!(%error, "storing ended badly");
            }
        }
    }
}

/// Hears comets from now on.
async fn reads(context: &Context, metrics: Arc<Metrics>) -> anyhow::Result<Reads> {
    let comets = Roll::default();
    let statuses = context.bus.subscribe(Filter::comet_statuses()).await?;
    let (listening, ended) = (comets.clone().listen(statuses, metrics), context.clone());
    context.spawn("comets", async move {
        ended.shutdown().drain.run_until_cancelled(listening).await;
    });
    let sessions = context.bus.bucket(&Bucket::SESSIONS).await?;
    Ok(Reads { kinds: context.mesh.kinds.clone(), sessions, comets })
}

/// Keeps the limits small, and shared by as many instances as there are.
async fn keep(limits: Arc<Limits>, membership: Membership, service: Token, metrics: Arc<Metrics>) {
    let mut view = membership.view();
    let mut forget = tokio::time::interval(FORGET_EVERY);
    loop {
        let instances = {
            let view = view.borrow_and_update();
            view.members_of(&service).filter(|member| member.alive && !member.draining).count()
        };
        limits.share_with(u32::try_from(instances).unwrap_or(u32::MAX));
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            _ = forget.tick() => {
                limits.forget();
                metrics.limited.set(limits.remembered() as f64);
            }
        }
    }
}
