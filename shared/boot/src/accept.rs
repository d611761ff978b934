//! A listener with a limit that survives the lack of file descriptors.

use std::{convert::Infallible, sync::Arc, time::Duration};

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
}

/// Accepts until `end` is cancelled; beyond `limit` open connections, new ones are closed at once. `cut` drops those that are
/// open.
pub(crate) fn connections(
    listener: TcpListener,
    limit: usize,
    counters: Counters,
    end: CancellationToken,
    cut: CancellationToken,
) -> (ReceiverStream<Result<Connection, Infallible>>, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(1);
    let permits = Arc::new(Semaphore::new(limit));
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
            let connection = Connection::new(stream, cut.child_token(), counters.open.clone(), permit);
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    };
    (ReceiverStream::new(receiver), accepting)
}
