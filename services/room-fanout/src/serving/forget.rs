//! Rooms that are over: what is stored of them goes after a while, a little at a time.
//!
//! A room's rows go before its own record: an owner that dies in between leaves a record by which the next one finds the rest.

use pushmesh_bus::KvError;
use pushmesh_protocol::{RoomId, name::Key};
use tokio::time::{Duration, Instant};

use super::{End, Serving};

/// How often it is looked for rooms that are over, where the last look found none.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Records removed at a time, once in `write_every`: everything else waits for it.
const AT_ONCE: usize = 64;

/// Before it is tried again, where somebody waits for it.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A room of which not everything is gone yet.
pub struct Forgetting {
    room: RoomId,
    /// With their revisions; those at the end go first.
    left: Vec<(Key, u64)>,
    rows: usize,
}

impl Serving {
    pub(super) async fn forget_some(&mut self, now: Instant) -> Result<(), End> {
        if !self.is_ready || now < self.next_forget {
            return Ok(());
        }
        if self.forgetting.is_some() {
            return self.forget_step().await;
        }
        let Some(room) = self.rooms.forgettable(self.clock.now()) else {
            self.next_forget = now + LOOK_EVERY;
            return Ok(());
        };
        let stored = tokio::select! {
            biased;
            () = self.lease.lost() => return Err(End::Lost),
            stored = self.ledger.revisions(&room) => stored,
        };
        match stored {
            Ok(left) => {
                let rows = left.len();
                self.forgetting = Some(Forgetting { room, left, rows });
                self.forget_step().await
            }
            Err(error) => {
                self.next_forget = now + LOOK_EVERY;
                tracing::warn!(partition = %self.partition, %room, %error, "could not read a room that is over");
                Ok(())
            }
        }
    }

    async fn forget_step(&mut self) -> Result<(), End> {
        self.check()?;
        let Some(Forgetting { room, left, rows }) = &mut self.forgetting else { return Ok(()) };
        // Its own record, the first of them, alone and last.
        let from = left.len().saturating_sub(AT_ONCE).max(usize::from(left.len() > 1));
        let some = left[from..].to_vec();
        let removed = tokio::select! {
            biased;
            () = self.lease.lost() => return Err(End::Lost),
            removed = self.ledger.remove(&some) => removed,
        };
        match removed {
            Ok(()) => left.truncate(left.len() - some.len()),
            Err(KvError::WrongRevision) => {
                self.work.metrics.foreign.increment(1);
                return Err(End::Broken("the ledger holds another owner's word"));
            }
            Err(error) => {
                tracing::warn!(partition = %self.partition, %room, %error, "could not remove what is stored of a room");
                self.next_forget = Instant::now() + LOOK_EVERY;
            }
        }
        if left.is_empty() {
            tracing::info!(partition = %self.partition, %room, records = *rows, "a room is over and forgotten");
            self.rooms.forgotten(room);
            self.forgetting = None;
        }
        Ok(())
    }

    /// Somebody wants the room of which half is gone: then all of it goes first.
    pub(super) async fn forget_rest(&mut self, room: &RoomId) -> Result<(), End> {
        while self.forgetting.as_ref().is_some_and(|forgetting| forgetting.room == *room) {
            let before = self.left_to_forget();
            self.forget_step().await?;
            if self.left_to_forget() == before {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
        Ok(())
    }

    fn left_to_forget(&self) -> usize {
        self.forgetting.as_ref().map_or(0, |forgetting| forgetting.left.len())
    }
}
