//! Items into ROOM frames of a bounded size: how large they will be, without encoding them twice.

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    frame::{Chain, Encoding, Room, RoomItem, RoomPosition, ServerFrame},
};

/// A ROOM frame in MessagePack, for every comet and connection alike.
pub(super) fn encode(room: &RoomId, streams: u64, items: Vec<RoomItem>, heads: Option<RoomPosition>) -> Bytes {
    let frame = ServerFrame::Room(Room { room: room.clone(), epoch: streams, items, heads });
    frame.encode(Encoding::MessagePack).into()
}

/// Packs items in their order: each frame within `max_bytes`, but for one item that alone is larger.
pub(super) fn pack_all(room: &RoomId, streams: u64, items: Vec<RoomItem>, max_bytes: usize) -> Vec<Bytes> {
    let empty = empty_bytes(room, streams);
    let (mut frames, mut open, mut bytes) = (Vec::new(), Vec::new(), empty);
    for item in items {
        let more = item_bytes(&item);
        if !open.is_empty() && bytes + more > max_bytes {
            frames.push(encode(room, streams, std::mem::take(&mut open), None));
            bytes = empty;
        }
        bytes += more;
        open.push(item);
    }
    if !open.is_empty() {
        frames.push(encode(room, streams, open, None));
    }
    frames
}

/// A frame without items; at most two bytes more than it will have.
pub(super) fn empty_bytes(room: &RoomId, streams: u64) -> usize {
    // The array of two, the code, the map; "room", "epoch", "items" with the head of a long list.
    3 + 5 + text(room.as_str().len()) + 6 + number(streams) + 6 + 3
}

/// What an item adds to its frame.
pub(super) fn item_bytes(item: &RoomItem) -> usize {
    let chain = match item.chain {
        Chain::Gifts | Chain::Loose => 6,
        Chain::High => 5,
        Chain::Normal => 7,
    };
    // The map, and the keys: chain, offset, prev, type, from, at, data.
    let keys = 1 + 6 + 7 + 5 + 5 + 3 + 5;
    let from = item.from.as_ref().map_or(0, |from| 5 + text(from.as_str().len()));
    let numbers = number(item.offset) + number(item.prev) + number(item.at);
    keys + chain + numbers + text(item.kind.as_str().len()) + from + binary(item.data.0.len())
}

fn number(number: u64) -> usize {
    match number {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

fn text(bytes: usize) -> usize {
    bytes + if bytes < 32 { 1 } else { 2 }
}

fn binary(bytes: usize) -> usize {
    bytes
        + match bytes {
            0..=0xff => 2,
            0x100..=0xffff => 3,
            _ => 5,
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pushmesh_protocol::{Token, UserId};

    use super::*;

    fn any_number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift)
    }

    fn any_item() -> impl Strategy<Value = RoomItem> {
        let chain = prop::sample::select(vec![Chain::Gifts, Chain::High, Chain::Normal, Chain::Loose]);
        let bytes = prop_oneof![0usize..600, 65_500usize..65_600];
        let from = prop::option::of("[a-z]{1,64}");
        (chain, any_number(), any_number(), any_number(), "[a-z]{1,64}", from, bytes).prop_map(
            |(chain, offset, prev, at, kind, from, bytes)| RoomItem {
                chain,
                offset,
                prev,
                kind: Token::new(&kind).unwrap(),
                from: from.map(|from| UserId::new(&from).unwrap()),
                at,
                data: vec![7; bytes].into(),
            },
        )
    }

    proptest! {
        #[test]
        fn sizes_are_those_of_the_encoded_frame(
            room in "[a-z]{1,64}", streams in any_number(), items in prop::collection::vec(any_item(), 0..20)
        ) {
            let room = RoomId::new(&room).unwrap();
            let expected = empty_bytes(&room, streams) + items.iter().map(item_bytes).sum::<usize>();
            let slack = if items.len() < 16 { 2 } else { 0 };
            prop_assert_eq!(encode(&room, streams, items, None).len() + slack, expected);
        }

        #[test]
        fn frames_keep_their_limit_and_lose_nothing(items in prop::collection::vec(any_item(), 0..60)) {
            let room = RoomId::new("room").unwrap();
            let frames = pack_all(&room, 1 << 40, items.clone(), 1_396);
            let mut found = Vec::new();
            for frame in frames {
                let Ok(ServerFrame::Room(room)) = ServerFrame::decode(Encoding::MessagePack, &frame) else {
                    return Err(TestCaseError::fail("no ROOM frame"));
                };
                prop_assert!(frame.len() <= 1_396 || room.items.len() == 1, "{} bytes", frame.len());
                found.extend(room.items);
            }
            prop_assert_eq!(found, items);
        }
    }
}
