//! Live rooms on one shard: who is in them, and what is on its way to them. Pure: sockets and clocks are the shard's.

pub mod crowd;
pub mod frame;
pub mod membership;
pub mod sweep;
pub mod table;

use pushmesh_protocol::{RoomId, UserId};

use self::{
    crowd::Crowd,
    sweep::{Sweep, Urgency},
};
use crate::framing::Dialect;

/// One room with a member here.
#[derive(Debug)]
pub struct Room {
    pub id: RoomId,
    pub crowd: Crowd,
    pub sweep: Sweep,
    /// Members who have been told JOINED.
    pub present: u32,
    /// Members by dialect.
    pub dialects: [u32; Dialect::ALL.len()],
    /// Who came and went since the last tally, where that is told.
    pub came: Vec<UserId>,
    pub went: Vec<UserId>,
    /// The mesh does not know its newest numbers.
    is_changed: bool,
    /// Where it waits for its turn.
    queued: Option<Urgency>,
}

impl Room {
    fn new(id: RoomId) -> Self {
        Self {
            id,
            crowd: Crowd::default(),
            sweep: Sweep::default(),
            present: 0,
            dialects: [0; Dialect::ALL.len()],
            came: Vec::new(),
            went: Vec::new(),
            is_changed: false,
            queued: None,
        }
    }
}

/// What the mesh is told of a room at one shard: how it is now, not what changed, so that a lost one is mended by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub room: RoomId,
    /// Connections that frames are for, those that are joining among them.
    pub members: u32,
    /// Those that have joined.
    pub present: u32,
    pub dialects: [u32; Dialect::ALL.len()],
    pub came: Vec<UserId>,
    pub went: Vec<UserId>,
}
