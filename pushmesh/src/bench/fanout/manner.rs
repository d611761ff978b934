//! How all connections of a process speak: what a message begins with, and where a frame ends.

use pushmesh_protocol::{
    RoomId,
    frame::{ClientFrame, Encoding},
};

use super::frames::{PAYLOAD_BYTES, Protocol};

/// How all connections of the process speak, and what a message looks like.
pub struct Manner {
    pub protocol: Protocol,
    pub room: Option<RoomId>,
    /// What every message begins with, and its bytes.
    pub prefix: Vec<u8>,
    pub length: usize,
}

impl Manner {
    pub fn new(protocol: Protocol, room: Option<RoomId>) -> Self {
        let any = RoomId::new("any").expect("a token");
        let message = protocol.on_the_wire(room.as_ref().unwrap_or(&any), 0);
        // As far as it is the same for all, and says what it is.
        let prefix = match protocol {
            Protocol::WebSocket | Protocol::Tcp => 6,
            _ => message.len() - protocol.tail() - PAYLOAD_BYTES,
        };
        let prefix = if room.is_some() { message[..prefix].to_vec() } else { vec![0; 4096] };
        Self { protocol, room, prefix, length: message.len() }
    }

    pub fn is_pushmesh(&self) -> bool {
        matches!(self.protocol, Protocol::WebSocket | Protocol::Tcp)
    }

    /// A frame of a pushmesh client.
    pub fn framed(&self, frame: &ClientFrame) -> Vec<u8> {
        let body = frame.encode(Encoding::MessagePack);
        if self.protocol == Protocol::Tcp {
            return [&(body.len() as u32).to_be_bytes()[..], &body].concat();
        }
        let mut bytes = vec![0x82];
        if body.len() < 126 {
            bytes.push(0x80 | body.len() as u8);
        } else {
            bytes.push(0x80 | 126);
            bytes.extend((body.len() as u16).to_be_bytes());
        }
        // The mask of zeros changes nothing.
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }
}

/// A frame's opcode (2 over TCP), the bytes of its header and of its body.
pub fn framing(protocol: Protocol, bytes: &[u8]) -> Option<(u8, usize, usize)> {
    if protocol == Protocol::Tcp {
        return Some((2, 4, u32::from_be_bytes(*bytes.first_chunk()?) as usize));
    }
    let [first, second, rest @ ..] = bytes else { return None };
    let (header, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
        short => (2, usize::from(short)),
    };
    Some((first & 0x0f, header, length))
}
