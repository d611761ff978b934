//! After the bus was away for so long that this comet counted as gone, its sessions are put again.

use std::time::Duration;

use pushmesh_bus::Bus;
use pushmesh_membership::Membership;
use pushmesh_protocol::metric::comet as names;
use pushmesh_telemetry::metric::counter;
use tokio::{sync::oneshot, time::Instant};

use super::session::SessionWriter;
use crate::shard::{
    command::{Queues, Renewal, Urgent},
    outlet::SessionNote,
    wall,
};

/// Sessions put in one go, and the pause between two goes.
const SLICE: usize = 500;
const SLICE_EVERY: Duration = Duration::from_millis(50);

pub struct Reput {
    pub bus: Bus,
    pub membership: Membership,
    pub writer: SessionWriter,
    pub shards: Vec<Queues>,
    pub after: Duration,
}

impl Reput {
    /// Watches the bus until it is closed.
    pub async fn run(self) {
        let mut health = self.bus.health();
        let mut away_since: Option<Instant> = None;
        loop {
            let (connected, closed) = {
                let health = health.borrow_and_update();
                (health.connected, health.closed)
            };
            if closed {
                return;
            }
            match (connected, away_since) {
                (false, None) => away_since = Some(Instant::now()),
                (true, Some(since)) => {
                    away_since = None;
                    if since.elapsed() >= self.after {
                        self.put_all().await;
                    }
                }
                _ => {}
            }
            if health.changed().await.is_err() {
                return;
            }
        }
    }

    async fn put_all(&self) {
        let mut count = 0;
        for queues in &self.shards {
            let (answer, answered) = oneshot::channel();
            if queues.urgent.send(Urgent::Sessions(answer)).await.is_err() {
                return;
            }
            let Ok(mut notes) = answered.await else { return };
            count += notes.len();
            while !notes.is_empty() {
                let rest = notes.split_off(notes.len().min(SLICE));
                self.put(queues, notes).await;
                notes = rest;
                tokio::time::sleep(SLICE_EVERY).await;
            }
        }
        counter(&names::SESSIONS_REPUT).increment(count as u64);
        tracing::info!(sessions = count, "sessions put again after the bus was away");
    }

    async fn put(&self, queues: &Queues, mut notes: Vec<SessionNote>) {
        let comet_epoch = self.membership.epoch();
        notes.iter_mut().for_each(|note| note.comet_epoch = comet_epoch);
        let outcomes = self.writer.put_all(&notes).await;
        let mut renewed = Vec::with_capacity(notes.len());
        for (mut note, outcome) in notes.into_iter().zip(outcomes) {
            match outcome {
                Ok(revision) => {
                    note.revision = revision;
                    renewed.push((note, Renewal { revision, comet_epoch }));
                }
                // Its end will be refused by its revision, or the next outage puts it again.
                Err(error) => tracing::warn!(%error, "a session could not be put again"),
            }
        }
        let (gone, told) = oneshot::channel();
        let pairs = renewed.iter().map(|(note, renewal)| (note.address, *renewal)).collect();
        if queues.urgent.send(Urgent::Renewed(pairs, gone)).await.is_err() {
            return;
        }
        // Those that left meanwhile wrote their end under the old revision, in vain: it is written for them.
        for address in told.await.unwrap_or_default() {
            if let Some((note, _)) = renewed.iter().find(|(note, _)| note.address == address) {
                self.writer.left(note, wall()).await;
            }
        }
    }
}
