//! What a shard is told, and through which queues.

use std::time::Instant;

use bytes::Bytes;
use pushmesh_protocol::{Partition, PushId, UserId, frame::KickReason, message::Epoch};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::{address::Address, shard::outlet::SessionNote};

/// Answers and orders that wait for one shard; senders wait where they are full.
const URGENT_COMMANDS: usize = 4096;
/// Batches of deliveries that wait for one shard; more are dropped and counted, and their pushes sent again.
const DELIVERY_BATCHES: usize = 1024;

/// One thing to do.
#[derive(Debug)]
pub enum Urgent {
    /// The answer to a connection's question.
    Answer {
        to: Address,
        frame: Bytes,
    },
    StopAccepting,
    /// Tells up to `count` connections to go elsewhere and closes them.
    Goodbye {
        count: usize,
        after_most_ms: u32,
        address: Option<String>,
    },
    /// All sessions there are now.
    Sessions(oneshot::Sender<Vec<SessionNote>>),
    /// Sessions that were put again; answered by those that are gone meanwhile.
    Renewed(Vec<(Address, Renewal)>, oneshot::Sender<Vec<Address>>),
    Stop,
}

#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    pub revision: u64,
    pub comet_epoch: Epoch,
}

/// What one message off the bus brings to one shard: one send, one wake.
#[derive(Debug)]
pub struct Batch {
    pub received: Instant,
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug)]
pub struct Delivery {
    pub to: Address,
    pub what: What,
    /// Ends when the socket has the frame; only sampled deliveries have one.
    pub span: Option<Box<Span>>,
}

#[derive(Debug)]
pub enum What {
    /// A push: encoded and framed for the connection's dialect.
    Push {
        frame: Bytes,
        receipt: Receipt,
    },
    Kick(KickReason),
}

/// What a push that could not be delivered is answered with.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub partition: Partition,
    pub user: UserId,
    pub push: PushId,
}

/// The sending ends of one shard's queues.
#[derive(Debug, Clone)]
pub struct Queues {
    pub urgent: mpsc::Sender<Urgent>,
    pub deliveries: mpsc::Sender<Batch>,
}

/// The receiving ends.
#[derive(Debug)]
pub struct Inbox {
    pub urgent: mpsc::Receiver<Urgent>,
    pub deliveries: mpsc::Receiver<Batch>,
}

pub fn queues() -> (Queues, Inbox) {
    let (urgent, urgent_rx) = mpsc::channel(URGENT_COMMANDS);
    let (deliveries, deliveries_rx) = mpsc::channel(DELIVERY_BATCHES);
    (Queues { urgent, deliveries }, Inbox { urgent: urgent_rx, deliveries: deliveries_rx })
}
