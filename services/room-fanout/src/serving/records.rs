//! Records: what changed is written every second and at the end, behind the frames that it speaks of.

use tokio::time::{Duration, Instant};

use super::{End, Serving};
use crate::{
    effects::Done,
    ledger::Written,
    metrics::Held,
    room::{Event, Source},
};

/// How often a checkpoint follows streams in which nothing came for its partition.
const REACHED_EVERY: Duration = Duration::from_secs(60);

impl Serving {
    pub(super) async fn write_if_due(&mut self) -> Result<(), End> {
        if Instant::now() < self.next_write {
            return Ok(());
        }
        let now = Instant::now();
        self.next_write = now + self.work.config.write_every;
        self.count();
        self.readings.forget(now.into_std());
        if now >= self.next_reached {
            self.next_reached = now + REACHED_EVERY;
            self.pass_reached().await?;
        }
        self.forget_some(now).await?;
        self.write().await
    }

    /// A checkpoint that stood still while others' messages went on would look as if something had been missed.
    async fn pass_reached(&mut self) -> Result<(), End> {
        for source in [Source::Gifts, Source::Chats, Source::Events, Source::Likes, Source::Notes] {
            if let Some(sequence) = self.reached[source as usize].take() {
                self.apply(None, Event::Passed { source, sequence }).await?;
            }
        }
        Ok(())
    }

    /// What was told is on its way before what says so.
    async fn write(&mut self) -> Result<(), End> {
        if self.is_writing {
            return Ok(());
        }
        if let Some((effects, writes)) = self.rooms.writes(self.clock.now()) {
            self.carry_out(effects).await?;
            self.check()?;
            self.is_writing = true;
            let entries = self.rooms.entries(&writes);
            self.effects.write_records(writes, entries);
        }
        Ok(())
    }

    /// Something that was begun has come to its end.
    pub(super) async fn settle(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Level { room, user, level } => self.rooms.level_stored(&room, &user, level, self.clock.now()),
            Done::Records { writes, outcome } => {
                let revisions = self.written(outcome)?;
                match self.rooms.written(*writes, &revisions, self.clock.now()) {
                    Some(checkpoint) => self.effects.write_checkpoint(checkpoint),
                    None => self.is_writing = false,
                }
            }
            Done::Checkpoint { outcome } => {
                let revisions = self.written(outcome)?;
                self.rooms.checkpoint_written(revisions.first().copied().flatten());
                self.is_writing = false;
            }
            Done::Past { room, read } => self.past_read(room, read).await?,
            Done::Aside => {}
        }
        Ok(())
    }

    fn written(&self, outcome: Written) -> Result<Vec<Option<u64>>, End> {
        match outcome {
            Written::Revisions(revisions) => {
                let stored = revisions.iter().flatten().count();
                self.work.metrics.records_written.increment(stored as u64);
                self.work.metrics.write_retries.increment((revisions.len() - stored) as u64);
                Ok(revisions)
            }
            Written::Foreign { key, by } => {
                self.work.metrics.foreign.increment(1);
                let (partition, epoch) = (self.partition, self.lease.epoch());
                tracing::warn!(%partition, epoch, key, ?by, "the ledger holds another owner's word");
                Err(End::Broken("the ledger holds another owner's word"))
            }
        }
    }

    fn count(&mut self) {
        self.work.metrics.tally(&self.rooms.take_tally());
        self.holding.set(Held { awake: self.rooms.awake(), asleep: self.rooms.asleep() });
    }

    /// Tells and writes everything that is left, and lets go: the next owner begins where this one ends.
    pub(super) async fn hand_over(mut self) -> End {
        let within = self.work.config.handover_max;
        let end = match tokio::time::timeout(within, self.finish()).await {
            Ok(Ok(())) => End::Released,
            Ok(Err(end)) => end,
            Err(_) => {
                tracing::warn!(partition = %self.partition, "handed over with records unwritten; they are replayed");
                End::Released
            }
        };
        self.count();
        end
    }

    async fn finish(&mut self) -> Result<(), End> {
        self.pass_reached().await?;
        let effects = self.rooms.close(self.clock.now());
        self.carry_out(effects).await?;
        self.write().await?;
        while self.is_writing || !self.effects.is_settled() {
            let done = tokio::select! {
                biased;
                () = self.lease.lost() => return Err(End::Lost),
                done = self.effects.next() => done,
            };
            self.settle(done).await?;
            // What was stored meanwhile is noted too.
            self.write().await?;
        }
        self.turn_away().await
    }
}
