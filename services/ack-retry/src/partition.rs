//! One partition, for as long as its lease is ours: it is taken over, and served.
//!
//! A take-over goes in this order: the consumer of PUSH (nobody else gets its messages from now on), acknowledgements,
//! sessions until they are complete, `pending` until it is complete; only then is PUSH read.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pushmesh_bus::{Bus, Kv, KvEvent, KvWatch, TakeOver};
use pushmesh_membership::{Clock, Lease, Membership, PartitionWork, View};
use pushmesh_protocol::{
    Instance, Partition, Partitions, Token,
    message::Epoch,
    name::{Bucket, Filter, KeyFilter, Stream, Subject},
};
use tokio::time::Instant;

use crate::{
    desk::{Desk, Event, Rules},
    effects::{Effects, Tools},
    load::{LoadError, sent_before},
    metrics::{Holding, Metrics},
    outbox::Outbox,
    reporter::Reporter,
    serving::{End, NOTE_WITHIN, OurNote, Serving},
};

/// Between two tries to take a partition.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// What membership runs for each partition that is ours.
pub struct Work {
    pub bus: Bus,
    pub membership: Membership,
    pub service: Token,
    pub comets: Token,
    pub partitions: Partitions,
    pub rules: Rules,
    pub outbox: Outbox,
    pub reporter: Reporter,
    pub metrics: Arc<Metrics>,
}

impl PartitionWork for Work {
    // Returning with the lease still held gives it back: membership has it taken over again, as after a crash.
    async fn run(self: Arc<Self>, lease: Lease) {
        let partition = lease.partition();
        let begun = Instant::now();
        let note = OurNote::default();
        let serving = tokio::select! {
            biased;
            () = lease.released() => None,
            serving = self.insist_on(&lease, &note) => Some(serving),
        };
        let Some(serving) = serving else {
            // Nothing was looked at, whatever was fetched.
            if let Some(note) = &mut *note.lock().await {
                let seen = note.noted();
                let _ = tokio::time::timeout(NOTE_WITHIN, note.handed_over(seen)).await;
            }
            return;
        };
        self.metrics.load_seconds.record(begun.elapsed().as_secs_f64());
        if let End::Broken = Box::pin(serving.run(&lease)).await {
            tracing::warn!(%partition, "a partition's consumer or watch ended");
        }
    }
}

impl Work {
    async fn insist_on(self: &Arc<Self>, lease: &Lease, note: &OurNote) -> Serving {
        loop {
            match self.take_over(lease, lease.how(), note).await {
                Ok(serving) => return serving,
                Err(error) => {
                    tracing::warn!(partition = %lease.partition(), %error, "could not take a partition over; again");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn take_over(self: &Arc<Self>, lease: &Lease, how: TakeOver, note: &OurNote) -> Result<Serving, LoadError> {
        let partition = lease.partition();
        let pending = self.bucket(Bucket::PENDING).await?;
        let sent = self.sent_before(&pending, partition, note).await?;
        let consumer = self.bus.take_partition(&Stream::PUSH, partition, how).await?;
        let acks = self.bus.subscribe(Filter::from(Subject::ack(partition))).await?;
        let (sessions, session_watch) = self.open(Bucket::SESSIONS, partition).await?;
        let clock = Clock::start();
        let mut serving = Serving {
            desk: Desk::new(self.rules.clone(), partition, lease.epoch(), clock.now()),
            clock,
            consumer,
            seen: sent,
            delivered_before: sent,
            note: Arc::clone(note),
            note_passed: sent == 0,
            acks,
            sessions: session_watch,
            view: self.membership.view(),
            health: self.bus.health(),
            effects: Effects::new(Tools {
                bus: self.bus.clone(),
                service: self.service.clone(),
                partition,
                lease: lease.clone(),
                pending,
                sessions,
                reporter: self.reporter.clone(),
                metrics: Arc::clone(&self.metrics),
            }),
            ackers: HashMap::new(),
            holding: Holding::new(Arc::clone(&self.metrics)),
            work: Arc::clone(self),
            partition,
        };
        serving.see_comets().await;
        while let Some(event) = serving.sessions.next().await {
            let current = event == KvEvent::Current;
            serving.session(event).await;
            if current {
                let (_, watch) = self.open(Bucket::PENDING, partition).await?;
                serving.load(watch).await?;
                serving.apply(Event::Ready).await;
                return Ok(serving);
            }
        }
        Err(LoadError::WatchEnded(Bucket::SESSIONS))
    }

    // What an earlier try fetched, nobody has looked at.
    async fn sent_before(&self, pending: &Kv, partition: Partition, note: &OurNote) -> Result<u64, LoadError> {
        let mut ours = note.lock().await;
        if let Some(note) = &*ours {
            return Ok(note.noted());
        }
        let (sent, note) = sent_before(&self.bus, pending, partition).await?;
        *ours = Some(note);
        Ok(sent)
    }

    async fn bucket(&self, bucket: Bucket) -> Result<Kv, LoadError> {
        self.bus.bucket(&bucket).await.map_err(|error| LoadError::Bucket { bucket, error })
    }

    async fn open(&self, bucket: Bucket, partition: Partition) -> Result<(Kv, KvWatch), LoadError> {
        let kv = self.bucket(bucket.clone()).await?;
        let watch = kv.watch(KeyFilter::of_partition(partition)).await;
        Ok((kv, watch.map_err(|error| LoadError::Bucket { bucket, error })?))
    }

    pub(crate) fn living_comets(&self, view: &View) -> HashMap<Instance, Epoch> {
        let comets = view.members_of(&self.comets).filter(|member| member.alive);
        comets.map(|member| (member.instance.clone(), member.epoch)).collect()
    }
}
