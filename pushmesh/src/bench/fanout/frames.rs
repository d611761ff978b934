//! What is sent: 128 bytes that say which message they are, in the frames of each protocol.

use bytes::Bytes;
use pushmesh_protocol::{
    Partitions, RoomId, Token, UserId,
    frame::{Chain, Encoding, Room, RoomItem, ServerFrame, item},
    message::Epoch,
    payload::Payload,
    room::{Audience, RoomBatch, RoomClass, RoomFrame},
    wire,
};
use serde::{Deserialize, Serialize};

pub const PAYLOAD_BYTES: usize = 128;
/// The digits that a payload begins with.
const DIGITS: usize = 8;
/// All offsets, epochs and times take as many bytes.
const LARGE: u64 = 1 << 40;
/// Newer than any owner's: what the room's own owner says besides is refused, and all bytes are the bench's.
pub const EPOCH: Epoch = 1 << 62;
/// The one subject, topic or channel of a peer.
pub const TOPIC: &str = "bench";

/// How a server speaks to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// pushmesh, MessagePack over WebSocket.
    WebSocket,
    /// pushmesh, MessagePack over TCP.
    Tcp,
    Nats,
    /// nginx with nchan, over WebSocket.
    Nchan,
    /// MQTT 3.1.1, of mosquitto.
    Mqtt,
}

/// The payload of a message: its number in seven-bit digits, then letters.
pub fn payload(number: u64) -> [u8; PAYLOAD_BYTES] {
    let mut payload = [b'm'; PAYLOAD_BYTES];
    for (place, byte) in payload.iter_mut().take(DIGITS).enumerate() {
        *byte = 0x40 | (number >> (6 * place) & 0x3f) as u8;
    }
    payload
}

/// Which message a payload is of; `None` if it is none of ours.
pub fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.first_chunk::<DIGITS>()?;
    let mut number = 0;
    for (place, byte) in digits.iter().enumerate() {
        if byte & 0xc0 != 0x40 {
            return None;
        }
        number |= u64::from(byte & 0x3f) << (6 * place);
    }
    Some(number)
}

/// The ROOM frame of a message, as its owner would say it: one item of chat.
pub fn room_frame(room: &RoomId, number: u64) -> ServerFrame {
    let chat = RoomItem {
        chain: Chain::High,
        offset: LARGE + number + 1,
        prev: LARGE + number,
        kind: Token::new(item::CHAT).expect("a token"),
        from: Some(UserId::new("u0").expect("a token")),
        at: LARGE,
        data: Payload(Bytes::copy_from_slice(&payload(number))),
    };
    ServerFrame::Room(Room { room: room.clone(), epoch: LARGE, items: vec![chat], heads: None })
}

/// What a room's owner publishes for some messages.
pub fn batch(room: &RoomId, partitions: Partitions, numbers: std::ops::Range<u64>) -> Vec<u8> {
    let frames = numbers.map(|number| RoomFrame {
        audience: Audience::Everybody,
        urgent: false,
        conflate: None,
        frame: room_frame(room, number).encode(Encoding::MessagePack).into(),
    });
    wire::encode(&RoomBatch {
        room: room.clone(),
        partition: partitions.of_room(room),
        epoch: EPOCH,
        class: RoomClass::High,
        frames: frames.collect(),
        orders: Vec::new(),
        trace: None,
    })
}

impl Protocol {
    /// A message as it stands on a client's socket.
    pub fn on_the_wire(self, room: &RoomId, number: u64) -> Vec<u8> {
        match self {
            Self::WebSocket => web_socket(0x82, &room_frame(room, number).encode(Encoding::MessagePack)),
            Self::Tcp => {
                let body = room_frame(room, number).encode(Encoding::MessagePack);
                [&(body.len() as u32).to_be_bytes()[..], &body].concat()
            }
            Self::Nats => [format!("MSG {TOPIC} 1 {PAYLOAD_BYTES}\r\n").as_bytes(), &payload(number), b"\r\n"].concat(),
            Self::Nchan => web_socket(0x81, &payload(number)),
            Self::Mqtt => mqtt(0x30, &[&mqtt_text(TOPIC)[..], &payload(number)].concat()),
        }
    }

    /// Bytes behind the payload.
    pub fn tail(self) -> usize {
        if self == Self::Nats { 2 } else { 0 }
    }
}

fn web_socket(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a frame of this bench is short");
    let mut bytes = vec![first];
    if length < 126 {
        bytes.push(length as u8);
    } else {
        bytes.push(126);
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(body);
    bytes
}

/// An MQTT packet.
pub fn mqtt(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (vec![first], body.len());
    loop {
        let more = if rest > 0x7f { 0x80 } else { 0 };
        bytes.push((rest & 0x7f) as u8 | more);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A text in an MQTT packet.
pub fn mqtt_text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_message_it_is() {
        for of in [0, 1, 63, 64, 123_456_789] {
            assert_eq!(number(&payload(of)), Some(of));
            assert!(payload(of).is_ascii());
        }
        assert_eq!(number(&[b'0'; PAYLOAD_BYTES]), None);
        assert_eq!(number(b"short"), None);
    }

    #[test]
    fn every_message_takes_as_many_bytes_and_ends_with_its_payload() {
        let room = RoomId::new("r1").unwrap();
        for protocol in [Protocol::WebSocket, Protocol::Tcp, Protocol::Nats, Protocol::Nchan, Protocol::Mqtt] {
            let (first, later) = (protocol.on_the_wire(&room, 0), protocol.on_the_wire(&room, 123_456_789));
            assert_eq!(first.len(), later.len(), "{protocol:?}");
            let end = later.len() - protocol.tail();
            assert_eq!(number(&later[end - PAYLOAD_BYTES..end]), Some(123_456_789), "{protocol:?}");
        }
    }
}
