//! What a room's frame says, read once for all members that get the same bytes.

use std::{collections::HashMap, rc::Rc};

use pushmesh_protocol::{
    RoomId,
    frame::{Chain, Encoding, Room, RoomItem, RoomPosition, ServerFrame, item},
};

/// A frame of a room.
#[derive(Debug)]
pub struct Digest {
    pub room: RoomId,
    pub epoch: u64,
    pub entries: Vec<Entry>,
    pub heads: Option<RoomPosition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub chain: Chain,
    pub offset: u64,
    pub prev: u64,
    pub what: What,
}

/// What counts for a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A gift, a line of chat, or a message of class normal, and when it was due.
    Said {
        due_us: u64,
    },
    Likes {
        total: u64,
    },
    /// The room was cut, or merged.
    Parts(u16),
    Other,
}

/// When something is due, as its text says it first.
pub fn stamp(due_us: u64, bytes: usize) -> String {
    let mut text = format!("{due_us} ");
    text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
    text
}

fn read_stamp(text: &[u8]) -> What {
    let digits = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let due_us = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    due_us.map_or(What::Other, |due_us| What::Said { due_us })
}

impl From<Room> for Digest {
    fn from(frame: Room) -> Self {
        let entries = frame.items.iter().map(Entry::from).collect();
        Self { room: frame.room, epoch: frame.epoch, entries, heads: frame.heads }
    }
}

impl From<&RoomItem> for Entry {
    fn from(of: &RoomItem) -> Self {
        let what = match of.kind.as_str() {
            item::GIFT => {
                let note = item::read::<item::Gift>(&of.data).and_then(|gift| gift.note);
                note.map_or(What::Other, |note| read_stamp(note.as_bytes()))
            }
            item::LIKE => {
                item::read(&of.data).map_or(What::Other, |like: item::Like| What::Likes { total: like.total })
            }
            item::PARTS => item::read(&of.data).map_or(What::Other, |parts: item::Parts| What::Parts(parts.parts)),
            _ if of.chain == Chain::Loose => What::Other,
            _ => read_stamp(&of.data.0),
        };
        Self { chain: of.chain, offset: of.offset, prev: of.prev, what }
    }
}

/// Any frame of a comet's.
#[derive(Debug, Clone)]
pub enum Reading {
    Room(Rc<Digest>),
    /// Another frame, or one that nobody can read.
    Other(Option<Rc<ServerFrame>>),
}

/// Frames that were read of late, by their bytes.
#[derive(Debug, Default)]
pub struct Readings {
    known: HashMap<u64, Rc<Digest>>,
    older: HashMap<u64, Rc<Digest>>,
}

/// As many are known twice.
const KNOWN_MAX: usize = 8192;
/// A frame's first bytes: its code, in MessagePack.
const ROOM_FRAME: [u8; 2] = [0x92, 12];

impl Readings {
    /// What a frame says, and whether it was read for the first time.
    pub fn read(&mut self, bytes: &[u8]) -> (Reading, bool) {
        if !bytes.starts_with(&ROOM_FRAME) {
            return (Reading::Other(ServerFrame::decode(Encoding::MessagePack, bytes).ok().map(Rc::new)), true);
        }
        let hash = fingerprint(bytes);
        if let Some(known) = self.known.get(&hash).or_else(|| self.older.get(&hash)) {
            return (Reading::Room(known.clone()), false);
        }
        let Ok(ServerFrame::Room(frame)) = ServerFrame::decode(Encoding::MessagePack, bytes) else {
            return (Reading::Other(None), true);
        };
        if self.known.len() >= KNOWN_MAX {
            self.older = std::mem::take(&mut self.known);
        }
        let digest = Rc::new(Digest::from(frame));
        self.known.insert(hash, digest.clone());
        (Reading::Room(digest), true)
    }
}

// Each member's copy is looked up by it: it must cost less than the read that brought it.
fn fingerprint(bytes: &[u8]) -> u64 {
    const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
    let (chunks, rest) = bytes.as_chunks::<16>();
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let mut lanes = [bytes.len() as u64, 1];
    for chunk in chunks.iter().chain([&last]) {
        let (words, _) = chunk.as_chunks::<8>();
        for (lane, (word, factor)) in lanes.iter_mut().zip(words.iter().zip(FACTORS)) {
            *lane = (lane.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(factor);
        }
    }
    lanes[0] ^ lanes[1].rotate_left(32)
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::Token;

    use super::*;

    fn item(kind: &str, chain: Chain, data: Vec<u8>) -> RoomItem {
        let kind = Token::new(kind).unwrap();
        RoomItem { chain, offset: 7, prev: 3, kind, from: None, at: 0, data: data.into() }
    }

    #[test]
    fn the_same_bytes_are_read_once() {
        let gift = item::Gift {
            key: "k".into(),
            gift: Token::new("rose").unwrap(),
            count: 1,
            value: 5,
            to: None,
            note: Some(stamp(1234, 0)),
        };
        let items = vec![
            item(item::GIFT, Chain::Gifts, serde_json::to_vec(&gift).unwrap()),
            item(item::CHAT, Chain::High, stamp(99, 40).into_bytes()),
            item(item::LIKE, Chain::Loose, br#"{"count":2,"total":17}"#.to_vec()),
            item(item::PARTS, Chain::High, br#"{"parts":4}"#.to_vec()),
            item(item::PRESENCE, Chain::Loose, br#"{"present":4}"#.to_vec()),
        ];
        let frame = ServerFrame::Room(Room { room: RoomId::new("r").unwrap(), epoch: 1, items, heads: None });
        let bytes = frame.encode(Encoding::MessagePack);
        let mut readings = Readings::default();
        let (Reading::Room(first), true) = readings.read(&bytes) else { panic!("no room's frame") };
        let whats: Vec<_> = first.entries.iter().map(|entry| entry.what).collect();
        let (gift, chat) = (What::Said { due_us: 1234 }, What::Said { due_us: 99 });
        assert_eq!(whats, [gift, chat, What::Likes { total: 17 }, What::Parts(4), What::Other]);
        assert!(matches!(readings.read(&bytes), (Reading::Room(_), false)));
    }
}
