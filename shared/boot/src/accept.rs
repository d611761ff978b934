//! A listener with a limit that survives the lack of file descriptors.

use std::{convert::Infallible, sync::Arc, time::Duration};

use pushmesh_protocol::metric::boot as names;
use pushmesh_telemetry::metric;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;

/// How long the listener rests after an error: file descriptors don't come back at once.
const REST: Duration = Duration::from_millis(100);

pub(crate) struct Counters {
    pub open: metrics::Gauge,
    pub refused: metrics::Counter,
    pub errors: metrics::Counter,
    /// Closed since nothing came.
    pub silent: metrics::Counter,
}

impl Counters {
    pub(crate) fn of(service: &str) -> Self {
        let labels = [("service", service)];
        Self {
            open: metric::gauge_with(&names::DOOR_CONNECTIONS, &labels),
            refused: metric::counter_with(&names::DOOR_REFUSED, &labels),
            errors: metric::counter_with(&names::DOOR_ACCEPT_ERRORS, &labels),
            silent: metric::counter_with(&names::DOOR_SILENT, &labels),
        }
    }
}

/// What a door allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Beyond so many open connections, new ones are closed at once.
    pub connections_max: usize,
    pub first_byte_within: Duration,
}

/// Accepts until `end` is cancelled. `cut` drops those that are open.
pub(crate) fn connections(
    listener: TcpListener,
    bounds: Bounds,
    counters: Counters,
    end: CancellationToken,
    cut: CancellationToken,
) -> (ReceiverStream<Result<Connection, Infallible>>, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(1);
    let permits = Arc::new(Semaphore::new(bounds.connections_max));
    let accepting = async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = end.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    counters.errors.increment(1);
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                counters.refused.increment(1);
                continue;
            };
            // Without it a small answer waits for the peer's delayed ack; if it fails, the connection is broken anyway.
            let _ = stream.set_nodelay(true);
            let connection = Connection::new(stream, cut.child_token(), bounds.first_byte_within, &counters, permit);
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    };
    (ReceiverStream::new(receiver), accepting)
}
