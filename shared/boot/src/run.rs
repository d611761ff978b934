//! A service's life, from its settings to its end.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use pushmesh_auth::Verifier;
use pushmesh_bus::{Bus, MeshInfoError, mesh_info};
use pushmesh_membership::{Me, Membership, Parting, Tuning};
use pushmesh_protocol::{Instance, Token, message::MeshInfo, metric::boot as names};
use pushmesh_telemetry::{Telemetry, metric};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    REVISION, VERSION,
    admin::{self, Admin},
    context::{Context, Life},
    contracts::Contracts,
    error::{BootError, chain},
    service::Service,
    settings::{DoorsConfig, Settings},
    shutdown::Shutdown,
};

/// A refused permission in this time after the start is fatal: the service can't do its work.
const PERMISSION_TEST: Duration = Duration::from_secs(5);
/// How long a failed start or a cut-off end still tries to leave the mesh in order.
const HASTE: Duration = Duration::from_secs(2);
/// How often a dependency that is not there yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A service's doors by name, `admin` and `grpc` among them.
pub type Doors = BTreeMap<String, SocketAddr>;

/// How whoever runs a service holds it.
#[derive(Default)]
pub struct Control {
    pub shutdown: Shutdown,
    /// Gets the doors once the service is ready for the first time.
    pub ready: Option<oneshot::Sender<Doors>>,
    /// Gets the doors as a JSON object, written in one piece, once the service is ready for the first time.
    pub ready_file: Option<PathBuf>,
    /// The process's telemetry: what the admin port shows and sets.
    pub telemetry: Option<Telemetry>,
    /// At each change the key file is read again, if it changed.
    pub keys: Option<watch::Receiver<()>>,
}

/// Runs a service until `control.shutdown` or a fatal error, and ends it in order. Handles no signal and sets up no telemetry:
/// several services may run in one process.
pub async fn run<S: Service>(settings: Settings<S::Config>, control: Control) -> Result<(), BootError> {
    settings.validate()?;
    let Control { shutdown, ready, ready_file, telemetry, keys } = control;
    // Tokens of its own: it may share the caller's with other services, which its end is none of the business of.
    let shutdown = Shutdown { drain: shutdown.drain.child_token(), stop: shutdown.stop.child_token() };
    let _nothing_outlives_us = shutdown.stop.clone().drop_guard();
    let life = Life::new(shutdown.clone());
    let starting = life.readiness().latch("starting");
    let service = S::member_name(&settings.service);
    let instance = settings.mesh.instance.clone().unwrap_or_else(|| fresh_instance(&service));

    let admin = Admin {
        service: service.to_string(),
        instance: instance.to_string(),
        readiness: life.readiness().clone(),
        telemetry,
    };
    let admin_end = CancellationToken::new();
    let _admin_ends_with_us = admin_end.clone().drop_guard();
    open_admin(settings.admin.listen, settings.doors.clone(), admin, &service, &life, admin_end)
        .await
        .map_err(BootError::Fatal)?;

    let begun = begin::<S>(&settings, &life, &service, &instance);
    let begun = tokio::select! {
        begun = begun => begun?,
        () = shutdown.drain.cancelled() => {
            tracing::info!("asked to end while starting");
            return Ok(());
        }
    };
    let labels = [("service", service.as_str())];
    let ready_gauge = metric::gauge_with(&names::READY, &labels);
    let build = [labels[0], ("version", VERSION), ("revision", REVISION)];
    metric::gauge_with(&names::BUILD_INFO, &build).set(1);

    let (running, ctx) = match begun {
        Begun::Started(service, ctx) => (service, ctx),
        Begun::Failed(ctx, error) => {
            leave(&ctx, HASTE).await;
            return Err(BootError::Fatal(error));
        }
        Begun::AskedToEnd(ctx) => {
            leave(&ctx, HASTE).await;
            return Ok(());
        }
    };
    drop(starting);
    ctx.spawn("readiness", announce_when_ready(life.clone(), ready, ready_file, ready_gauge));
    if let Some(keys) = keys {
        ctx.spawn("keys", look_at_keys(ctx.auth.clone(), keys, shutdown.drain.clone()));
    }

    shutdown.drain.cancelled().await;
    tracing::info!(grace = ?settings.shutdown.grace, "draining");
    let draining = life.readiness().latch("draining");
    let drained = async {
        running.drain().await;
        life.tasks_ended().await;
        say_goodbye(&ctx).await
    };
    let ended = tokio::select! {
        parting = drained => match parting {
            Parting::InOrder => Ok(()),
            Parting::Unheard => Err(BootError::Unheard),
        },
        () = shutdown.stop.cancelled() => Err(BootError::CutOff("a second signal came")),
        () = tokio::time::sleep(settings.shutdown.grace) => Err(BootError::CutOff("the grace period is over")),
    };
    drop(draining);
    match (life.failure(), &ended) {
        (Some(error), _) => Err(BootError::Fatal(error)),
        (None, Ok(())) => {
            tracing::info!("ended in order");
            ended
        }
        (None, Err(_)) => ended,
    }
}

