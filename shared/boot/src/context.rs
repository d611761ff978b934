//! What a service gets to work with.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

use pushmesh_auth::{Door, Verifier};
use pushmesh_bus::Bus;
use pushmesh_membership::Membership;
use pushmesh_protocol::{Instance, Token, message::MeshInfo};
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    readiness::{Latch, Readiness},
    settings::{Common, DoorConfig},
    shutdown::Shutdown,
};

/// The mesh as seen by one running service. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub bus: Bus,
    pub membership: Membership,
    /// Partitions and kinds, as provisioned.
    pub mesh: MeshInfo,
    pub auth: Verifier,
    /// The name under which it joined: [`crate::Service::member_name`].
    pub service: Token,
    pub instance: Instance,
    /// The tables that all services have.
    pub settings: Arc<Common>,
    pub(crate) life: Life,
}

/// What the lifecycle keeps: there before NATS is.
#[derive(Clone)]
pub(crate) struct Life(Arc<Inner>);

struct Inner {
    shutdown: Shutdown,
    readiness: Readiness,
    tracker: TaskTracker,
    doors: Mutex<BTreeMap<String, SocketAddr>>,
    failure: Mutex<Option<anyhow::Error>>,
    failed: OnceLock<()>,
}

impl Context {
    /// The tokens of the two stages of its end.
    pub fn shutdown(&self) -> &Shutdown {
        self.life.shutdown()
    }

    /// Not ready, because of `why`, until the latch is dropped: at the start and at any time later.
    pub fn latch(&self, why: &'static str) -> Latch {
        self.life.readiness().latch(why)
    }

    pub fn readiness(&self) -> &Readiness {
        self.life.readiness()
    }

    /// Tells people and `--ready-file` where a door listens.
    pub fn announce(&self, door: &'static str, address: SocketAddr) {
        self.life.announce(door, address);
    }

    /// The service can't go on: it drains and exits with 1. The first error counts.
    pub fn fail(&self, error: anyhow::Error) {
        self.life.fail(error);
    }

    /// Runs a task that the end of the service awaits; it should end by itself when `drain` is cancelled, and is aborted
    /// by `stop`. A panic in it is fatal for the service.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.life.spawn(name, task);
    }

    /// Runs a task whose end is the service's own to await or to abort, within [`crate::Service::drain`]. A panic in it is
    /// fatal for the service.
    pub fn spawn_own(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let life = self.life.clone();
        tokio::spawn(async move {
            let ended = AbortOnDropHandle::new(tokio::spawn(task)).await;
            if ended.is_err_and(|error| error.is_panic()) {
                life.fail(anyhow::anyhow!("task {name} panicked"));
            }
        })
    }

    /// The checker of a backend door: its own `insecure_local`, or that of `[auth]`, opens it on loopback.
    pub fn door(&self, door: &DoorConfig) -> Result<Door, pushmesh_auth::DoorError> {
        Door::new(self.auth.clone(), door.listen, door.insecure_local || self.settings.auth.insecure_local)
    }
}

impl Life {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            shutdown,
            readiness: Readiness::new(),
            tracker: TaskTracker::new(),
            doors: Mutex::default(),
            failure: Mutex::default(),
            failed: OnceLock::new(),
        }))
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    pub(crate) fn announce(&self, door: &str, address: SocketAddr) {
        tracing::info!(door, %address, "door open");
        self.0.doors.lock().expect("nothing panics while it holds this").insert(door.to_owned(), address);
    }

    pub(crate) fn doors(&self) -> BTreeMap<String, SocketAddr> {
        self.0.doors.lock().expect("nothing panics while it holds this").clone()
    }

    pub(crate) fn fail(&self, error: anyhow::Error) {
        tracing::error!(error = format!("{error:#}"), "fatal: draining");
        if self.0.failed.set(()).is_ok() {
            *self.0.failure.lock().expect("nothing panics while it holds this") = Some(error);
        }
        self.0.shutdown.drain.cancel();
    }

    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        self.0.failure.lock().expect("nothing panics while it holds this").take()
    }

    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let life = self.clone();
        self.0.tracker.spawn(async move {
            let mut task = tokio::spawn(task);
            tokio::select! {
                ended = &mut task => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        life.fail(anyhow::anyhow!("task {name} panicked"));
                    }
                }
                () = life.shutdown().stop.cancelled() => task.abort(),
            }
        });
    }

    /// Returns when all tracked tasks have ended. None can be added in between: the service has drained.
    pub(crate) async fn tasks_ended(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}
