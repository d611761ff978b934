//! The note of a partition: where its owners stopped, as the last of them knew it.
//!
//! The consumer of PUSH knows up to where it has delivered, which is more than anybody may have looked at; and it forgets
//! when it is set back. The note says the rest: whoever lets go, fenced or asked to, says how far he has looked, and only one
//! that died is judged by what was delivered to him. Each owner writes it on top of what he read: one that stood still, and
//! whose partition has gone over meanwhile, writes nothing.

use pushmesh_bus::{Kv, KvError};
use pushmesh_protocol::{Partition, message::HandOver, name::Key, wire};

/// See the module's documentation. It stands for ever, one key for each partition.
pub struct Note {
    pending: Kv,
    key: Key,
    /// What it says, where anybody can read it.
    says: Option<HandOver>,
    /// `None`: there is none yet.
    revision: Option<u64>,
}

impl Note {
    pub async fn read(pending: &Kv, partition: Partition) -> Result<Self, KvError> {
        let key = Key::hand_over(partition);
        let entry = pending.get(&key).await?;
        let says = entry.as_ref().and_then(|entry| wire::decode(&entry.value).ok());
        Ok(Self { pending: pending.clone(), key, says, revision: entry.map(|entry| entry.revision) })
    }

    /// Up to which message of PUSH everything may have been sent once, where the consumer has delivered up to `delivered`.
    ///
    /// Who handed over knew it exactly. After any other end everything counts that was delivered, and what had been before
    /// the consumer was set back.
    pub fn sent(&self, delivered: u64) -> u64 {
        match self.says {
            Some(HandOver { sequence, handed_over: true }) => sequence,
            Some(HandOver { sequence, handed_over: false }) => delivered.max(sequence),
            None => delivered,
        }
    }

    /// It is ours from now on, and everything up to `sent` may have been sent.
    pub async fn owned(&mut self, sent: u64) -> Result<(), KvError> {
        if self.revision.is_none() && sent == 0 {
            return Ok(());
        }
        self.write(HandOver { sequence: sent, handed_over: false }).await
    }

    /// We have come further than it says: from here on the consumer alone tells what was sent.
    pub async fn passed(&mut self) -> Result<(), KvError> {
        self.write(HandOver { sequence: 0, handed_over: false }).await
    }

    /// We let go, in good order or fenced, and have looked at nothing after `seen`.
    pub async fn handed_over(&mut self, seen: u64) -> Result<(), KvError> {
        self.write(HandOver { sequence: seen, handed_over: true }).await
    }

    /// What was sent before we came, as far as we have noted it.
    pub fn noted(&self) -> u64 {
        self.says.map_or(0, |says| says.sequence)
    }

    async fn write(&mut self, says: HandOver) -> Result<(), KvError> {
        if self.says == Some(says) {
            return Ok(());
        }
        let value = wire::encode(&says).into();
        let revision = match self.revision {
            Some(revision) => self.pending.update(&self.key, value, revision).await?,
            None => self.pending.create(&self.key, value).await?,
        };
        (self.says, self.revision) = (Some(says), Some(revision));
        Ok(())
    }
}
