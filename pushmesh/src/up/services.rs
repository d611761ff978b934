//! The services of one process: how each is configured there, and in which order they end.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::anyhow;
use pushmesh_boot::{BootError, Control, DoorConfig, Doors, Service, ServiceConfig, Settings, Shutdown};
use pushmesh_protocol::Kind;
use pushmesh_telemetry::Telemetry;
use tokio::{sync::oneshot, task::JoinSet};

use super::Options;
use crate::doors::port;

/// How long one service may take to drain.
const GRACE: Duration = Duration::from_secs(5);
/// How long the comet paces its goodbye: on a laptop nobody waits for it.
const GOODBYE: Duration = Duration::from_secs(2);

/// What all services of the process have in common.
pub struct Launcher {
    pub options: Options,
    pub nats_url: String,
    pub jwks: PathBuf,
    pub telemetry: Option<Telemetry>,
}

/// Services that end together: who hands work to others before those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Edge,
    Ingest,
    Distribution,
    Push,
    Delivery,
}

impl Stage {
    pub const IN_ORDER: [Self; 5] = [Self::Edge, Self::Ingest, Self::Distribution, Self::Push, Self::Delivery];
}

/// A service that was started.
pub struct Running {
    pub name: String,
    pub stage: Stage,
    pub shutdown: Shutdown,
    pub ready: Option<oneshot::Receiver<Doors>>,
    pub ended: bool,
}

/// Runs to the end of the service with this number.
pub type Tasks = JoinSet<(usize, Result<(), BootError>)>;

impl Launcher {
    /// Starts all services of the mesh.
    pub fn launch(&self, tasks: &mut Tasks) -> Vec<Running> {
        let mut all = Launched { launcher: self, tasks, running: Vec::new() };
        let config = login_ingest::Config { door: self.door(port::LOGIN_INGEST), ..Default::default() };
        all.add::<login_ingest::Service>("login-ingest", Stage::Ingest, config);
        all.add::<distributor::Service>("distributor", Stage::Distribution, distributor::Config::default());
        for kind in &self.options.topology.kinds {
            self.launch_kind(kind, &mut all);
        }
        let config = ack_retry::Config { door: self.door(port::ACK_RETRY), ..Default::default() };
        all.add::<ack_retry::Service>("ack-retry", Stage::Delivery, config);
        all.add::<comet::Service>("comet", Stage::Edge, self.comet());
        let config = api::Config { door: self.door(port::API), ..Default::default() };
        all.add::<api::Service>("api", Stage::Edge, config);
        all.add::<room_fanout::Service>("room-fanout", Stage::Delivery, room_fanout::Config::default());
        all.running
    }

    fn launch_kind(&self, kind: &Kind, all: &mut Launched<'_>) {
        let name = kind.service().to_string();
        match kind.as_str() {
            "discuss" => {
                let config = discuss_push::Config { door: self.door(port::DISCUSS_PUSH), ..Default::default() };
                all.add::<discuss_push::Service>(&name, Stage::Push, config);
            }
            "org" => {
                let config = org_push::Config { door: self.door(port::ORG_PUSH), ..Default::default() };
                all.add::<org_push::Service>(&name, Stage::Push, config);
            }
            other => {
                let port = if other == "group" { port::GROUP_PUSH } else { 0 };
                let config = group_push::Config { kind: kind.clone(), door: self.door(port), ..Default::default() };
                all.add::<group_push::Service>(&name, Stage::Push, config);
            }
        }
    }

    fn comet(&self) -> comet::Config {
        let mut config = comet::Config {
            websocket: self.listen(port::COMET_WS),
            tcp: self.listen(port::COMET_TCP),
            drain_for: GOODBYE,
            ..Default::default()
        };
        config.limits.per_address = self.options.connections_per_address;
        config
    }

    fn door(&self, port: u16) -> DoorConfig {
        DoorConfig { listen: self.listen(port), insecure_local: self.options.insecure_local }
    }

    fn listen(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, if self.options.free_ports { 0 } else { port }).into()
    }

    fn settings<C: ServiceConfig>(&self, number: u16, service: C) -> Settings<C> {
        let mut settings = Settings { service, ..Default::default() };
        settings.nats = pushmesh_bus::Config::to(&self.nats_url);
        settings.admin.listen = self.listen(port::ADMIN + number);
        settings.auth.jwks_file = Some(self.jwks.clone());
        settings.shutdown.grace = GRACE;
        settings
    }
}

struct Launched<'a> {
    launcher: &'a Launcher,
    tasks: &'a mut Tasks,
    running: Vec<Running>,
}

impl Launched<'_> {
    fn add<S: Service>(&mut self, name: &str, stage: Stage, config: S::Config) {
        let (number, shutdown) = (self.running.len(), Shutdown::new());
        let (told, ready) = oneshot::channel();
        let control = Control {
            shutdown: shutdown.clone(),
            ready: Some(told),
            telemetry: self.launcher.telemetry.clone(),
            ..Default::default()
        };
        let settings = self.launcher.settings(number as u16, config);
        self.tasks.spawn(numbered(number, Box::pin(pushmesh_boot::run::<S>(settings, control))));
        self.running.push(Running { name: name.to_owned(), stage, shutdown, ready: Some(ready), ended: false });
    }
}

async fn numbered<T>(number: usize, work: impl Future<Output = T>) -> (usize, T) {
    (number, work.await)
}

/// What it means that a service ended unasked.
pub fn ended(name: &str, result: Result<(), BootError>) -> anyhow::Error {
    match result {
        Ok(()) => anyhow!("{name} ended"),
        Err(error) => anyhow::Error::new(error).context(format!("{name} ended")),
    }
}
