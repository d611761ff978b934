//! The three lanes, and what is counted when something falls out of one.

use bytes::Bytes;

use crate::limit::Micros;

/// What goes first, and what is dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Pushes, answers, kicks: never dropped while anything else is left to drop.
    High = 0,
    Normal = 1,
    /// Worth nothing once a newer one is there.
    Low = 2,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    pub fn name(self) -> &'static str {
        ["high", "normal", "low"][self as usize]
    }
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A newer frame with the same key took its place.
    Merged = 0,
    Expired = 1,
    /// The backlog was full.
    Full = 2,
    /// The connection closed first.
    Closed = 3,
}

impl DropReason {
    pub const ALL: [Self; 4] = [Self::Merged, Self::Expired, Self::Full, Self::Closed];

    pub fn name(self) -> &'static str {
        ["merged", "expired", "full", "closed"][self as usize]
    }
}

/// Drops by class and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops([[u64; DropReason::ALL.len()]; Class::ALL.len()]);

impl Drops {
    pub fn count(&mut self, class: Class, reason: DropReason) {
        self.0[class as usize][reason as usize] += 1;
    }

    pub fn of(&self, class: Class, reason: DropReason) -> u64 {
        self.0[class as usize][reason as usize]
    }

    pub fn each(&self) -> impl Iterator<Item = (Class, DropReason, u64)> + '_ {
        Class::ALL.into_iter().flat_map(move |class| {
            DropReason::ALL.into_iter().map(move |reason| (class, reason, self.of(class, reason)))
        })
    }
}

/// A frame ready for the socket, shared by all who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub bytes: Bytes,
    pub class: Class,
    /// Frames of one key conflate: only the newest is worth sending.
    pub key: Option<u64>,
    pub expires: Option<Micros>,
}

impl Outgoing {
    pub fn high(bytes: Bytes) -> Self {
        Self { bytes, class: Class::High, key: None, expires: None }
    }
}