/// The checker of tokens, with the keys that stand in the file now.
pub(crate) fn verifier(auth: &pushmesh_auth::Config) -> Result<Verifier, BootError> {
    Verifier::load(auth).map_err(|error| BootError::Config(format!("auth.jwks_file: {}", chain(&error))))
}

enum Begun<S> {
    Started(S, Context),
    Failed(Context, anyhow::Error),
    AskedToEnd(Context),
}

// NATS, the mesh, the keys, membership, the service: in this order, each within what is left of `nats.connect_wait`.
async fn begin<S: Service>(
    settings: &Settings<S::Config>,
    life: &Life,
    service: &Token,
    instance: &Instance,
) -> Result<Begun<S>, BootError> {
    let deadline = Instant::now() + settings.nats.connect_wait;
    let auth = verifier(&settings.auth)?;
    let connecting = life.readiness().latch("connecting to NATS");
    let bus = Bus::connect(&settings.nats, service, instance).await?;
    drop(connecting);
    life.spawn("nats-health", watch_nats(bus.clone(), life.clone()));

    let asking = life.readiness().latch("waiting for the mesh to be provisioned");
    let mesh = provisioned(&bus, deadline).await?;
    drop(asking);

    let joining = life.readiness().latch("joining the mesh");
    let me = Me {
        service: service.clone(),
        instance: instance.clone(),
        weight: settings.mesh.weight,
        address: settings.mesh.advertise.clone().unwrap_or_default(),
    };
    let membership = Membership::join(&bus, me, Tuning::default())
        .await
        .map_err(|error| BootError::Unavailable { dependency: "the mesh", reason: chain(&error) })?;
    drop(joining);

    let ctx = Context {
        bus,
        membership,
        mesh,
        auth,
        service: service.clone(),
        instance: instance.clone(),
        settings: Arc::new(settings.common()),
        life: life.clone(),
    };
    let started = tokio::select! {
        started = S::start(ctx.clone(), settings.service.clone()) => started,
        () = life.shutdown().drain.cancelled() => return Ok(match life.failure() {
            Some(error) => Begun::Failed(ctx, error),
            None => Begun::AskedToEnd(ctx),
        }),
    };
    Ok(match started {
        Ok(service) => Begun::Started(service, ctx),
        Err(error) => Begun::Failed(ctx, error.context("can't start")),
    })
}

