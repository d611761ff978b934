//! How a client's bytes become messages and ours become bytes: the seam behind which the encodings and transports sit.
//!
//! Everything here is pure. A [`Dialect`] is chosen at the handshake and stays; a frame is encoded once per dialect in use.

pub mod handshake;
pub mod partial;
pub mod proxy;
pub mod tcp;
pub mod websocket;

use std::borrow::Cow;

use bytes::Bytes;
use pushmesh_protocol::frame::{Encoding, ServerFrame};

/// Transport and encoding of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dialect {
    WebSocketPack = 0,
    WebSocketJson = 1,
    TcpPack = 2,
}

impl Dialect {
    pub const ALL: [Self; 3] = [Self::WebSocketPack, Self::WebSocketJson, Self::TcpPack];

    pub fn websocket(encoding: Encoding) -> Self {
        match encoding {
            Encoding::MessagePack => Self::WebSocketPack,
            Encoding::Json => Self::WebSocketJson,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub fn encoding(self) -> Encoding {
        match self {
            Self::WebSocketJson => Encoding::Json,
            Self::WebSocketPack | Self::TcpPack => Encoding::MessagePack,
        }
    }

    /// Its transport, as metrics name it.
    pub fn transport(self) -> &'static str {
        match self {
            Self::WebSocketPack | Self::WebSocketJson => "websocket",
            Self::TcpPack => "tcp",
        }
    }

    /// One frame, encoded and framed: ready for the socket.
    pub fn encode(self, frame: &ServerFrame) -> Bytes {
        let body = frame.encode(self.encoding());
        match self {
            Self::WebSocketPack => websocket::write(websocket::Opcode::Binary, &body),
            Self::WebSocketJson => websocket::write(websocket::Opcode::Text, &body),
            Self::TcpPack => tcp::write(&body),
        }
        .into()
    }

    /// The transport's own good-bye, where it has one.
    pub fn close(self, code: u16, reason: &str) -> Option<Bytes> {
        match self {
            Self::TcpPack => None,
            Self::WebSocketPack | Self::WebSocketJson => Some(websocket::write_close(code, reason).into()),
        }
    }

    /// The transport's own answer to its own ping.
    pub fn transport_pong(self, payload: &[u8]) -> Option<Bytes> {
        match self {
            Self::TcpPack => None,
            _ => Some(websocket::write(websocket::Opcode::Pong, payload).into()),
        }
    }

    /// Reads the first whole unit of `buf`: how many bytes it took, and what it is. `None`: more bytes are needed.
    ///
    /// `max` bounds a message, its fragments together. Masked bytes are unmasked where they lie, and only when
    /// the unit is whole, so that the same bytes may be offered again with more behind them.
    pub fn read<'a>(
        self,
        buf: &'a mut [u8],
        assembly: &mut Option<Box<websocket::Assembly>>,
        max: usize,
    ) -> Result<Option<(usize, Input<'a>)>, Violation> {
        match self {
            Self::WebSocketPack => websocket::read(buf, assembly, max, websocket::Opcode::Binary),
            Self::WebSocketJson => websocket::read(buf, assembly, max, websocket::Opcode::Text),
            Self::TcpPack => tcp::read(buf, max),
        }
    }
}

/// What a client's bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A whole message: one frame of the client protocol.
    Message(Cow<'a, [u8]>),
    /// Part of a message; counts as a frame.
    Fragment,
    Ping(&'a [u8]),
    Pong,
    /// The client closes; the code it named.
    Close(Option<u16>),
}

/// What makes a stream of bytes unreadable from here on: told, then closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a reserved bit is set, and no extension was agreed on")]
    ReservedBits,
    #[error("opcode {0} is unknown")]
    Opcode(u8),
    #[error("a client's frames must be masked")]
    Unmasked,
    #[error("a control frame may not be fragmented")]
    FragmentedControl,
    #[error("a control frame has {0} bytes; the limit is 125")]
    LongControl(u64),
    #[error("the length is not written in its shortest form")]
    LongLength,
    #[error("a continuation without a beginning")]
    StrayContinuation,
    #[error("a new message before the last fragment of the one before")]
    Interleaved,
    #[error("a message of {0} bytes or more; the limit is {1}")]
    TooLarge(u64, usize),
    #[error("{0} messages are not part of the agreed subprotocol")]
    WrongKind(&'static str),
    #[error("text that is not UTF-8")]
    Utf8,
    #[error("a close frame with a malformed code or reason")]
    BadClose,
    #[error("a frame of no bytes")]
    Empty,
}

impl Violation {
    /// Which part of the frame is meant.
    pub fn field(&self) -> &'static str {
        match self {
            Self::ReservedBits => "rsv",
            Self::Opcode(_) | Self::StrayContinuation | Self::Interleaved | Self::WrongKind(_) => "opcode",
            Self::Unmasked => "mask",
            Self::FragmentedControl => "fin",
            Self::LongControl(_) | Self::LongLength | Self::TooLarge(..) | Self::Empty => "length",
            Self::Utf8 => "payload",
            Self::BadClose => "close",
        }
    }

    /// The WebSocket close code that says so (RFC 6455, 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge(..) => 1009,
            Self::Utf8 => 1007,
            Self::WrongKind(_) => 1003,
            _ => 1002,
        }
    }
}
