//! The task that watches over a connection.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, Event, ServerError, connection::State};
use tokio::sync::{mpsc, watch};

use crate::{Health, metrics::Metrics, replies::Replies};

/// Turns the client's events into [`Health`], and tells those who await answers that a connection broke.
pub(crate) struct Watcher {
    pub(crate) client: Client,
    pub(crate) replies: Arc<Replies>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// Connections made so far.
    pub(crate) connections: u64,
}

impl Watcher {
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        // Events may be lost when many come at once; the state itself can't.
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.apply(event),
                    None => return self.health.send_modify(|health| {
                        health.connected = false;
                        health.closed = true;
                    }),
                },
                _ = look.tick() => {}
            }
            self.look();
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::ServerError(ServerError::Other(text)) if text.to_lowercase().contains("permissions violation") => {
                tracing::error!(violation = %text, "NATS refused a publish or subscription");
                self.metrics.permission_violations.increment(1);
                self.health.send_modify(|health| {
                    health.permission_violations += 1;
                    health.last_violation = Some(text);
                });
            }
            Event::ServerError(error) => tracing::warn!(%error, "NATS reported an error"),
            Event::ClientError(error) => tracing::warn!(%error, "NATS connection"),
            Event::SlowConsumer(_) => {
                self.metrics.slow_consumer_events.increment(1);
                self.health.send_modify(|health| health.slow_consumer_events += 1);
            }
            Event::Closed => self.health.send_modify(|health| {
                health.connected = false;
                health.closed = true;
            }),
            Event::LameDuckMode => tracing::info!("the NATS server is going to stop"),
            Event::Connected | Event::Disconnected | Event::Draining => {}
        }
    }

    fn look(&mut self) {
        let connections = self.client.statistics().connects.load(Ordering::Relaxed).max(1);
        let connected = self.client.connection_state() == State::Connected && !self.health.borrow().closed;
        let anew = connections != self.connections;
        if anew {
            self.metrics.reconnects.increment(connections.saturating_sub(self.connections));
            self.connections = connections;
        }
        let changed = self.health.send_if_modified(|health| {
            let changed = health.connected != connected || health.connections != connections;
            health.connected = connected;
            health.connections = connections;
            changed
        });
        if changed {
            if anew || !connected {
                self.replies.lose_all();
            }
            tracing::info!(connected, connections, "NATS connection");
        }
    }
}
