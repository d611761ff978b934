//! What streams hold, as items of a room's frames.

use std::sync::LazyLock;

use pushmesh_protocol::{
    Payload, Token, UserId,
    frame::{Chain, Role, RoomItem, item},
    message::Millis,
    room::{Gift, Note, RoomEvent, RoomHappening, RoomMessage},
};
use serde::Serialize;

macro_rules! tokens {
    ($($name:ident = $text:expr;)*) => {$(
        pub(super) static $name: LazyLock<Token> = LazyLock::new(|| Token::new($text).expect("a token"));
    )*};
}

tokens! {
    GIFT = item::GIFT;
    LIKE = item::LIKE;
    STATE = item::STATE;
    MUTE = item::MUTE;
    ROLE = item::ROLE;
    KICK = item::KICK;
    RANKING = item::RANKING;
    LEVEL = item::LEVEL;
    PRESENCE = item::PRESENCE;
    PARTS = item::PARTS;
    // Of two frames with the same of these, the newer is enough.
    LIKES_KEY = "likes";
    HEADS_KEY = "heads";
}

pub(super) fn gift(offset: u64, prev: u64, gift: &Gift) -> RoomItem {
    let data = item::Gift {
        key: gift.key.as_str().to_owned(),
        gift: gift.gift.clone(),
        count: gift.count,
        value: gift.value,
        to: gift.to.clone(),
        note: gift.note.clone(),
    };
    let (kind, from, at, data) = (GIFT.clone(), Some(gift.from.clone()), gift.at, item::write(&data));
    RoomItem { chain: Chain::Gifts, offset, prev, kind, from, at, data }
}

pub(super) fn chat(offset: u64, prev: u64, message: &RoomMessage) -> RoomItem {
    let (kind, from, at, data) = (message.kind.clone(), message.from.clone(), message.at, message.data.clone());
    RoomItem { chain: Chain::High, offset, prev, kind, from, at, data }
}

pub(super) fn happening(offset: u64, prev: u64, event: &RoomEvent) -> RoomItem {
    let (kind, data): (&Token, Payload) = match &event.what {
        RoomHappening::State(state) => (&STATE, item::write(state)),
        RoomHappening::Mute { user, until, everywhere } => {
            (&MUTE, item::write(&item::Mute { user: user.clone(), until: *until, everywhere: *everywhere }))
        }
        RoomHappening::Role { user, role } => (&ROLE, role_change(user, *role)),
        RoomHappening::Kick { user } => (&KICK, item::write(&item::Kick { user: user.clone() })),
        RoomHappening::Message { kind, data } => (kind, data.clone()),
    };
    let (kind, from, at) = (kind.clone(), event.by.clone(), event.at);
    RoomItem { chain: Chain::Normal, offset, prev, kind, from, at, data }
}

/// A note is in no chain; its sequence tells it from others.
pub(super) fn note(sequence: u64, note: Note) -> RoomItem {
    let Note { kind, from, at, data, .. } = note;
    RoomItem { chain: Chain::Loose, offset: sequence, prev: 0, kind, from, at, data }
}

/// Moves whoever stands at `prev` in the chat to `offset`.
pub(super) fn parts(offset: u64, prev: u64, parts: u16, at: Millis) -> RoomItem {
    let data = item::write(&item::Parts { parts });
    RoomItem { chain: Chain::High, offset, prev, kind: PARTS.clone(), from: None, at, data }
}

/// Of the mesh itself, in no chain.
pub(super) fn loose<T: Serialize>(kind: &Token, at: Millis, data: &T) -> RoomItem {
    let (kind, data) = (kind.clone(), item::write(data));
    RoomItem { chain: Chain::Loose, offset: 0, prev: 0, kind, from: None, at, data }
}

fn role_change(user: &UserId, role: Option<Role>) -> Payload {
    item::write(&item::RoleChange { user: user.clone(), role })
}
