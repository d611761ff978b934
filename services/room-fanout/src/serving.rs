//! The task of one partition: it chooses what comes next, and the rooms decide.
//!
//! A turn takes up to 32 of what waits, the urgent first; then what is due is told. Nothing that is stored or read is
//! waited for, but for a sleeping room's own records.

pub mod asks;
pub mod forget;
mod records;

use std::sync::Arc;

use pushmesh_bus::{FollowEvent, Message, StreamMessage};
use pushmesh_membership::{Clock, Lease};
use pushmesh_protocol::{
    Partition, RoomId,
    message::{DeadReason, Millis},
    name::{Stream, Subject},
    room::{RoomBatch, RoomPresence},
    wire,
};
use tokio::time::{Duration, Instant};

use self::forget::Forgetting;
use crate::{
    comets::Comets,
    effects::{Dead, Done, Effects, LevelUp},
    failing::Place,
    handlers,
    ledger::Ledger,
    metrics::Holding,
    partition::Work,
    readings::Readings,
    room::{Asleep, Effect, Event, Rooms, Source},
    sources::{Arrived, Sources},
    standing::{Fact, Known, Told},
};

/// Of what waits, so many are applied between two looks at what is due.
const TURN_MAX: usize = 32;
/// Between two tries to wake a room.
const WAKE_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A partition that is served.
pub struct Serving {
    pub rooms: Rooms,
    pub clock: Clock,
    pub sources: Sources,
    /// Which sources have told all that was stored at the take-over.
    pub caught_up: [bool; 5],
    pub is_ready: bool,
    pub known: Known,
    pub comets: Comets,
    pub effects: Effects,
    pub ledger: Ledger,
    /// Who came back and waits for what the streams hold.
    pub readings: Readings<asks::Asking>,
    /// A room that is over, and of which something is still stored.
    pub forgetting: Option<Forgetting>,
    pub next_forget: Instant,
    /// Sources in which nothing of this partition came since: up to where.
    pub reached: [Option<u64>; 5],
    pub next_reached: Instant,
    /// Records are on their way.
    pub is_writing: bool,
    pub next_write: Instant,
    /// When api took the gifts that were applied and not told yet.
    pub gifts: Vec<Millis>,
    pub holding: Holding,
    pub work: Arc<Work>,
    pub lease: Lease,
    pub partition: Partition,
}

/// How the work on a partition ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Released,
    Lost,
    /// A stream is another one, or has lost its end: what is known is written, and all begins again from what is stored.
    Anew,
    /// It can't go on as it is, though the lease is held.
    Broken(&'static str),
}

/// What a partition's task waited for.
enum Wake {
    Control,
    Done(Done),
    Arrived(Arrived),
    Comets,
    Due,
}

impl Serving {
    /// `begun`: when the take-over began.
    pub async fn run(mut self, begun: Instant) -> End {
        match self.serve(begun).await {
            Ok(()) => self.hand_over().await,
            // What is applied and not written stands in no stream any more.
            Err(End::Anew) => match self.hand_over().await {
                End::Released => End::Anew,
                end => end,
            },
            Err(end) => end,
        }
    }

    /// Until the partition is to be handed over.
    async fn serve(&mut self, begun: Instant) -> Result<(), End> {
        while !self.lease.is_released() {
            let mut is_busy = false;
            while let Some(done) = self.effects.ready() {
                self.settle(done).await?;
            }
            for _ in 0..TURN_MAX {
                let Some(arrived) = self.sources.ready() else { break };
                is_busy = true;
                self.take(arrived).await?;
            }
            for comet in self.comets.take_gone() {
                self.apply(None, Event::CometGone(comet)).await?;
            }
            self.begin(begun);
            self.tell().await?;
            self.write_if_due().await?;
            if is_busy {
                tokio::task::yield_now().await;
                continue;
            }
            match self.wake().await {
                Wake::Done(done) => self.settle(done).await?,
                Wake::Arrived(arrived) => self.take(arrived).await?,
                // Looked at with the next turn.
                Wake::Comets | Wake::Control | Wake::Due => {}
            }
        }
        self.check()
    }

