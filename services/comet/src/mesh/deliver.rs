//! Batches from ack-retry: fenced by the sender's epoch, encoded, and sorted to the shards.

use std::time::Instant;

use pushmesh_bus::{Message, Subscription};
use pushmesh_protocol::{
    frame::ServerFrame,
    message::{AckOutcome, CometBatch, CometItem, CometOrder},
    metric::comet as names,
    wire,
};
use pushmesh_telemetry::{
    metric::counter,
    span::{self, Role},
};

use super::fence::Fence;
use crate::{
    address::Address,
    queue::Sender,
    shard::{
        command::{Batch, Delivery, Queues, Receipt, What},
        outlet::AckEvent,
    },
};

/// Messages off the bus that go to the shards together.
const IN_A_ROW: usize = 64;

/// Delivers until the subscription ends.
pub async fn run(mut inbox: Subscription, shards: Vec<Queues>, acks: Sender<AckEvent>) {
    let (malformed, dropped) = (counter(&names::MALFORMED), counter(&names::BATCHES_DROPPED));
    let mut sorter = Sorter { fence: Fence::default(), shards: shards.len(), tell: Vec::new() };
    while let Some(first) = inbox.next().await {
        let received = Instant::now();
        let mut sorted: Vec<Vec<Delivery>> = shards.iter().map(|_| Vec::new()).collect();
        let more = std::iter::from_fn(|| inbox.try_next());
        for Message { payload, .. } in std::iter::once(first).chain(more).take(IN_A_ROW) {
            match wire::decode::<CometBatch>(&payload) {
                Ok(batch) => batch.items.into_iter().for_each(|item| sorter.sort(item, &mut sorted)),
                Err(error) => {
                    malformed.increment(1);
                    tracing::warn!(%error, "a batch for this comet can't be read");
                }
            }
        }
        // Before the shards have the frames: an acknowledgement must not overtake what it will be told by.
        for event in sorter.tell.drain(..) {
            // Full: the push is sent again and answered again.
            let _ = acks.try_send(event);
        }
        for (queues, deliveries) in shards.iter().zip(sorted).filter(|(_, deliveries)| !deliveries.is_empty()) {
            let count = deliveries.len();
            if queues.deliveries.try_send(Batch { received, deliveries }).is_err() {
                // One stalled shard must not hold up the others.
                dropped.increment(count as u64);
            }
        }
    }
}

struct Sorter {
    fence: Fence,
    shards: usize,
    /// What the owners are to be told.
    tell: Vec<AckEvent>,
}

impl Sorter {
    fn sort(&mut self, item: CometItem, sorted: &mut [Vec<Delivery>]) {
        let CometItem { partition, epoch, user, conn_id, order, trace } = item;
        let id = match &order {
            CometOrder::Push(push) => Some(push.id),
            CometOrder::CallEnded(ended) => Some(ended.id),
            CometOrder::Kick(_) => None,
        };
        let to = Address::of(&conn_id).filter(|to| usize::from(to.shard) < self.shards);
        let problem = match (self.fence.passes(partition, epoch), to) {
            (false, _) => Some(AckOutcome::Fenced),
            (true, None) => Some(AckOutcome::Gone),
            (true, Some(_)) => None,
        };
        if let Some(outcome) = problem {
            self.tell.extend(id.map(|push| AckEvent::Undelivered { partition, user, conn: conn_id, push, outcome }));
            return;
        }
        let Some(to) = to else { return };
        let span = span::child("process pm.v1.comet.batch.{comet}", Role::Consumer, trace);
        if let (Some(push), Some(trace)) = (id, span::context(&span)) {
            self.tell.push(AckEvent::Sampled { push, trace });
        }
        let what = match (order, id) {
            (CometOrder::Kick(kick), _) => What::Kick(kick.reason),
            (CometOrder::Push(push), _) => What::Push {
                receipt: Receipt { partition, user, push: push.id },
                frame: to.dialect.encode(&ServerFrame::Push(push)),
            },
            (CometOrder::CallEnded(ended), _) => What::Push {
                receipt: Receipt { partition, user, push: ended.id },
                frame: to.dialect.encode(&ServerFrame::CallEnded(ended)),
            },
        };
        let span = (!span.is_none()).then(|| Box::new(span));
        sorted[usize::from(to.shard)].push(Delivery { to, what, span });
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{
        Partition,
        frame::{Kick, KickReason},
    };

    use super::*;
    use crate::framing::Dialect;

    #[test]
    fn what_has_no_connection_is_answered_at_once() {
        let mut sorter = Sorter { fence: Fence::default(), shards: 1, tell: Vec::new() };
        let mut sorted = vec![Vec::new()];
        let here = Address { shard: 0, slot: 1, nonce: 2, dialect: Dialect::TcpPack };
        let elsewhere = Address { shard: 9, ..here };
        let ended = |conn: &pushmesh_protocol::ConnId, epoch| CometItem {
            partition: Partition(1),
            epoch,
            user: "ann".parse().unwrap(),
            conn_id: conn.clone(),
            order: CometOrder::CallEnded(pushmesh_protocol::frame::CallEnded {
                id: pushmesh_protocol::PushId::from_bytes([1; 16]),
                seq: 1,
                ends: pushmesh_protocol::PushId::from_bytes([2; 16]),
                kind: "group".parse().unwrap(),
                call_id: "c".parse().unwrap(),
                at: 1,
            }),
            trace: None,
        };
        let kick = CometOrder::Kick(Kick { reason: KickReason::Replaced });
        sorter.sort(ended(&here.conn_id(), 5), &mut sorted);
        sorter.sort(ended(&elsewhere.conn_id(), 5), &mut sorted);
        sorter.sort(ended(&"not-one-of-ours".parse().unwrap(), 5), &mut sorted);
        sorter.sort(ended(&here.conn_id(), 4), &mut sorted);
        sorter.sort(CometItem { order: kick, ..ended(&elsewhere.conn_id(), 5) }, &mut sorted);
        let outcomes: Vec<_> = sorter
            .tell
            .iter()
            .map(|event| match event {
                AckEvent::Undelivered { outcome, .. } => *outcome,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(outcomes, [AckOutcome::Gone, AckOutcome::Gone, AckOutcome::Fenced]);
        assert_eq!(sorted[0].len(), 1);
    }
}
