//! [`Around`]: what a room is told of what lies around it.

use pushmesh_protocol::{Partition, message::Epoch};

use super::{limits::Limits, standing::Standing};

/// Whose rooms these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub partition: Partition,
    /// Of the partition's lease: it goes with every batch and record.
    pub lease: Epoch,
    /// One number for the creation of ROOM_HIGH and ROOM_NORMAL: offsets of another mean nothing.
    pub streams: u64,
    /// The creation of ROOM_LOW, which a mesh may lose without losing its rooms.
    pub low: u64,
}

/// Beside a room's own state.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub limits: &'a Limits,
    pub owner: Owner,
    pub standing: &'a Standing,
    /// Connections in the room.
    pub present: u64,
    /// Everything that was stored at the take-over is applied.
    pub ready: bool,
    /// Somebody sees everything in the room.
    pub has_overseers: bool,
}