async fn provisioned(bus: &Bus, deadline: Instant) -> Result<MeshInfo, BootError> {
    loop {
        let error = match mesh_info(bus).await {
            Ok(mesh) => return Ok(mesh),
            Err(error @ MeshInfoError::Malformed(_)) => return Err(BootError::Fatal(error.into())),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(BootError::Unavailable { dependency: "the mesh", reason: chain(&error) });
        }
        tracing::info!(reason = %error, "waiting for the mesh");
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

// Not ready without NATS; refused permissions are fatal at the start and an alarm later.
async fn watch_nats(bus: Bus, life: Life) {
    let mut health = bus.health();
    let tested_until = Instant::now() + PERMISSION_TEST;
    let (mut away, mut violations) = (None, 0);
    loop {
        let now = health.borrow_and_update().clone();
        match (now.connected, &away) {
            (false, None) => away = Some(life.readiness().latch("NATS is not connected")),
            (true, Some(_)) => away = None,
            _ => {}
        }
        if now.permission_violations > violations {
            violations = now.permission_violations;
            let what = now.last_violation.unwrap_or_default();
            tracing::error!(violations, what, "NATS refused a permission");
            if Instant::now() < tested_until {
                life.fail(anyhow::anyhow!("NATS refused a permission that this service needs: {what}"));
            }
        }
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return },
            () = life.shutdown().drain.cancelled() => return,
        }
    }
}

async fn open_admin(
    listen: SocketAddr,
    doors: DoorsConfig,
    admin: Admin,
    service: &Token,
    life: &Life,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen} for the admin port (admin.listen)"))?;
    let drain = life.shutdown().drain.clone();
    let (grpc, mirroring) = Contracts::new(&[]).into_router(service, life.readiness().clone(), drain).await?;
    life.announce("admin", listener.local_addr()?);
    // Not tracked: it tells how the drain goes, to its end.
    tokio::spawn(admin::serve(listener, doors, admin, grpc, end));
    tokio::spawn(mirroring);
    Ok(())
}

async fn announce_when_ready(
    life: Life,
    mut told: Option<oneshot::Sender<Doors>>,
    mut file: Option<PathBuf>,
    gauge: metrics::Gauge,
) {
    loop {
        tokio::select! {
            () = life.readiness().ready() => {}
            () = life.shutdown().drain.cancelled() => break,
        }
        gauge.set(1);
        let doors = life.doors();
        tracing::info!(doors = %serde_json::json!(doors), "ready");
        if let Some(path) = file.take()
            && let Err(error) = write_doors(&path, &doors).await
        {
            return life.fail(error);
        }
        if let Some(told) = told.take() {
            // Who asked may have gone.
            let _ = told.send(doors);
        }
        tokio::select! {
            biased;
            // Draining is no alarm.
            () = life.shutdown().drain.cancelled() => break,
            () = life.readiness().until(false) => {}
        }
        gauge.set(0);
        tracing::warn!(reasons = ?life.readiness().reasons(), "not ready");
    }
    gauge.set(0);
}

// Whoever polls for the file finds it whole or not at all.
async fn write_doors(path: &std::path::Path, doors: &Doors) -> anyhow::Result<()> {
    let whole = || format!("can't write {}", path.display());
    let partial = path.with_extension("partial");
    tokio::fs::write(&partial, serde_json::to_vec(doors)?).await.with_context(whole)?;
    tokio::fs::rename(&partial, path).await.with_context(whole)
}

async fn leave(ctx: &Context, within: Duration) {
    ctx.shutdown().drain.cancel();
    if tokio::time::timeout(within, say_goodbye(ctx)).await.is_err() {
        tracing::warn!(?within, "could not leave the mesh in order");
    }
}

async fn say_goodbye(ctx: &Context) -> Parting {
    let parting = ctx.membership.leave().await;
    // What a lost connection still holds is held for nobody.
    if ctx.bus.health().borrow().connected {
        ctx.bus.drain().await;
    }
    parting
}

async fn look_at_keys(auth: Verifier, mut keys: watch::Receiver<()>, end: CancellationToken) {
    while let Some(Ok(())) = end.run_until_cancelled(keys.changed()).await {
        if let Err(error) = auth.refresh() {
            tracing::error!(error = chain(&error), "the key file is bad: the old keys stay in use");
        }
    }
}

pub(crate) fn fresh_instance(service: &Token) -> Instance {
    let random = RandomState::new().hash_one(std::process::id()) as u32;
    let name: String = service.as_str().chars().take(55).chain(format!("-{random:08x}").chars()).collect();
    Instance::new(&name).expect("a shortened token and hexadecimal digits are a token")
}
