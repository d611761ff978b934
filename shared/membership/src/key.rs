//! This member's key: written at once when what it says changes, renewed while it lives, deleted when it leaves.

use std::sync::Arc;

use pushmesh_bus::{Kv, KvError};
use pushmesh_protocol::{
    message::{Epoch, MemberRecord},
    name::Key,
    wire,
};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::tuning::{Me, Tuning};

/// What the key is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub address: String,
    pub draining: bool,
    pub owning: bool,
}

pub(crate) struct MemberKey {
    kv: Kv,
    key: Key,
    me: Arc<Me>,
    tuning: Tuning,
    said: watch::Receiver<Said>,
    epoch: Epoch,
    revision: u64,
}

impl MemberKey {
    /// Writes the key for the first time; its revision is the epoch.
    pub(crate) async fn create(
        kv: Kv,
        me: Arc<Me>,
        tuning: Tuning,
        said: watch::Receiver<Said>,
    ) -> Result<Self, KvError> {
        let key = Key::member(&me.service, &me.instance);
        // Epoch 0: "the revision of this very write".
        let mut this = Self { kv, key, me, tuning, said, epoch: 0, revision: 0 };
        this.write().await?;
        this.epoch = this.revision;
        Ok(this)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Keeps the key until `leave`, then deletes it and cancels `deleted`; `abandon` leaves it to expire.
    pub(crate) async fn keep(
        mut self,
        leave: CancellationToken,
        abandon: CancellationToken,
        deleted: CancellationToken,
    ) {
        let mut renew = tokio::time::interval(self.tuning.renew);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = abandon.cancelled() => return,
                () = leave.cancelled() => break,
                changed = self.said.changed() => if changed.is_err() { return },
                _ = renew.tick() => {}
            }
            let written = tokio::select! {
                () = abandon.cancelled() => return,
                written = self.write() => written,
            };
            if let Err(error) = written {
                // No harm yet: an expired key of a member that is heard means nothing.
                tracing::warn!(key = %self.key, %error, "a member's key was not renewed");
            }
        }
        // Only ours: a newer start of this instance may have written it since.
        let delete = abandon.run_until_cancelled(self.kv.delete_expect(&self.key, self.revision));
        match delete.await {
            Some(Ok(()) | Err(KvError::WrongRevision)) => deleted.cancel(),
            Some(Err(error)) => tracing::warn!(key = %self.key, %error, "a member's key was not deleted; it expires"),
            None => {}
        }
    }

    async fn write(&mut self) -> Result<(), KvError> {
        let said = self.said.borrow_and_update().clone();
        let record = MemberRecord {
            weight: self.me.weight,
            epoch: self.epoch,
            address: said.address,
            draining: said.draining,
            owning: said.owning,
        };
        self.revision = self.kv.put_for(&self.key, wire::encode(&record).into(), self.tuning.key_ttl).await?;
        Ok(())
    }
}
