//! The lanes, and what is counted when something falls out of one.

use bytes::Bytes;
use pushmesh_protocol::{RoomId, room::RoomClass};

use crate::limit::Micros;

/// What is dropped first, and how a drop is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Pushes, answers, kicks, gifts, chat: never dropped while anything else is left to drop.
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

impl From<RoomClass> for Class {
    fn from(class: RoomClass) -> Self {
        match class {
            RoomClass::High => Self::High,
            RoomClass::Normal => Self::Normal,
            RoomClass::Low => Self::Low,
        }
    }
}

/// What goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Gifts, and all that says whether one is in a room: a room's first frame must not overtake its JOINED.
    Urgent = 0,
    High = 1,
    Normal = 2,
    Low = 3,
}

impl Lane {
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];

    pub fn class(self) -> Class {
        match self {
            Self::Urgent | Self::High => Class::High,
            Self::Normal => Class::Normal,
            Self::Low => Class::Low,
        }
    }

    /// Of a room's frame.
    pub fn of(class: Class, urgent: bool) -> Self {
        match class {
            Class::High if urgent => Self::Urgent,
            Class::High => Self::High,
            Class::Normal => Self::Normal,
            Class::Low => Self::Low,
        }
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

/// A frame ready for the socket; its bytes are shared by all who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub bytes: Bytes,
    pub lane: Lane,
    /// Frames of one key conflate: only the newest is worth sending.
    pub key: Option<u64>,
    pub expires: Option<Micros>,
    /// The room it is of: who misses it is told which.
    pub room: Option<RoomId>,
    /// Part of what the client asked for: it has an allowance of its own beside the backlog's limits.
    pub answer: bool,
}

impl Outgoing {
    pub fn high(bytes: Bytes) -> Self {
        Self { bytes, lane: Lane::High, key: None, expires: None, room: None, answer: false }
    }

    /// JOINED and what follows it, LEFT.
    pub fn urgent(bytes: Bytes) -> Self {
        Self { lane: Lane::Urgent, ..Self::high(bytes) }
    }
}
