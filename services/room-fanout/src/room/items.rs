//! What streams hold, as items of a room's frames.

use std::sync::LazyLock;

use pushmesh_protocol::{
    Token,
    content::Content,
    frame::{Chain, RoomItem, item},
    message::Millis,
    room::{Gift, Note, RoomEvent, RoomMessage},
};
use serde::Serialize;

macro_rules! tokens {
    ($($name:ident = $text:expr;)*) => {$(
        pub(super) static $name: LazyLock<Token> = LazyLock::new(|| Token::new($text).expect("a token"));
    )*};
}

tokens! {
    LIKE = item::LIKE;
    RANKING = item::RANKING;
    LEVEL = item::LEVEL;
    PRESENCE = item::PRESENCE;
    PARTS = item::PARTS;
    // Of two frames with the same of these, the newer is enough.
    LIKES_KEY = "likes";
    HEADS_KEY = "heads";
}

pub(super) fn gift(offset: u64, prev: u64, gift: &Gift) -> RoomItem {
    Content::from(gift).at(Chain::Gifts, offset, prev)
}

pub(super) fn chat(offset: u64, prev: u64, message: &RoomMessage) -> RoomItem {
    Content::from(message).at(Chain::High, offset, prev)
}

pub(super) fn happening(offset: u64, prev: u64, event: &RoomEvent) -> RoomItem {
    Content::from(event).at(Chain::Normal, offset, prev)
}

/// A note is in no chain; its sequence tells it from others.
pub(super) fn note(sequence: u64, note: &Note) -> RoomItem {
    Content::from(note).at(Chain::Loose, sequence, 0)
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
