//! What the distributor asks of push services.

use serde::{Deserialize, Serialize};

use super::{Epoch, LoginRecord};
use crate::{id::Instance, partition::Partition};

/// Request to the instance that owns the partitions in a kind; answered by an [`OnlineAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineBatch {
    pub from: Instance,
    pub entries: Vec<OnlineEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineEntry {
    pub partition: Partition,
    /// The distributor's lease of the partition: receivers refuse older ones.
    pub epoch: Epoch,
    /// The record's sequence in LOGIN: the order of a user's records, whichever way they came.
    pub sequence: u64,
    pub record: LoginRecord,
}

/// As many results as there were entries, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineAnswer {
    pub results: Vec<OnlineResult>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnlineResult {
    /// Evaluated, and its pushes are stored.
    Done { pushes: u32 },
    /// Another instance owns the partition: look it up again.
    NotMine,
    /// The sender's epoch is older than one already seen: it owns the partition no more.
    Fenced { current: Epoch },
    /// Not stored now: say it again.
    Failed { reason: String },
}

/// What `LATE_<kind>` holds: a record that its kind could not take in time.
pub type LateRecord = OnlineEntry;
