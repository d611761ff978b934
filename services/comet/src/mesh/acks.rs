//! Acknowledgements on their way to the owners of pushes: gathered for at most 2 ms by partition.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use pushmesh_bus::Bus;
use pushmesh_membership::Membership;
use pushmesh_protocol::{
    Instance, Partition, PushId, TraceContext,
    message::{AckBatch, AckItem, AckOutcome, Epoch},
    name::Subject,
    wire,
};
use tokio::time::Instant;

use crate::{queue::Receiver, shard::outlet::AckEvent};

/// Longest that an acknowledgement waits for others.
const GATHER_FOR: Duration = Duration::from_millis(2);
/// Items of one message; more begin another one.
const BATCH: usize = 1024;
/// Events taken in one go.
const IN_A_ROW: usize = 1024;
/// Sampled deliveries that are remembered until they are acknowledged.
const SAMPLED: usize = 4096;

enum Event {
    Came(usize),
    Due,
}

/// Publishes until the queue closes and what was gathered is out.
pub async fn run(bus: Bus, instance: Instance, membership: Membership, mut events: Receiver<AckEvent>) {
    let mut gathered = Gathered::default();
    let mut came = Vec::with_capacity(IN_A_ROW);
    let mut due: Option<Instant> = None;
    loop {
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            () = wait => Event::Due,
            count = events.recv_many(&mut came, IN_A_ROW) => Event::Came(count),
        };
        let closed = matches!(event, Event::Came(0));
        if let Event::Came(_) = event {
            came.drain(..).for_each(|event| gathered.apply(event));
            if due.is_none() && !gathered.is_empty() {
                due = Some(Instant::now() + GATHER_FOR);
            }
        }
        if closed || matches!(event, Event::Due) || gathered.is_full() {
            due = None;
            for (partition, batch) in gathered.take(&instance, membership.epoch()) {
                if let Err(error) = bus.publish(Subject::ack(partition), wire::encode(&batch).into()).await {
                    // The pushes are sent again, and acknowledged again.
                    tracing::debug!(%error, items = batch.items.len(), "acknowledgements lost");
                }
            }
        }
        if closed {
            return;
        }
    }
}

/// What waits to be told. Pure.
#[derive(Default)]
struct Gathered {
    items: HashMap<Partition, Vec<AckItem>>,
    count: usize,
    sampled: Sampled,
}

impl Gathered {
    fn apply(&mut self, event: AckEvent) {
        match event {
            AckEvent::Sampled { push, trace } => self.sampled.remember(push, trace),
            AckEvent::Acked { partition, user, from, pushes } => {
                let conn_id = from.conn_id();
                for push in pushes {
                    let trace = self.sampled.recall(&push);
                    let (user, conn_id) = (user.clone(), conn_id.clone());
                    self.push(partition, AckItem { user, conn_id, push, outcome: AckOutcome::Acked, trace });
                }
            }
            AckEvent::Undelivered { partition, user, conn, push, outcome } => {
                self.push(partition, AckItem { user, conn_id: conn, push, outcome, trace: None });
            }
        }
    }

    fn push(&mut self, partition: Partition, item: AckItem) {
        self.items.entry(partition).or_default().push(item);
        self.count += 1;
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_full(&self) -> bool {
        self.count >= BATCH
    }

    fn take(&mut self, comet: &Instance, comet_epoch: Epoch) -> Vec<(Partition, AckBatch)> {
        self.count = 0;
        let mut batches = Vec::new();
        for (partition, mut items) in self.items.drain() {
            while !items.is_empty() {
                let rest = items.split_off(items.len().min(BATCH));
                batches.push((partition, AckBatch { comet: comet.clone(), comet_epoch, items }));
                items = rest;
            }
        }
        batches
    }
}

/// The newest sampled deliveries.
#[derive(Default)]
struct Sampled {
    contexts: HashMap<PushId, TraceContext>,
    order: VecDeque<PushId>,
}

impl Sampled {
    fn remember(&mut self, push: PushId, trace: TraceContext) {
        if self.contexts.insert(push, trace).is_none() {
            self.order.push_back(push);
        }
        if self.order.len() > SAMPLED
            && let Some(oldest) = self.order.pop_front()
        {
            self.contexts.remove(&oldest);
        }
    }

    // Kept: a second acknowledgement of the same push may be the one that arrives.
    fn recall(&self, push: &PushId) -> Option<TraceContext> {
        if self.contexts.is_empty() { None } else { self.contexts.get(push).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::Address, framing::Dialect};

    fn push(number: u8) -> PushId {
        PushId::from_bytes([number; 16])
    }

    fn acked(partition: u16, pushes: Vec<PushId>) -> AckEvent {
        let from = Address { shard: 0, slot: 1, nonce: 2, dialect: Dialect::TcpPack };
        AckEvent::Acked { partition: Partition(partition), user: "ann".parse().unwrap(), from, pushes }
    }

    #[test]
    fn acknowledgements_are_gathered_by_partition_and_carry_the_context_of_their_delivery() {
        let mut gathered = Gathered::default();
        let trace = TraceContext { trace_id: 7, span_id: 8 };
        gathered.apply(AckEvent::Sampled { push: push(1), trace });
        gathered.apply(acked(3, vec![push(1), push(2)]));
        gathered.apply(acked(4, vec![push(3)]));
        let mut batches = gathered.take(&"comet-a".parse().unwrap(), 9);
        batches.sort_by_key(|(partition, _)| *partition);
        let traces: Vec<Vec<_>> =
            batches.iter().map(|(_, batch)| batch.items.iter().map(|item| item.trace).collect()).collect();
        assert_eq!(traces, [vec![Some(trace), None], vec![None]]);
        assert!(gathered.is_empty() && gathered.take(&"comet-a".parse().unwrap(), 9).is_empty());
    }

    #[test]
    fn no_message_has_more_items_than_its_bound() {
        let mut gathered = Gathered::default();
        for _ in 0..10 {
            gathered.apply(acked(0, vec![push(5); 256]));
        }
        let sizes: Vec<_> =
            gathered.take(&"c".parse().unwrap(), 1).iter().map(|(_, batch)| batch.items.len()).collect();
        assert_eq!(sizes, [1024, 1024, 512]);
    }

    #[test]
    fn only_the_newest_samples_are_remembered() {
        let mut sampled = Sampled::default();
        for number in 0..10_000u64 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            sampled.remember(PushId::from_bytes(bytes), TraceContext { trace_id: 1, span_id: number + 1 });
        }
        assert_eq!((sampled.contexts.len(), sampled.order.len()), (SAMPLED, SAMPLED));
    }
}
