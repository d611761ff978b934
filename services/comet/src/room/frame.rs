//! One frame for some of a room's members: decoded and framed once, shared by all shards.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::OnceLock,
    time::Instant,
};

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    frame::{self, Encoding, ServerFrame},
    metric::comet as names,
    room::{Audience, RoomClass, RoomFrame},
};
use pushmesh_telemetry::metric::counter;
use tracing::Span;

use crate::{
    framing::{Dialect, tcp, websocket},
    lane::{Class, Lane, Outgoing},
    limit::Micros,
};

#[derive(Debug)]
pub struct Frame {
    pub lane: Lane,
    pub audience: Audience,
    /// A newer frame of this key takes its place where it still waits.
    pub key: Option<u64>,
    /// When it came off the bus.
    pub received: Instant,
    /// In MessagePack, without framing.
    pack: Bytes,
    /// Ready for the socket, by dialect.
    forms: [OnceLock<Bytes>; Dialect::ALL.len()],
    /// Ends when the last socket has the frame; only sampled messages have one.
    _span: Option<Span>,
}

impl Frame {
    pub fn new(room: &RoomId, class: RoomClass, frame: RoomFrame, received: Instant, span: Option<Span>) -> Self {
        let RoomFrame { audience, urgent, conflate, frame } = frame;
        let key = conflate.map(|token| {
            let mut hasher = DefaultHasher::new();
            (room.as_str(), token.as_str()).hash(&mut hasher);
            hasher.finish()
        });
        let lane = Lane::of(Class::from(class), urgent);
        Self { lane, audience, key, received, pack: frame, forms: Default::default(), _span: span }
    }

    /// Tells everybody in the room that frames of it were dropped here.
    pub fn gap(room: &RoomId, missed: [u32; 3], now: Instant) -> Self {
        let [high, normal, low] = missed;
        let told = ServerFrame::Gap(frame::Gap { room: Some(room.clone()), high, normal, low });
        Self {
            lane: Lane::High,
            audience: Audience::Everybody,
            key: None,
            received: now,
            pack: told.encode(Encoding::MessagePack).into(),
            forms: Default::default(),
            _span: None,
        }
    }

    /// Ready for a socket of this dialect: made at the first call. Empty where the frame can't be said in it.
    pub fn form(&self, dialect: Dialect) -> &Bytes {
        self.forms[dialect as usize].get_or_init(|| framed(dialect, &self.pack))
    }

    /// Bytes without framing.
    pub fn bytes(&self) -> usize {
        self.pack.len()
    }

    /// For one connection; of class low it is worth nothing after `expires`.
    pub fn outgoing(&self, room: &RoomId, dialect: Dialect, expires: Micros) -> Outgoing {
        Outgoing {
            bytes: self.form(dialect).clone(),
            lane: self.lane,
            key: self.key,
            expires: (self.lane == Lane::Low).then_some(expires),
            room: Some(room.clone()),
            answer: false,
        }
    }
}

/// A frame that came in MessagePack, encoded and framed. Empty, and counted, where it can't be read.
pub fn framed(dialect: Dialect, pack: &[u8]) -> Bytes {
    match dialect {
        Dialect::WebSocketPack => websocket::write(websocket::Opcode::Binary, pack).into(),
        Dialect::TcpPack => tcp::write(pack).into(),
        Dialect::WebSocketJson => match ServerFrame::decode(Encoding::MessagePack, pack) {
            Ok(frame) => dialect.encode(&frame),
            Err(error) => {
                counter(&names::MALFORMED).increment(1);
                tracing::warn!(%error, "a room's frame can't be read");
                Bytes::new()
            }
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pushmesh_protocol::{
        Token,
        frame::{Chain, Room, RoomItem},
    };

    use super::*;

    pub fn room_frame(offset: u64) -> ServerFrame {
        let item = RoomItem {
            chain: Chain::High,
            offset,
            prev: offset - 1,
            kind: Token::new("chat").unwrap(),
            from: None,
            at: 1,
            data: "hi".into(),
        };
        ServerFrame::Room(Room { room: "r1".parse().unwrap(), epoch: 1, items: vec![item], heads: None })
    }

    fn frame(pack: Bytes, conflate: Option<&str>) -> Frame {
        let conflate = conflate.map(|key| key.parse().unwrap());
        let frame = RoomFrame { audience: Audience::Everybody, urgent: false, conflate, frame: pack };
        Frame::new(&"r1".parse().unwrap(), RoomClass::Low, frame, Instant::now(), None)
    }

    #[test]
    fn every_dialect_gets_the_same_frame() {
        let said = room_frame(7);
        let frame = frame(said.encode(Encoding::MessagePack).into(), None);
        for dialect in Dialect::ALL {
            assert_eq!(*frame.form(dialect), dialect.encode(&said), "{dialect:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_nothing_in_json() {
        assert!(frame(Bytes::from_static(b"\x92\x0c\xc1"), None).form(Dialect::WebSocketJson).is_empty());
    }

    #[test]
    fn only_low_expires_and_keys_are_of_their_room() {
        let likes = frame(Bytes::from_static(b"x"), Some("likes"));
        let room = "r1".parse().unwrap();
        assert_eq!(likes.outgoing(&room, Dialect::TcpPack, 9).expires, Some(9));
        let gap = Frame::gap(&room, [1, 2, 3], Instant::now());
        assert_eq!(gap.outgoing(&room, Dialect::TcpPack, 9).expires, None);
        assert_eq!(likes.key, frame(Bytes::new(), Some("likes")).key);
        let frame = RoomFrame {
            audience: Audience::Everybody,
            urgent: false,
            conflate: Some("likes".parse().unwrap()),
            frame: Bytes::new(),
        };
        let elsewhere = Frame::new(&"r2".parse().unwrap(), RoomClass::Low, frame, Instant::now(), None);
        assert_ne!(likes.key, elsewhere.key);
    }
}
