//! Partitions: work is cut into P parts by the FNV-1a hash of a user or room.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    gift_key::GiftKey,
    id::{RoomId, UserId},
};

/// Most partitions a mesh may be provisioned with.
pub const PARTITIONS_MAX: u16 = 1024;

/// The number of one partition, `0..P`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many partitions a mesh has: fixed when it is provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Partitions(u16);

/// A count of partitions outside its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partitions must be 1 to {PARTITIONS_MAX}, not {0}")]
pub struct PartitionsError(u16);

impl Partitions {
    pub fn new(count: u16) -> Result<Self, PartitionsError> {
        if (1..=PARTITIONS_MAX).contains(&count) { Ok(Self(count)) } else { Err(PartitionsError(count)) }
    }

    pub fn count(self) -> u16 {
        self.0
    }

    pub fn of_user(self, user: &UserId) -> Partition {
        self.of_bytes(user.as_str().as_bytes())
    }

    pub fn of_room(self, room: &RoomId) -> Partition {
        self.of_bytes(room.as_str().as_bytes())
    }

    pub fn of_gift_key(self, key: &GiftKey) -> Partition {
        self.of_bytes(key.as_str().as_bytes())
    }

    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.0).map(Partition)
    }

    pub fn contains(self, partition: Partition) -> bool {
        partition.0 < self.0
    }

    fn of_bytes(self, bytes: &[u8]) -> Partition {
        Partition((fnv1a32(bytes) % u32::from(self.0)) as u16)
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self(64)
    }
}

impl TryFrom<u16> for Partitions {
    type Error = PartitionsError;
    fn try_from(count: u16) -> Result<Self, PartitionsError> {
        Self::new(count)
    }
}

impl From<Partitions> for u16 {
    fn from(partitions: Partitions) -> u16 {
        partitions.0
    }
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo): what nats-server's own `partition()` transform uses.
pub fn fnv1a32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_matches_its_published_vectors() {
        assert_eq!(fnv1a32(b""), 0x811c_9dc5);
        assert_eq!(fnv1a32(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a32(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn the_count_has_limits() {
        assert!(Partitions::new(0).is_err());
        assert!(Partitions::new(1025).is_err());
        assert_eq!(Partitions::default().count(), 64);
    }
}
