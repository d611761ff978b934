//! The one task that gathers the records of all partitions: it chooses the next event, lets the [`Machine`] apply it,
//! and carries out what the machine says.

use std::{collections::HashMap, sync::Arc, time::Instant};

use pushmesh_bus::{Bus, Outgoing};
use pushmesh_membership::{Lease, Membership, Owners};
use pushmesh_protocol::{
    Instance, Kind, Partition,
    message::{Epoch, OnlineAnswer, OnlineEntry, OnlineResult},
    name::{MessageId, Stream, Subject},
    wire,
};
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    handlers::Handle,
    machine::{Effect, Event, KindIndex, LateStart, Machine},
    metrics::Metrics,
};

/// Events that may wait for the gatherer; readers wait for a place.
pub const INPUTS_MAX: usize = 4096;
/// Events that are applied before what follows from them is sent.
const INPUTS_AT_ONCE: usize = 256;

/// What partitions say to the gatherer.
pub enum Input {
    /// A partition was taken; `notice` is told how it ends, if it is not its owner who says so.
    Opened {
        lease: Lease,
        late: Vec<LateStart>,
        notice: oneshot::Sender<Notice>,
    },
    Event(Event<Handle>),
}

/// How the gatherer is done with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Closing, and at rest: everything is acknowledged.
    Closed,
    /// A receiver knows a newer owner, or the lease is no longer held.
    Fenced,
}

struct Taken {
    lease: Lease,
    notice: oneshot::Sender<Notice>,
}

pub struct Gatherer {
    bus: Bus,
    config: Config,
    instance: Instance,
    kinds: Vec<Kind>,
    owners: Vec<Owners>,
    metrics: Arc<Metrics>,
    machine: Machine<Handle>,
    taken: HashMap<Partition, Taken>,
    inputs: mpsc::Receiver<Input>,
    changes: mpsc::Receiver<KindIndex>,
    running: JoinSet<Event<Handle>>,
}

impl Gatherer {
    /// The task, and its partitions' way to it.
    pub fn new(
        bus: Bus,
        membership: &Membership,
        kinds: Vec<Kind>,
        config: Config,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Sender<Input>) {
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let owners = kinds.iter().map(|kind| membership.owners(&kind.service())).collect();
        let watched: Vec<_> = kinds.iter().map(|kind| membership.owners(&kind.service())).collect();
        let gatherer = Self {
            bus,
            instance: membership.me().instance.clone(),
            machine: Machine::new(kinds.len(), config.limits()),
            kinds,
            owners,
            config,
            metrics,
            taken: HashMap::new(),
            inputs,
            changes: watch(watched),
            running: JoinSet::new(),
        };
        (gatherer, sender)
    }

