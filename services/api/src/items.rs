//! What the streams hold, as clients get it. Pure.

use bytes::Bytes;
use pushmesh_protocol::{
    Payload, Token, UserId,
    frame::item,
    message::Millis,
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

/// An item of a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub kind: Token,
    pub from: Option<UserId>,
    pub at: Millis,
    pub data: Payload,
}

impl Item {
    /// From a message of the chain's subject.
    pub fn read(chain: HistoryChain, payload: &Bytes) -> Result<Self, WireError> {
        Ok(match chain {
            HistoryChain::Gifts => wire::decode::<Gift>(payload)?.into(),
            HistoryChain::High => wire::decode::<RoomMessage>(payload)?.into(),
            HistoryChain::Normal => wire::decode::<RoomEvent>(payload)?.into(),
        })
    }
}

impl From<Gift> for Item {
    fn from(gift: Gift) -> Self {
        let data = item::Gift {
            key: gift.key.as_str().to_owned(),
            gift: gift.gift,
            count: gift.count,
            value: gift.value,
            to: gift.to,
            note: gift.note,
        };
        Self { kind: own(item::GIFT), from: Some(gift.from), at: gift.at, data: item::write(&data) }
    }
}

impl From<RoomMessage> for Item {
    fn from(RoomMessage { kind, from, at, data, .. }: RoomMessage) -> Self {
        Self { kind, from, at, data }
    }
}

impl From<RoomEvent> for Item {
    fn from(event: RoomEvent) -> Self {
        let (kind, data) = match event.what {
            RoomHappening::State(state) => (own(item::STATE), item::write(&state)),
            RoomHappening::Mute { user, until, everywhere } => {
                (own(item::MUTE), item::write(&item::Mute { user, until, everywhere }))
            }
            RoomHappening::Role { user, role } => (own(item::ROLE), item::write(&item::RoleChange { user, role })),
            RoomHappening::Kick { user } => (own(item::KICK), item::write(&item::Kick { user })),
            RoomHappening::Message { kind, data } => (kind, data),
        };
        Self { kind, from: event.by, at: event.at, data }
    }
}

fn own(kind: &str) -> Token {
    Token::new(kind).expect("the mesh's own types are tokens")
}
