//! How full this comet is, and how full the others are: where clients go, and where they are sent.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use pushmesh_bus::{Bus, Subscription};
use pushmesh_membership::Membership;
use pushmesh_protocol::{
    Instance,
    message::Millis,
    metric::comet as names,
    name::{Subject, parse},
    room::CometStatus,
    wire,
};
use pushmesh_telemetry::metric::counter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{limit::Door, shard::wall};

const EVERY: Duration = Duration::from_secs(1);
/// After how long unheard a comet is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Tells all others once a second.
pub struct StatusTeller {
    pub bus: Bus,
    pub membership: Membership,
    pub instance: Instance,
    pub door: Arc<Door>,
    /// Rooms with a member here.
    pub rooms: Arc<AtomicU32>,
    /// Where clients reach this comet; empty where nowhere.
    pub websocket: String,
    pub tcp: String,
}

impl StatusTeller {
    /// Tells until it is dropped; at once when the goodbye begins, so that nobody is sent here any more.
    pub async fn run(self, draining: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = draining.cancelled(), if !draining.is_cancelled() => {}
            }
            let status = wire::encode(&self.status(draining.is_cancelled(), wall()));
            if let Err(error) = self.bus.publish(Subject::comet_status(&self.instance), status.into()).await {
                tracing::debug!(%error, "this second's status is not told");
            }
        }
    }

    fn status(&self, draining: bool, at: Millis) -> CometStatus {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        CometStatus {
            epoch: self.membership.epoch(),
            connections: count(self.door.open()),
            capacity: count(self.door.limits().connections),
            rooms: self.rooms.load(Ordering::Relaxed),
            draining,
            websocket: self.websocket.clone(),
            tcp: self.tcp.clone(),
            at,
        }
    }
}

/// What a comet said of itself, and when that was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    pub status: CometStatus,
    pub at: Instant,
}

/// The newest of each comet, this one among them.
pub type Statuses = HashMap<Instance, Heard>;

/// Hears all comets until the subscription ends.
pub async fn hear(mut statuses: Subscription, heard: watch::Sender<Statuses>) {
    let malformed = counter(&names::MALFORMED);
    while let Some(message) = statuses.next().await {
        match (parse::comet_status(&message.subject), wire::decode::<CometStatus>(&message.payload)) {
            (Some(comet), Ok(status)) => heard.send_modify(|all| note(all, comet, status, Instant::now())),
            _ => malformed.increment(1),
        }
    }
}

fn note(all: &mut Statuses, comet: Instance, status: CometStatus, now: Instant) {
    let is_new = all.insert(comet, Heard { status, at: now }).is_none();
    if is_new {
        all.retain(|_, heard| now.saturating_duration_since(heard.at) < FORGOTTEN_AFTER);
    }
}