    /// Until `stop`, or every sender of inputs is gone. What it holds then is in LOGIN and LATE.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut inputs = Vec::with_capacity(INPUTS_AT_ONCE);
        let mut effects = vec![];
        loop {
            let wake_at = self.machine.wake_at().map(tokio::time::Instant::from_std);
            tokio::select! {
                () = stop.cancelled() => return,
                count = self.inputs.recv_many(&mut inputs, INPUTS_AT_ONCE) => if count == 0 { return },
                Some(finished) = self.running.join_next() => {
                    let event = finished.expect("requests and stores don't panic");
                    self.machine.apply(event, Instant::now(), &mut effects);
                }
                Some(kind) = self.changes.recv() => {
                    self.machine.apply(Event::OwnersChanged { kind }, Instant::now(), &mut effects);
                }
                () = tokio::time::sleep_until(wake_at.unwrap_or_else(tokio::time::Instant::now)), if wake_at.is_some() => {}
            }
            let now = Instant::now();
            for input in inputs.drain(..) {
                self.take(input, now, &mut effects);
            }
            // What else has finished meanwhile.
            while let Some(finished) = self.running.try_join_next() {
                let event = finished.expect("requests and stores don't panic");
                self.machine.apply(event, now, &mut effects);
            }
            self.drop_lost(now, &mut effects);
            let owners = &self.owners;
            let owner = |kind: KindIndex, partition| owners[kind].of(partition).map(|owner| owner.instance);
            self.machine.poll(now, owner, &mut effects);
            effects.drain(..).for_each(|effect| self.carry_out(effect));
            self.observe();
        }
    }

    fn take(&mut self, input: Input, now: Instant, effects: &mut Vec<Effect<Handle>>) {
        let event = match input {
            Input::Opened { lease, late, notice } => {
                let (partition, epoch) = (lease.partition(), lease.epoch());
                self.taken.insert(partition, Taken { lease, notice });
                Event::Opened { partition, epoch, late }
            }
            Input::Event(event) => {
                if let Event::Lost { partition, epoch } = &event {
                    self.let_go(*partition, *epoch);
                }
                event
            }
        };
        self.machine.apply(event, now, effects);
    }

    /// Nothing is sent or stored under a lease that is not held: its partition's next owner does that.
    fn drop_lost(&mut self, now: Instant, effects: &mut Vec<Effect<Handle>>) {
        let lost: Vec<_> = self.taken.iter().filter(|(_, taken)| !taken.lease.held()).map(|(p, _)| *p).collect();
        for partition in lost {
            let Some(Taken { lease, notice }) = self.taken.remove(&partition) else { continue };
            self.machine.apply(Event::Lost { partition, epoch: lease.epoch() }, now, effects);
            // Its owner may know it already.
            let _ = notice.send(Notice::Fenced);
        }
    }

    fn let_go(&mut self, partition: Partition, epoch: Epoch) -> Option<Taken> {
        self.taken.get(&partition).filter(|taken| taken.lease.epoch() == epoch)?;
        self.taken.remove(&partition)
    }

    fn carry_out(&mut self, effect: Effect<Handle>) {
        match effect {
            Effect::Done(handle) => {
                self.metrics.records.increment(1);
                self.metrics.record_seconds.record(handle.done().as_secs_f64());
            }
            Effect::LateDone(kind, handle) => {
                self.metrics.kind(kind).late_drained.increment(1);
                handle.done();
            }
            Effect::Send { request, kind, owner, entries } => self.send(request, kind, &owner, &entries),
            Effect::StoreLate { kind, entries } => self.store_late(kind, &entries),
            Effect::Closed(partition, epoch) => self.notify(partition, epoch, Notice::Closed),
            Effect::Fenced(partition, epoch) => {
                tracing::warn!(%partition, epoch, "a receiver knows a newer owner; stopping");
                self.notify(partition, epoch, Notice::Fenced);
            }
        }
    }

    fn notify(&mut self, partition: Partition, epoch: Epoch, notice: Notice) {
        if let Some(taken) = self.let_go(partition, epoch) {
            // Its owner may have stopped waiting.
            let _ = taken.notice.send(notice);
        }
    }

    fn send(&mut self, request: u64, kind: KindIndex, owner: &Instance, entries: &[Arc<OnlineEntry>]) {
        let batch = Batch { from: &self.instance, entries: entries.iter().map(|entry| &**entry).collect() };
        let payload = wire::encode(&batch).into();
        let subject = Subject::online(&self.kinds[kind], owner);
        let (bus, timeout, count) = (self.bus.clone(), self.config.request_timeout, entries.len());
        let (metrics, name, owner) = (Arc::clone(&self.metrics), self.kinds[kind].clone(), owner.clone());
        metrics.kind(kind).requested(count);
        self.running.spawn(async move {
            let begun = Instant::now();
            let results = match bus.request(subject, payload, timeout).await {
                Ok(answer) => read(&answer, count).inspect_err(|reason| {
                    tracing::warn!(kind = %name, %owner, reason, "unreadable answer");
                }),
                Err(error) => {
                    tracing::debug!(kind = %name, %owner, %error, "no answer");
                    Err(error.to_string())
                }
            };
            metrics.kind(kind).answered(begun.elapsed(), results.is_ok());
            Event::Answered { request, results: results.ok() }
        });
    }

    fn store_late(&mut self, kind: KindIndex, entries: &[Arc<OnlineEntry>]) {
        let name = self.kinds[kind].clone();
        let messages = entries.iter().map(|entry| Outgoing {
            subject: Subject::late(&name, entry.partition, &entry.record.user),
            payload: wire::encode(&**entry).into(),
            id: MessageId::late(entry.sequence),
            trace: entry.record.trace,
        });
        let messages: Vec<_> = messages.collect();
        let (bus, metrics) = (self.bus.clone(), Arc::clone(&self.metrics));
        self.running.spawn(async move {
            let mut error = None;
            let results = bus.store_all(&Stream::late(&name), messages).await;
            let results: Vec<_> = results
                .into_iter()
                .map(|result| match result {
                    Ok(stored) => Some((stored.sequence, stored.duplicate)),
                    Err(failed) => {
                        error.get_or_insert(failed);
                        None
                    }
                })
                .collect();
            let stored = results.iter().flatten().count();
            metrics.kind(kind).late_stored.increment(stored as u64);
            match error {
                Some(error) => tracing::warn!(kind = %name, %error, "LATE did not take records; they wait in LOGIN"),
                None => tracing::debug!(kind = %name, stored, "a silent kind's records went to LATE"),
            }
            Event::Stored { kind, results }
        });
    }

    fn observe(&self) {
        self.metrics.waiting.set(self.machine.waiting() as f64);
        for kind in 0..self.kinds.len() {
            self.metrics.kind(kind).late_partitions.set(self.machine.late_lanes(kind) as f64);
        }
    }
}

/// An [`OnlineBatch`](pushmesh_protocol::message::OnlineBatch) of entries that others hold too.
#[derive(Serialize)]
struct Batch<'a> {
    from: &'a Instance,
    entries: Vec<&'a OnlineEntry>,
}

fn read(answer: &[u8], expected: usize) -> Result<Vec<OnlineResult>, String> {
    let OnlineAnswer { results } = wire::decode(answer).map_err(|error| error.to_string())?;
    match results.len() {
        count if count == expected => Ok(results),
        count => Err(format!("{count} results for {expected} entries")),
    }
}

/// Tells which kind's owners changed. A change that meets a full channel is told by the one that fills it.
fn watch(owners: Vec<Owners>) -> mpsc::Receiver<KindIndex> {
    let (changed, changes) = mpsc::channel(owners.len().max(1) * 4);
    for (kind, mut owners) in owners.into_iter().enumerate() {
        let changed = changed.clone();
        tokio::spawn(async move {
            loop {
                owners.changed().await;
                if changed.send(kind).await.is_err() {
                    return;
                }
            }
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{LoginId, UserId, message::*};

    use super::*;

    #[test]
    fn a_batch_of_borrowed_entries_reads_like_one_that_owns_them() {
        let entry = OnlineEntry {
            partition: Partition(3),
            epoch: 7,
            sequence: 11,
            record: LoginRecord {
                user: UserId::new("alice").unwrap(),
                event: LoginEvent::Offline {
                    login_id: Some(LoginId::new("l").unwrap()),
                    device: None,
                    cause: OfflineCause::Logout,
                },
                at: 5,
                trace: None,
            },
        };
        let from = Instance::new("d1").unwrap();
        let bytes = wire::encode(&Batch { from: &from, entries: vec![&entry] });
        let read: OnlineBatch = wire::decode(&bytes).unwrap();
        assert_eq!(read, OnlineBatch { from, entries: vec![entry] });
    }
}