    /// Async chooses: every arm is cancel safe.
    async fn wake(&mut self) -> Wake {
        let due = self.rooms.next_deadline().map_or(self.next_write, |at| self.clock.instant(at).min(self.next_write));
        tokio::select! {
            biased;
            // Also when it is lost.
            () = self.lease.released() => Wake::Control,
            arrived = self.sources.next() => Wake::Arrived(arrived),
            done = self.effects.next() => Wake::Done(done),
            () = self.comets.changed() => Wake::Comets,
            () = tokio::time::sleep_until(due) => Wake::Due,
        }
    }

    /// The clock knows before anybody has said so: a process that stood still does nothing more.
    fn check(&self) -> Result<(), End> {
        if self.lease.held() { Ok(()) } else { Err(End::Lost) }
    }

    /// Answers begin once everything that was stored at the take-over is applied.
    fn begin(&mut self, begun: Instant) {
        if !self.is_ready && self.caught_up == [true; 5] {
            self.is_ready = true;
            self.rooms.ready(self.clock.now());
            self.work.metrics.load_seconds.record(begun.elapsed().as_secs_f64());
        }
    }

    async fn take(&mut self, arrived: Arrived) -> Result<(), End> {
        match arrived {
            Arrived::Stream(source, FollowEvent::Message(message)) => self.message(source, message).await,
            Arrived::Stream(source, FollowEvent::CaughtUp) => {
                self.caught_up[source as usize] = true;
                Ok(())
            }
            Arrived::Stream(source, FollowEvent::Missing { after, first }) => {
                self.missing(source, after, first);
                Ok(())
            }
            Arrived::Stream(source, FollowEvent::Reached(sequence)) => {
                self.reached[source as usize] = Some(sequence);
                Ok(())
            }
            Arrived::Stream(_, FollowEvent::Anew) => Err(End::Anew),
            Arrived::Ask(message) => self.ask(message).await,
            Arrived::Presence(message) => self.presence(message).await,
            Arrived::Told(told) => self.hear(told).await,
            Arrived::Ended => Err(End::Broken("a connection ended")),
        }
    }

    /// Of ROOM_LOW only the last message of each subject stays: what is gone from there was replaced, or told long ago.
    fn missing(&self, source: Source, after: u64, first: u64) {
        if is_log(source) {
            self.work.metrics.missing.increment(1);
            let partition = self.partition;
            tracing::error!(%partition, ?source, after, first, "a stream may have lost what was to be replayed");
        }
    }

    async fn message(&mut self, source: Source, message: StreamMessage) -> Result<(), End> {
        self.reached[source as usize] = None;
        self.rooms.stored_at(source, message.at);
        let place = (self.partition, source, message.sequence);
        if self.work.failing.is_given_up(&place) {
            let detail = "its application failed three times".to_owned();
            return self.pass_over(source, message, DeadReason::Rejected, detail).await;
        }
        let read = match source {
            Source::Gifts => handlers::gift::read(&message, self.partition),
            Source::Chats => handlers::chat::read(&message, self.partition),
            Source::Events => handlers::event::read(&message, self.partition),
            Source::Likes => handlers::like::read(&message, self.partition),
            Source::Notes => handlers::note::read(&message, self.partition),
        };
        match read {
            Ok(event) => {
                if let (true, Event::Gift { gift, .. }) = (self.is_ready, &event) {
                    self.gifts.push(gift.at);
                }
                self.apply(Some(place), event).await
            }
            Err(error) => {
                self.work.metrics.malformed(source);
                self.pass_over(source, message, DeadReason::Malformed, error.to_string()).await
            }
        }
    }

    /// The message becomes a dead letter; what is behind it goes on.
    async fn pass_over(
        &mut self,
        source: Source,
        message: StreamMessage,
        reason: DeadReason,
        detail: String,
    ) -> Result<(), End> {
        let StreamMessage { subject, payload, sequence, .. } = message;
        let stream = match source {
            Source::Gifts | Source::Chats => Stream::ROOM_HIGH,
            Source::Events => Stream::ROOM_NORMAL,
            Source::Likes | Source::Notes => Stream::ROOM_LOW,
        };
        self.effects.bury(Dead { reason, detail, stream, sequence, subject, payload, at: self.clock.now() });
        self.apply(None, Event::Passed { source, sequence }).await
    }

