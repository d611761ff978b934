//! The smallest whole service: one door, one latch, and ways to go wrong. What boot's tests run.

use std::{
    convert::Infallible,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, routing::post};
use futures_util::stream::repeat;
use pushmesh_boot::{Context, Contracts, DoorConfig, FieldError, Latch, Service, ServiceConfig};
use pushmesh_membership::{Lease, PartitionWork};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The door. Default a free port on loopback.
    door: DoorConfig,
    /// How long draining takes. Default 0s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    drain_takes: Duration,
    /// Refuses to start. Default false.
    refuse: bool,
    /// Takes partitions, and works on them until told to stop. Default false.
    own: bool,
    /// Sends what it may not, where permissions are restricted. Default false.
    overreach: bool,
    /// At most 9. Default 1.
    number: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            door: DoorConfig::default(),
            drain_takes: Duration::ZERO,
            refuse: false,
            own: false,
            overreach: false,
            number: 1,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        if self.number > 9 {
            return Err(FieldError::new("number", format!("is {}; must be at most 9", self.number)));
        }
        Ok(())
    }

    fn doors(&self) -> Vec<(&'static str, &DoorConfig)> {
        vec![("door", &self.door)]
    }
}

struct Waiting;

impl PartitionWork for Waiting {
    async fn run(self: Arc<Self>, lease: Lease) {
        lease.released().await;
    }
}

struct Tiny {
    drain_takes: Duration,
}

impl Service for Tiny {
    const NAME: &'static str = "tiny";
    const ABOUT: &'static str = "The smallest whole service";
    type Config = Config;

    async fn start(ctx: Context, config: Config) -> anyhow::Result<Self> {
        let _starting = ctx.latch("tiny is starting");
        anyhow::ensure!(!config.refuse, "it was told to refuse");
        if config.overreach {
            let stranger = pushmesh_protocol::name::Subject::login_report();
            ctx.bus.publish(stranger, "x".into()).await?;
        }
        if config.own {
            ctx.membership.own(ctx.mesh.partitions, Arc::new(Waiting));
        }
        let door = ctx.door(&config.door)?;
        let held: Arc<Mutex<Option<Latch>>> = Arc::default();
        let (latching, failing, panicking) = (ctx.clone(), ctx.clone(), ctx.clone());
        let unheld = held.clone();
        let extra = Router::new()
            .route(
                "/guarded",
                post(async move |headers: axum::http::HeaderMap| {
                    match door.check_http(&headers, pushmesh_auth::Scope::PushWrite) {
                        Ok(backend) => Ok(format!("welcome, {}", backend.name)),
                        Err(error) => Err((error.http_status(), error.to_string())),
                    }
                }),
            )
            .route(
                "/latch",
                post(async move || *held.lock().expect("not poisoned") = Some(latching.latch("told to be not ready"))),
            )
            .route("/unlatch", post(async move || drop(unheld.lock().expect("not poisoned").take())))
            // Answers without having read what is sent.
            .route("/early", post(async || "no need to go on"))
            // Never ends.
            .route("/endless", post(async || Body::from_stream(repeat(Ok::<_, Infallible>([b'x'; 1024].as_slice())))))
            .route("/fail", post(async move || failing.fail(anyhow::anyhow!("told to fail"))))
            .route("/panic", post(async move || panicking.spawn("panicking", async { panic!("told to panic") })));
        ctx.serve_grpc(&config.door, Contracts::new(&[]), Some(extra)).await?;
        let drain = ctx.shutdown().drain.clone();
        ctx.spawn("waiting", async move { drain.cancelled().await });
        Ok(Self { drain_takes: config.drain_takes })
    }

    async fn drain(self) {
        tokio::time::sleep(self.drain_takes).await;
    }
}

fn main() -> ExitCode {
    pushmesh_boot::main::<Tiny>()
}
