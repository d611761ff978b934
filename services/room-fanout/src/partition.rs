//! One partition, for as long as its lease is ours: what a take-over needs, and how it ends.
//!
//! A take-over goes in this order: questions and counts (from now on they come here), the streams' state, the records of
//! `ledger`, what stands in `rooms` and `mutes`; then the streams are followed from the checkpoint.

use std::{sync::Arc, time::Duration};

use pushmesh_bus::{Bus, ConsumeError, KvError, StreamState, SubscribeError};
use pushmesh_membership::{Lease, Membership, PartitionWork};
use pushmesh_protocol::{
    Token,
    name::{Filter, Stream, Subject},
    wire::WireError,
};
use tokio::time::Instant;

use crate::{
    clock::Clock,
    comets::Comets,
    config::Config,
    effects::{Effects, Tools},
    failing::Failing,
    ledger::Ledger,
    metrics::{Holding, Metrics},
    room::{Owner, Rooms},
    serving::{End, Serving},
    sources::{Sources, Streams},
    standing::{Known, Standing},
};

/// Between two tries to take a partition.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What membership runs for each partition that is ours.
pub struct Work {
    /// Frames, answers and records go over this connection, in this order.
    pub bus: Bus,
    /// Streams are followed and read over this one.
    pub streams: Bus,
    pub membership: Membership,
    pub service: Token,
    pub comets: Token,
    pub config: Config,
    pub standing: Standing,
    pub failing: Failing,
    pub metrics: Arc<Metrics>,
}

/// Why a partition could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("no subscription: {0}")]
    Subscribe(#[from] SubscribeError),
    #[error("streams: {0}")]
    Consume(#[from] ConsumeError),
    #[error("bucket ledger: {0}")]
    Ledger(#[from] KvError),
    /// Without it the sums would be wrong: nobody may own the partition until it is repaired or removed.
    #[error("record {key} of the bucket ledger can't be read: {error}")]
    Record { key: String, error: WireError },
    #[error("the service ends")]
    Ending,
}

impl PartitionWork for Work {
    // Returning with the lease still held gives it back: whoever takes it loads everything anew.
    async fn run(self: Arc<Self>, lease: Lease) {
        let partition = lease.partition();
        let begun = Instant::now();
        let serving = tokio::select! {
            biased;
            () = lease.released() => return,
            serving = self.insist_on(&lease) => serving,
        };
        match serving.run(begun).await {
            End::Released | End::Lost => {}
            End::Broken(why) => tracing::warn!(%partition, why, "a partition is given back"),
        }
    }
}

impl Work {
    async fn insist_on(self: &Arc<Self>, lease: &Lease) -> Serving {
        loop {
            match self.take_over(lease).await {
                Ok(serving) => return serving,
                Err(error @ TakeError::Record { .. }) => {
                    self.metrics.unreadable_records.increment(1);
                    tracing::error!(partition = %lease.partition(), %error, "a partition can't be owned; again");
                }
                Err(error) => {
                    tracing::warn!(partition = %lease.partition(), %error, "could not take a partition over; again");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn take_over(self: &Arc<Self>, lease: &Lease) -> Result<Serving, TakeError> {
        let partition = lease.partition();
        let asks = self.bus.subscribe(Filter::from(Subject::room_ask(partition))).await?;
        let presence = self.bus.subscribe(Filter::from(Subject::room_presence(partition))).await?;
        let (owner, low) = self.owner(lease).await?;
        let ledger = Ledger::open(&self.bus, lease.clone()).await?;
        let clock = Clock::start();
        let mut rooms = Rooms::new(self.config.limits(), owner);
        for entry in ledger.load().await? {
            let restored = rooms.restore(&entry.key, &entry.value, entry.revision, clock.now());
            restored.map_err(|error| TakeError::Record { key: entry.key, error })?;
        }
        let mut standing = self.standing.of(partition).await;
        let first = standing.recv().await.ok_or(TakeError::Ending)?;
        let mut from = rooms.restored(clock.now());
        if low.last < from.likes.max(from.notes) {
            tracing::warn!(%partition, "ROOM_LOW holds less than it did: it is read from its beginning");
            rooms.low_began_again();
            (from.likes, from.notes) = (0, 0);
        }
        let streams = Streams::follow(&self.streams, partition, &from).await?;
        let mut serving = Serving {
            rooms,
            clock,
            sources: Sources::new(streams, asks, presence, standing),
            caught_up: Default::default(),
            is_ready: false,
            known: Known::default(),
            comets: Comets::new(self.membership.view(), self.comets.clone()),
            effects: Effects::new(Tools {
                bus: self.bus.clone(),
                streams: self.streams.clone(),
                service: self.service.clone(),
                partition,
                lease: lease.clone(),
                ledger: ledger.clone(),
                metrics: Arc::clone(&self.metrics),
            }),
            ledger,
            reached: [None; 5],
            next_reached: Instant::now(),
            is_writing: false,
            next_write: Instant::now() + self.config.write_every,
            gifts: Vec::new(),
            holding: Holding::new(Arc::clone(&self.metrics)),
            work: Arc::clone(self),
            lease: lease.clone(),
            partition,
        };
        serving.hear(first).await.map_err(|_| TakeError::Ending)?;
        Ok(serving)
    }

    /// The streams as they are: made anew, they count anew. And how far ROOM_LOW goes.
    async fn owner(&self, lease: &Lease) -> Result<(Owner, StreamState), ConsumeError> {
        let (high, normal, low) = tokio::try_join!(
            self.streams.stream_state(&Stream::ROOM_HIGH),
            self.streams.stream_state(&Stream::ROOM_NORMAL),
            self.streams.stream_state(&Stream::ROOM_LOW),
        )?;
        let owner = Owner {
            partition: lease.partition(),
            lease: lease.epoch(),
            // One number that grows when either is made anew.
            streams: high.created.max(normal.created),
            low: low.created,
        };
        Ok((owner, low))
    }
}
