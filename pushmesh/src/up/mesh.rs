//! The mesh in this process: its start, its doors, its end.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use anyhow::{Context, anyhow};
use pushmesh_auth::Minter;
use pushmesh_broker::Server;
use pushmesh_bus::{Bus, Difference};
use pushmesh_protocol::{Instance, Partitions, Token, message::MeshInfo, topology::topology};
use pushmesh_telemetry::{InitError, Telemetry};
use tokio::time::{interval, timeout};

use super::{
    Options,
    folder::Folder,
    services::{Launcher, Running, Stage, Tasks, ended},
};
use crate::{
    doors::{Ready, port},
    exit::Failure,
};

/// How long all services may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often the own nats-server is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// A running mesh.
///
/// Dropped without [`Mesh::stop`] it ends at once, without draining.
pub struct Mesh {
    ready: Ready,
    mesh: MeshInfo,
    running: Vec<Running>,
    tasks: Tasks,
    server: Option<Server>,
    telemetry: Option<Telemetry>,
    _folder: Folder,
}

impl Mesh {
    /// Starts everything and returns when all services are ready.
    pub async fn start(options: Options) -> Result<Self, Failure> {
        let folder = Folder::open(&options.data)?;
        let telemetry = telemetry(&options)?;
        let jwks = folder.jwks()?;
        let (server, nats_url) = nats(&options, &folder).await?;
        let mesh = provisioned(&options, &nats_url).await?;
        let mut tasks = Tasks::new();
        let launcher =
            Launcher { options, nats_url: nats_url.clone(), jwks: jwks.clone(), telemetry: telemetry.clone() };
        let mut running = launcher.launch(&mut tasks);
        let doors = match timeout(READY_WITHIN, all_ready(&mut running, &mut tasks)).await {
            Ok(doors) => doors?,
            Err(_) => {
                return Err(Failure::unavailable(anyhow!("not ready within {READY_WITHIN:?}: {}", slow(&running))));
            }
        };
        let ready = Ready {
            pid: std::process::id(),
            data: folder.path().to_owned(),
            nats: nats_url,
            jwks,
            partitions: mesh.partitions.count(),
            kinds: mesh.kinds.clone(),
            doors,
        };
        folder.tell_ready(&ready)?;
        Ok(Self { ready, mesh, running, tasks, server, telemetry, _folder: folder })
    }

    /// Where everything is.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// `127.0.0.1:1234`.
    pub fn door(&self, service: &str, door: &str) -> anyhow::Result<String> {
        let address = self.ready.door(service, door);
        address.map(|address| address.to_string()).ok_or_else(|| anyhow!("the mesh has no {door} door of {service}"))
    }

    /// Makes tokens that the mesh believes.
    pub fn minter(&self) -> anyhow::Result<Minter> {
        Minter::from_jwks(&self.ready.jwks).with_context(|| format!("no keys in {}", self.ready.jwks.display()))
    }

    /// A connection of one's own to the mesh's NATS.
    pub async fn bus(&self, name: &str) -> anyhow::Result<Bus> {
        let (service, instance) = (Token::new(name)?, Instance::new(&format!("{name}-{}", std::process::id()))?);
        Ok(Bus::connect(&pushmesh_bus::Config::to(&self.ready.nats), &service, &instance).await?)
    }

    pub fn partitions(&self) -> Partitions {
        self.mesh.partitions
    }

    /// Returns when something that the mesh needs has ended unasked. Cancel safe.
    pub async fn broken(&mut self) -> anyhow::Error {
        let mut look_after = interval(LOOK_AFTER);
        loop {
            tokio::select! {
                Some(joined) = self.tasks.join_next() => match joined {
                    Ok((number, result)) => {
                        let service = &mut self.running[number];
                        service.ended = true;
                        return ended(&service.name, result);
                    }
                    Err(panic) => return anyhow::Error::new(panic).context("a service panicked"),
                },
                _ = look_after.tick() => {
                    if self.server.as_mut().is_some_and(|server| !server.is_running()) {
                        return anyhow!("nats-server ended; its log is in {}", self.ready.data.join("nats").display());
                    }
                }
            }
        }
    }

