//! Members, leases, heartbeats, and what was provisioned.

use serde::{Deserialize, Serialize};

use super::Epoch;
use crate::{
    id::{Instance, Kind},
    partition::Partitions,
};

/// What the mesh was provisioned with: value of the key `info` in the bucket `mesh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshInfo {
    pub partitions: Partitions,
    pub kinds: Vec<Kind>,
}

/// Value of a member's key in the bucket `mesh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// 1 to 100.
    pub weight: u16,
    /// The revision of the first put: grows with every start.
    pub epoch: Epoch,
    /// Where clients or people reach it; may be empty.
    pub address: String,
    pub draining: bool,
    /// It takes partitions: only such members stand in the ring of their service.
    #[serde(default)]
    pub owning: bool,
}

/// Value of a lease's key in the bucket `mesh`; the key's revision is the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub owner: Instance,
    pub owner_epoch: Epoch,
}

/// Every 250 ms from every member, on core NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub epoch: Epoch,
    pub seq: u64,
}
