//! One partition, for as long as its lease is ours: what a take-over needs, and how it ends.
//!
//! A take-over goes in this order: questions and counts (from now on they come here), the checkpoint, the streams' state, the
//! other records of `ledger`, what stands in `rooms` and `mutes`; then the streams are followed from the checkpoint. Of the
//! records it reads one small one for each room that ever was, and rows of the rooms that are not asleep: what it costs
//! follows from the rooms of these minutes, not from all that was ever given.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use pushmesh_bus::{Bus, ConsumeError, Entry, KvError, SubscribeError};
use pushmesh_membership::{Clock, Lease, Membership, PartitionWork};
use pushmesh_protocol::{
    RoomId, Token,
    name::{Filter, Key, Stream, Subject},
    wire::WireError,
};
use tokio::time::Instant;

use crate::{
    comets::Comets,
    config::Config,
    effects::{Effects, Tools},
    failing::Failing,
    ledger::{Ledger, Written},
    lost,
    metrics::{Holding, Metrics},
    readings::Readings,
    room::{Begin, Owner, Rooms},
    serving::{End, Serving, asks::WAITING_MAX},
    sources::{Sources, Streams},
    standing::{Known, Standing},
};

/// Between two tries to take a partition.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Rooms whose rows are read at a time.
const ROOMS_AT_ONCE: usize = 32;

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
    #[error("the checkpoint was not written")]
    Unwritten,
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
            End::Anew => tracing::warn!(%partition, "a stream begins anew: the partition is given back"),
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
        let ledger = Ledger::open(&self.bus, lease.clone()).await?;
        let clock = Clock::start();
        let (mut rooms, low_last) = self.begin(lease, &ledger, &clock).await?;
        self.load(&mut rooms, &ledger, &clock).await?;
        let mut standing = self.standing.of(partition).await;
        let first = standing.recv().await.ok_or(TakeError::Ending)?;
        let mut from = rooms.restored(clock.now());
        if low_last < from.likes.max(from.notes) {
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
                rankings_kept: self.config.rankings_kept,
            }),
            ledger,
            readings: Readings::new(WAITING_MAX),
            forgetting: None,
            next_forget: Instant::now(),
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

    /// The rooms with the checkpoint and nothing else, and how far ROOM_LOW goes. The streams are asked after the checkpoint
    /// was read: it can't have applied what they don't hold, unless they have lost their end.
    async fn begin(&self, lease: &Lease, ledger: &Ledger, clock: &Clock) -> Result<(Rooms, u64), TakeError> {
        let partition = lease.partition();
        let checkpoint = ledger.checkpoint().await?;
        let (high, normal, low) = tokio::try_join!(
            self.streams.stream_state(&Stream::ROOM_HIGH),
            self.streams.stream_state(&Stream::ROOM_NORMAL),
            self.streams.stream_state(&Stream::ROOM_LOW),
        )?;
        let unreadable = |error| TakeError::Record { key: Key::checkpoint(partition).to_string(), error };
        let stored = checkpoint.as_ref().map(|entry| &entry.value[..]);
        let mut begin = Begin::of(stored, high.created, normal.created).map_err(unreadable)?;
        if begin.is_ahead(high.last, normal.last) {
            let (gifts, chats, events) = lost::ends(&self.streams, partition, &begin.applied).await?;
            tracing::error!(
                %partition, applied = ?begin.applied, high = high.last, normal = normal.last, gifts, chats, events,
                "a stream has lost its end: sums stay, clients are told of a gap, and what comes new is applied"
            );
            self.metrics.missing.increment(1);
            begin.lost_end(gifts, chats, events);
        }
        let owner = Owner { partition, lease: lease.epoch(), streams: begin.streams, low: low.created };
        let mut rooms = Rooms::with_ends(self.config.limits(), owner, begin.ends);
        if let Some(entry) = checkpoint {
            rooms.restore(&entry.key, &entry.value, entry.revision, clock.now()).map_err(unreadable)?;
        }
        if begin.is_news {
            // Before any record says so: the next owner must know of this epoch.
            let Written::Revisions(revisions) = ledger.write(vec![rooms.checkpoint()]).await else {
                return Err(TakeError::Unwritten);
            };
            rooms.checkpoint_written(Some(revisions.first().copied().flatten().ok_or(TakeError::Unwritten)?));
        }
        Ok((rooms, low.last))
    }

    /// Every room's own record, and the rows of those that are not asleep.
    async fn load(&self, rooms: &mut Rooms, ledger: &Ledger, clock: &Clock) -> Result<(), TakeError> {
        let take = |rooms: &mut Rooms, entries: Vec<Entry>| {
            entries.into_iter().try_for_each(|entry| {
                let restored = rooms.restore(&entry.key, &entry.value, entry.revision, clock.now());
                restored.map_err(|error| TakeError::Record { key: entry.key, error })
            })
        };
        take(rooms, ledger.rooms().await?)?;
        let awake = rooms.records_taken(clock.now());
        let rows = |room: RoomId| {
            let ledger = ledger.clone();
            async move { ledger.rows(&room).await }
        };
        let mut reading = stream::iter(awake.into_iter().map(rows)).buffer_unordered(ROOMS_AT_ONCE);
        while let Some(rows) = reading.try_next().await? {
            take(rooms, rows)?;
        }
        Ok(())
    }
}
