//! Items for comets, gathered into batches: one task for all partitions of the process.
//!
//! When little is sent, an item goes out at once; when much is, what comes within 2 ms of the last batch goes out together:
//! no item waits longer. The order of items is kept for each comet.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pushmesh_bus::Bus;
use pushmesh_protocol::{
    Instance,
    frame::PushBody,
    message::{CometBatch, CometItem, CometOrder},
    name::Subject,
    wire,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::metrics::Metrics;

/// Items of one batch.
const ITEMS_MAX: usize = 256;
/// Bytes of one batch, as estimated: half of what a server takes by default.
const BYTES_MAX: usize = 512 << 10;
/// How long an item waits for others.
const GATHER: Duration = Duration::from_millis(2);
/// Items that wait to be gathered; beyond, partitions wait.
const QUEUE_MAX: usize = 4096;

type Addressed = (Instance, Box<CometItem>);

/// Where partitions put what is to be sent.
#[derive(Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Addressed>,
}

impl Outbox {
    /// Waits for a place: a partition sends no faster than the connection takes it.
    pub async fn send(&self, comet: Instance, item: Box<CometItem>) {
        // Closed: the service has drained, and nobody owns anything any more.
        let _ = self.queue.send((comet, item)).await;
    }
}

/// The outbox and the task behind it, which ends with the last [`Outbox`].
pub fn outbox(bus: Bus, metrics: Arc<Metrics>) -> (Outbox, impl Future<Output = ()> + Send) {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    (Outbox { queue }, run(bus, metrics, waiting))
}

#[derive(Default)]
struct Batch {
    items: Vec<CometItem>,
    bytes: usize,
}

async fn run(bus: Bus, metrics: Arc<Metrics>, mut waiting: mpsc::Receiver<Addressed>) {
    let mut batches: HashMap<Instance, Batch> = HashMap::new();
    let mut some = Vec::with_capacity(ITEMS_MAX);
    let mut last = Instant::now();
    loop {
        if waiting.recv_many(&mut some, ITEMS_MAX).await == 0 {
            return;
        }
        let until = last + GATHER;
        loop {
            for (comet, item) in some.drain(..) {
                let batch = batches.entry(comet.clone()).or_default();
                batch.bytes += bytes(&item);
                batch.items.push(*item);
                if batch.items.len() >= ITEMS_MAX || batch.bytes >= BYTES_MAX {
                    publish(&bus, &metrics, &comet, std::mem::take(batch)).await;
                }
            }
            if Instant::now() >= until {
                break;
            }
            tokio::select! {
                () = sleep_until(until) => break,
                count = waiting.recv_many(&mut some, ITEMS_MAX) => if count == 0 { break },
            }
        }
        for (comet, batch) in batches.drain() {
            if !batch.items.is_empty() {
                publish(&bus, &metrics, &comet, batch).await;
            }
        }
        last = Instant::now();
    }
}

async fn publish(bus: &Bus, metrics: &Metrics, comet: &Instance, batch: Batch) {
    let items = batch.items.len();
    metrics.batch_items.record(items as f64);
    let payload = wire::encode(&CometBatch { items: batch.items });
    // Lost here or on the way is the same: no acknowledgement comes, and the next try is due in time.
    if let Err(error) = bus.publish(Subject::comet(comet), payload.into()).await {
        metrics.unsent.increment(items as u64);
        tracing::warn!(%comet, items, %error, "a batch was not sent");
    }
}

fn bytes(item: &CometItem) -> usize {
    let content = match &item.order {
        CometOrder::Push(push) => match &push.body {
            PushBody::Call(call) => call.unit.dotted().len() + call.data.as_ref().map_or(0, |data| data.0.len()),
            PushBody::Message(message) => message.data.0.len(),
        },
        CometOrder::CallEnded(_) | CometOrder::Kick(_) => 0,
    };
    256 + content
}