    async fn presence(&mut self, message: Message) -> Result<(), End> {
        match wire::decode::<RoomPresence>(&message.payload) {
            Ok(report) if self.comets.admits(&report) => self.apply(None, Event::Presence(report)).await,
            Ok(_) => Ok(()),
            Err(error) => {
                self.work.metrics.malformed_presence.increment(1);
                tracing::warn!(partition = %self.partition, %error, "a count of who is there can't be read");
                Ok(())
            }
        }
    }

    pub async fn hear(&mut self, told: Told) -> Result<(), End> {
        for fact in self.known.apply(told) {
            let event = match fact {
                Fact::State { room, state } => Event::State { room, state },
                Fact::Role { room, user, role } => Event::Role { room, user, role },
                Fact::Mute { room, user, mute } => Event::Mute { room, user, mute },
            };
            self.apply(None, event).await?;
        }
        Ok(())
    }

    /// Sync applies. A sleeping room is woken first; a message that makes the rooms fail leaves them unusable.
    async fn apply(&mut self, place: Option<Place>, event: Event) -> Result<(), End> {
        let mut event = event;
        loop {
            let now = self.clock.now();
            let rooms = &mut self.rooms;
            match self.work.failing.guard(place, || rooms.apply(event, now)) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(asleep)) => {
                    let Asleep { room, event: again } = asleep;
                    self.wake_room(&room).await?;
                    event = *again;
                }
                Err(failed) => {
                    tracing::error!(partition = %self.partition, ?place, %failed, "a message could not be applied");
                    return Err(End::Broken("a message could not be applied"));
                }
            }
        }
    }

    /// Everything else waits for it: the order of what comes is kept.
    async fn wake_room(&mut self, room: &RoomId) -> Result<(), End> {
        self.forget_rest(room).await?;
        loop {
            let loaded = tokio::select! {
                biased;
                () = self.lease.lost() => return Err(End::Lost),
                loaded = self.ledger.load_room(room) => loaded,
            };
            match loaded {
                Ok(entries) => {
                    let entries = entries.into_iter().map(|entry| (entry.key, entry.value, entry.revision));
                    return self.rooms.wake(room, entries, self.clock.now()).map_err(|error| {
                        self.work.metrics.unreadable_records.increment(1);
                        tracing::error!(partition = %self.partition, %room, %error, "a room's records can't be read");
                        End::Broken("a room's records can't be read")
                    });
                }
                Err(error) => {
                    tracing::warn!(partition = %self.partition, %error, "could not read a sleeping room; again");
                }
            }
            self.check()?;
            tokio::time::sleep(WAKE_AGAIN_AFTER).await;
        }
    }

    /// What is due goes out.
    async fn tell(&mut self) -> Result<(), End> {
        let effects = self.rooms.tick(self.clock.now());
        self.carry_out(effects).await?;
        let now = self.clock.now();
        for at in self.gifts.drain(..) {
            self.work.metrics.gift_seconds.record(now.saturating_sub(at) as f64 / 1_000.0);
        }
        Ok(())
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), End> {
        for effect in effects {
            match effect {
                Effect::Tell(batch) => self.publish(&batch).await?,
                Effect::Ranking { ranking, gift } => self.effects.store_ranking(ranking, gift),
                Effect::Level { note, id, user, level } => {
                    self.effects.store_level(LevelUp { note, id, user, level });
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, batch: &RoomBatch) -> Result<(), End> {
        self.check()?;
        let subject = Subject::room_frame(self.partition, &batch.room);
        let published = self.work.bus.publish(subject, wire::encode(batch).into()).await;
        if let Err(error) = &published {
            tracing::warn!(partition = %self.partition, room = %batch.room, %error, "frames were not sent");
        }
        self.work.metrics.told(batch, published.is_ok());
        Ok(())
    }
}

/// ROOM_LOW holds the last message of each subject, and may be lost.
fn is_log(source: Source) -> bool {
    matches!(source, Source::Gifts | Source::Chats | Source::Events)
}
