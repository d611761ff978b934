//! Memberships of dissolved units on their way out of the directory. In no order, and made again by the next owner.

use std::time::Duration;

use pushmesh_bus::{StoreError, Stored};
use pushmesh_protocol::{Unit, UserId};
use tokio::time::Instant;

use crate::{
    partition::{ROUND_MAX, StoreRound},
    rpc::DirectoryStore,
};

const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Removals {
    waiting: Vec<(UserId, Unit)>,
    taken: Vec<(UserId, Unit)>,
    round: Option<StoreRound>,
    not_before: Option<Instant>,
}

impl Removals {
    pub(crate) fn extend(&mut self, memberships: Vec<(UserId, Unit)>) {
        self.waiting.extend(memberships);
    }

    /// What is being stored.
    pub(crate) fn round(&mut self) -> Option<&mut StoreRound> {
        self.round.as_mut()
    }

    /// What became of the round; how many are removed.
    pub(crate) fn stored(&mut self, results: Vec<Result<Stored, StoreError>>, now: Instant) -> u64 {
        self.round = None;
        let mut removed = 0;
        for (membership, result) in std::mem::take(&mut self.taken).into_iter().zip(results) {
            match result {
                Ok(_) => removed += 1,
                Err(error) => {
                    tracing::warn!(%error, "a dissolved unit's membership is not removed yet");
                    self.waiting.push(membership);
                    self.not_before = Some(now + RETRY);
                }
            }
        }
        removed
    }

    /// Starts a round if there is something to remove and none is under way.
    pub(crate) fn pump(&mut self, directory: &DirectoryStore, now: Instant) {
        if self.round.is_some() || self.waiting.is_empty() || self.not_before.is_some_and(|until| now < until) {
            return;
        }
        let from = self.waiting.len().saturating_sub(ROUND_MAX);
        self.taken = self.waiting.split_off(from);
        let (directory, taken) = (directory.clone(), self.taken.clone());
        self.round = Some(Box::pin(async move { directory.store_removals(taken).await }));
    }
}