    /// Drains the services, who hands on before who takes, then ends the nats-server.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let mut first_error = None;
        for stage in Stage::IN_ORDER {
            let members = || self.running.iter().filter(move |service| service.stage == stage);
            members().for_each(|service| service.shutdown.drain.cancel());
            while self.running.iter().any(|service| service.stage == stage && !service.ended) {
                match self.tasks.join_next().await {
                    Some(Ok((number, result))) => {
                        let service = &mut self.running[number];
                        service.ended = true;
                        // A service of a later stage that ends by itself now is an error even if it ends well.
                        let asked = service.shutdown.drain.is_cancelled();
                        if !asked || result.is_err() {
                            first_error.get_or_insert_with(|| ended(&service.name, result));
                        }
                    }
                    Some(Err(panic)) => {
                        first_error.get_or_insert_with(|| anyhow::Error::new(panic).context("a service panicked"));
                    }
                    None => break,
                }
            }
        }
        if let Some(mut server) = self.server.take() {
            server.stop().await;
        }
        if let Some(telemetry) = self.telemetry.take() {
            // It blocks while the last spans leave, and a panic in it is nobody's loss.
            let _panicked = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Once a process: a second mesh in it shares what the first has set up.
fn telemetry(options: &Options) -> Result<Option<Telemetry>, Failure> {
    let Some(config) = &options.telemetry else { return Ok(None) };
    config.validate().map_err(Failure::config)?;
    match pushmesh_telemetry::init(config, "pushmesh", &format!("up-{}", std::process::id())) {
        Ok(telemetry) => Ok(Some(telemetry)),
        Err(InitError::Twice(_)) => Ok(None),
        Err(error) => Err(Failure::config(error)),
    }
}

async fn nats(options: &Options, folder: &Folder) -> Result<(Option<Server>, String), Failure> {
    if let Some(url) = &options.nats_url {
        return Ok((None, url.clone()));
    }
    let mut config = pushmesh_broker::Options::new(folder.path().join("nats"));
    config.port = if options.free_ports { 0 } else { port::NATS };
    // nats-server would say so too, at the end of a log. Dropped at once: it is only asked for.
    if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)) {
        let taken = anyhow!("port {} for nats-server: {error}; does another mesh run? give --free-ports", config.port);
        return Err(Failure::unavailable(taken));
    }
    let server = Server::start(config).await.map_err(Failure::unavailable)?;
    let url = server.url();
    Ok((Some(server), url))
}

/// Provisions the server, and says what the mesh is.
async fn provisioned(options: &Options, nats_url: &str) -> Result<MeshInfo, Failure> {
    let bus = crate::provision::connect(&pushmesh_bus::Config::to(nats_url), "up").await?;
    let report = pushmesh_bus::provision(&bus, &topology(&options.topology)).await;
    let mesh = pushmesh_bus::mesh_info(&bus).await;
    bus.drain().await;
    for Difference { what, field, wanted, found } in report.map_err(Failure::config)?.differs {
        tracing::warn!(what, field, wanted, found, "the server differs from what this version wants");
    }
    mesh.map_err(Failure::unavailable)
}

/// The doors of all services, once the last is ready; an error as soon as one ends.
async fn all_ready(
    running: &mut [Running],
    tasks: &mut Tasks,
) -> Result<BTreeMap<String, pushmesh_boot::Doors>, Failure> {
    let names: Vec<_> = running.iter().map(|service| service.name.clone()).collect();
    let mut doors = BTreeMap::new();
    for service in running {
        let Some(mut ready) = service.ready.take() else { continue };
        let told = tokio::select! {
            told = &mut ready => told,
            Some(joined) = tasks.join_next() => return Err(why(joined, &names)),
        };
        match told {
            Ok(told) => doors.insert(service.name.clone(), told),
            // It has ended, and its task says why.
            Err(_) => return Err(first_to_end(tasks, &names).await),
        };
    }
    Ok(doors)
}

async fn first_to_end(tasks: &mut Tasks, names: &[String]) -> Failure {
    match tasks.join_next().await {
        Some(joined) => why(joined, names),
        None => Failure::failed(anyhow!("a service ended before it was ready")),
    }
}

fn why(
    joined: Result<(usize, Result<(), pushmesh_boot::BootError>), tokio::task::JoinError>,
    names: &[String],
) -> Failure {
    match joined {
        Ok((number, result)) => {
            let code = result.as_ref().err().map_or(1, pushmesh_boot::BootError::exit_code);
            let error = ended(&names[number], result).context("the mesh can't start (ports taken? give --free-ports)");
            match code {
                69 => Failure::unavailable(error),
                78 => Failure::config(error),
                _ => Failure::failed(error),
            }
        }
        Err(panic) => Failure::failed(anyhow::Error::new(panic).context("a service panicked")),
    }
}

fn slow(running: &[Running]) -> String {
    // A service's receiver is taken when it is its turn to be waited for.
    let waiting: Vec<_> = running.iter().filter(|service| service.ready.is_some()).map(|s| s.name.as_str()).collect();
    if waiting.is_empty() { "the last service".into() } else { format!("before {}", waiting.join(", ")) }
}
