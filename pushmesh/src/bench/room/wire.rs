//! A WebSocket client that costs little: thousands live in one thread.
//!
//! A comet writes whole, unmasked messages; what a client says is masked with zeros, which is a mask.

use std::{io, net::SocketAddr};

use pushmesh_protocol::frame::Encoding;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A comet's answer to the handshake has less.
const HEAD_MAX_BYTES: usize = 2048;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// Connects, and becomes a WebSocket.
pub async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let subprotocol = Encoding::MessagePack.subprotocol();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(512);
    // The comet says nothing more before LOGIN.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_MAX_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::other("the handshake was not answered"));
        }
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()));
    }
    Ok(stream)
}

/// One message of a client.
pub fn message(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.push(BINARY);
    match payload.len() {
        length @ 0..=125 => out.push(MASKED | length as u8),
        length => {
            let length = u16::try_from(length).expect("a client says little");
            out.push(MASKED | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// What stands at the beginning of what was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A message's payload, and the bytes of the whole.
    Message(&'a [u8], usize),
    /// Something that says nothing of rooms, and its bytes.
    Other(usize),
    Closed,
    /// Its rest has not come yet.
    Partial,
}

/// Looks at the first message in `bytes`.
pub fn piece(bytes: &[u8]) -> Piece<'_> {
    let [first, second, rest @ ..] = bytes else { return Piece::Partial };
    let (head, length) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize),
        (126 | 127, _) => return Piece::Partial,
        (short, _) => (2, usize::from(short)),
    };
    let Some(payload) = bytes.get(head..head + length) else { return Piece::Partial };
    match *first {
        BINARY => Piece::Message(payload, head + length),
        CLOSE => Piece::Closed,
        _ => Piece::Other(head + length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_one_after_the_other() {
        let mut bytes = vec![BINARY, 3, 1, 2, 3, BINARY, 126, 1, 0];
        bytes.extend([7; 256]);
        bytes.extend([0x8a, 0, CLOSE, 2, 3, 232]);
        assert_eq!(piece(&bytes), Piece::Message(&[1, 2, 3], 5));
        assert_eq!(piece(&bytes[5..]), Piece::Message(&[7; 256], 260));
        assert_eq!(piece(&bytes[265..]), Piece::Other(2));
        assert_eq!(piece(&bytes[267..]), Piece::Closed);
        for cut in [0, 1, 4] {
            assert_eq!(piece(&bytes[..cut]), Piece::Partial);
        }
        assert_eq!(piece(&bytes[5..264]), Piece::Partial);
    }

    #[test]
    fn what_a_client_says_is_masked() {
        assert_eq!(message(&[5]), [BINARY, 0x81, 0, 0, 0, 0, 5]);
        assert_eq!(message(&[5; 200])[..8], [BINARY, 0xfe, 0, 200, 0, 0, 0, 0]);
    }
}
