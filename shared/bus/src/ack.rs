//! Acknowledgements of delivered messages: said without waiting, written by one task per connection.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{consume::ledger::Claim, metrics::Metrics};

/// Acks that may wait for the connection; more are dropped, counted, and their messages come again.
const QUEUE_MAX: usize = 1 << 16;
const ACK: &[u8] = b"+ACK";

pub(crate) enum Command {
    Say { to: Subject, what: Bytes },
    Flush(oneshot::Sender<()>),
}

#[derive(Clone)]
pub(crate) struct AckQueue {
    queue: mpsc::Sender<Command>,
    metrics: Arc<Metrics>,
}

/// Answers for one delivery. Dropped without an answer, the message comes again after its consumer's ack wait or at the
/// next take-over.
#[derive(Clone)]
pub struct Acker {
    to: Subject,
    queue: AckQueue,
    claim: Arc<Claim>,
}

impl Acker {
    pub(crate) fn new(to: Subject, queue: AckQueue, claim: Claim) -> Self {
        Self { to, queue, claim: Arc::new(claim) }
    }

    /// Done: a WorkQueue stream deletes the message.
    pub fn ack(self) {
        self.claim.acked();
        self.queue.say(self.to, Bytes::from_static(ACK));
    }

    /// Not done: it comes again after `delay`. Later messages may overtake it.
    pub fn retry_after(self, delay: Duration) {
        let what = if delay.is_zero() {
            Bytes::from_static(b"-NAK")
        } else {
            format!("-NAK {{\"delay\":{}}}", delay.as_nanos()).into()
        };
        self.claim.returned();
        self.queue.say(self.to, what);
    }
}

impl AckQueue {
    /// Says again that a message is done, whose first ack was lost with a connection.
    pub(crate) fn ack_again(&self, to: Subject) {
        self.say(to, Bytes::from_static(ACK));
    }

    fn say(&self, to: Subject, what: Bytes) {
        if self.queue.try_send(Command::Say { to, what }).is_err() {
            self.metrics.acks_dropped.increment(1);
        }
    }

    /// Returns when everything said before has been handed to the connection.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Command::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

pub(crate) fn start(client: Client, metrics: Arc<Metrics>, stop: CancellationToken) -> AckQueue {
    let (queue, mut commands) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(async move {
        let mut some = Vec::with_capacity(256);
        // Disconnected, `publish` waits for a place in the connection's queue: the bound above holds the rest.
        while let Some(1..) = stop.run_until_cancelled(commands.recv_many(&mut some, 256)).await {
            for command in some.drain(..) {
                match command {
                    Command::Say { to, what } => {
                        let publish = client.publish(to, what);
                        if !matches!(stop.run_until_cancelled(publish).await, Some(Ok(()))) {
                            return;
                        }
                    }
                    Command::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        }
    });
    AckQueue { queue, metrics }
}
