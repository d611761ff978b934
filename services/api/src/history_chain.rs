//! [`HistoryChain`]: which of a room's orders is read. Pure.

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    content::Content,
    name::{Stream, Subject},
    partition::Partition,
    room::{Gift, RoomEvent, RoomMessage},
    wire::{self, WireError},
};

/// An order of a room's items; each is a subject of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryChain {
    Gifts,
    High,
    Normal,
}

impl HistoryChain {
    /// Where the streams hold it.
    pub fn place(self, partition: Partition, room: &RoomId) -> (Stream, Subject) {
        match self {
            Self::Gifts => (Stream::ROOM_HIGH, Subject::gift(partition, room)),
            Self::High => (Stream::ROOM_HIGH, Subject::room_chat(partition, room)),
            Self::Normal => (Stream::ROOM_NORMAL, Subject::room_event(partition, room)),
        }
    }

    /// A message of its subject, as clients are told it.
    pub fn read(self, payload: &Bytes) -> Result<Content, WireError> {
        Ok(match self {
            Self::Gifts => (&wire::decode::<Gift>(payload)?).into(),
            Self::High => (&wire::decode::<RoomMessage>(payload)?).into(),
            Self::Normal => (&wire::decode::<RoomEvent>(payload)?).into(),
        })
    }
}
