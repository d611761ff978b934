//! [`HistoryChain`]: which of a room's orders is read, and [`Said`]: what it holds. Pure.

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    content::Content,
    name::{Stream, Subject},
    partition::Partition,
    room::{Gift, RoomEvent, RoomHappening, RoomMessage},
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

    /// A message of its subject.
    pub fn read(self, payload: &Bytes) -> Result<Said, WireError> {
        Ok(match self {
            Self::Gifts => Said::Gift(wire::decode(payload)?),
            Self::High => Said::Chat(wire::decode(payload)?),
            Self::Normal => Said::Event(wire::decode(payload)?),
        })
    }
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Gift(Gift),
    Chat(RoomMessage),
    Event(RoomEvent),
}

impl Said {
    /// Whether its room's owner may have told it otherwise than it lies here: somebody's own words, who may have been muted.
    pub fn may_be_hidden(&self) -> bool {
        match self {
            Self::Gift(gift) => gift.note.is_some(),
            Self::Chat(message) => message.from.is_some(),
            Self::Event(event) => event.by.is_some() && matches!(event.what, RoomHappening::Message { .. }),
        }
    }

    /// As it is told of somebody who was muted: the gift stays, his words don't.
    pub fn hidden(self) -> Option<Self> {
        match self {
            Self::Gift(gift) => Some(Self::Gift(Gift { note: None, ..gift })),
            Self::Chat(_) | Self::Event(_) => None,
        }
    }

    /// As clients are told it.
    pub fn content(&self) -> Content {
        match self {
            Self::Gift(gift) => gift.into(),
            Self::Chat(message) => message.into(),
            Self::Event(event) => event.into(),
        }
    }
}
