//! The frames between a client and a comet.
//!
//! A frame is an array of two: its code and its body. In MessagePack (subprotocol `pushmesh.v1.msgpack`)
//! the code is an integer and the body a map with string keys; in JSON (`pushmesh.v1.json`) the code is its
//! name, or its number for an application's, and the body an object. Over TCP each MessagePack frame
//! is preceded by its length as a big-endian `u32`. Unknown keys in a body are ignored: N reads N+1's additions.
//!
//! [`ClientFrame`] is what a client may say, [`ServerFrame`] what a comet may. `tests/golden` holds a vector
//! of every frame in both encodings, shared by all implementations.

mod body;
mod codec;
mod room;

pub use body::*;
pub use codec::{Encoding, FrameError};
pub use room::*;

use crate::payload::Payload;

/// Largest frame either side may send, in bytes, unless a comet's configuration says less.
pub const FRAME_MAX_BYTES: usize = 64 * 1024;
/// Largest frame a connection may send before it has logged in, in bytes.
pub const LOGIN_FRAME_MAX_BYTES: usize = 4 * 1024;
/// Most ids one ACK may carry.
pub const ACK_MAX_IDS: usize = 256;
/// The first code that is the application's.
pub const APP_CODE_MIN: u16 = 1000;

/// The codes of the protocol's own frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Code {
    Login = 1,
    LoginOk = 2,
    Logout = 3,
    Ping = 4,
    Pong = 5,
    Join = 6,
    Leave = 7,
    Push = 8,
    CallEnded = 9,
    Ack = 10,
    Calls = 11,
    Room = 12,
    Gap = 13,
    Kick = 14,
    Reconnect = 15,
    Error = 16,
    Joined = 17,
    Left = 18,
}

impl Code {
    /// Every code with the name it has in JSON.
    pub const ALL: [(Code, &'static str); 18] = [
        (Code::Login, "LOGIN"),
        (Code::LoginOk, "LOGIN_OK"),
        (Code::Logout, "LOGOUT"),
        (Code::Ping, "PING"),
        (Code::Pong, "PONG"),
        (Code::Join, "JOIN"),
        (Code::Leave, "LEAVE"),
        (Code::Push, "PUSH"),
        (Code::CallEnded, "CALL_ENDED"),
        (Code::Ack, "ACK"),
        (Code::Calls, "CALLS"),
        (Code::Room, "ROOM"),
        (Code::Gap, "GAP"),
        (Code::Kick, "KICK"),
        (Code::Reconnect, "RECONNECT"),
        (Code::Error, "ERROR"),
        (Code::Joined, "JOINED"),
        (Code::Left, "LEFT"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize - 1].1
    }

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).map(|(code, _)| *code)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
    }
}

/// An application's frame: comet hands it to the subject that its configuration maps the code to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// 1,000 to 65,535.
    pub code: u16,
    pub body: AppBody,
}

/// What a client may say.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    Login(Login),
    Logout(Logout),
    Ping(Ping),
    Pong(Pong),
    Join(Join),
    Leave(Leave),
    Ack(Ack),
    Calls(CallsQuery),
    App(App),
}

/// What a comet may say.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    LoginOk(LoginOk),
    Ping(Ping),
    Pong(Pong),
    Push(Push),
    CallEnded(CallEnded),
    Calls(Calls),
    Joined(Joined),
    Left(Left),
    Room(Room),
    Gap(Gap),
    Kick(Kick),
    Reconnect(Reconnect),
    Error(Error),
    App(App),
}

impl ClientFrame {
    pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Self, FrameError> {
        let frame = codec::Split::of(encoding, bytes)?;
        if let Some(code) = frame.app() {
            return Ok(Self::App(App { code, body: frame.body()? }));
        }
        match frame.code()? {
            Code::Login => frame.body().map(Self::Login),
            Code::Logout => frame.body().map(Self::Logout),
            Code::Ping => frame.body().map(Self::Ping),
            Code::Pong => frame.body().map(Self::Pong),
            Code::Join => frame.body().map(Self::Join),
            Code::Leave => frame.body().map(Self::Leave),
            Code::Ack => frame.body().map(Self::Ack),
            Code::Calls => frame.body().map(Self::Calls),
            other => Err(FrameError::Direction(other.name())),
        }
    }

    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match self {
            Self::Login(body) => encoding.write(Code::Login, body),
            Self::Logout(body) => encoding.write(Code::Logout, body),
            Self::Ping(body) => encoding.write(Code::Ping, body),
            Self::Pong(body) => encoding.write(Code::Pong, body),
            Self::Join(body) => encoding.write(Code::Join, body),
            Self::Leave(body) => encoding.write(Code::Leave, body),
            Self::Ack(body) => encoding.write(Code::Ack, body),
            Self::Calls(body) => encoding.write(Code::Calls, body),
            Self::App(app) => encoding.write_app(app.code, &app.body),
        }
    }
}

impl ServerFrame {
    pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Self, FrameError> {
        let frame = codec::Split::of(encoding, bytes)?;
        if let Some(code) = frame.app() {
            return Ok(Self::App(App { code, body: frame.body()? }));
        }
        match frame.code()? {
            Code::LoginOk => frame.body().map(Self::LoginOk),
            Code::Ping => frame.body().map(Self::Ping),
            Code::Pong => frame.body().map(Self::Pong),
            Code::Push => frame.body().map(Self::Push),
            Code::CallEnded => frame.body().map(Self::CallEnded),
            Code::Calls => frame.body().map(Self::Calls),
            Code::Joined => frame.body().map(Self::Joined),
            Code::Left => frame.body().map(Self::Left),
            Code::Room => frame.body().map(Self::Room),
            Code::Gap => frame.body().map(Self::Gap),
            Code::Kick => frame.body().map(Self::Kick),
            Code::Reconnect => frame.body().map(Self::Reconnect),
            Code::Error => frame.body().map(Self::Error),
            other => Err(FrameError::Direction(other.name())),
        }
    }

    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match self {
            Self::LoginOk(body) => encoding.write(Code::LoginOk, body),
            Self::Ping(body) => encoding.write(Code::Ping, body),
            Self::Pong(body) => encoding.write(Code::Pong, body),
            Self::Push(body) => encoding.write(Code::Push, body),
            Self::CallEnded(body) => encoding.write(Code::CallEnded, body),
            Self::Calls(body) => encoding.write(Code::Calls, body),
            Self::Joined(body) => encoding.write(Code::Joined, body),
            Self::Left(body) => encoding.write(Code::Left, body),
            Self::Room(body) => encoding.write(Code::Room, body),
            Self::Gap(body) => encoding.write(Code::Gap, body),
            Self::Kick(body) => encoding.write(Code::Kick, body),
            Self::Reconnect(body) => encoding.write(Code::Reconnect, body),
            Self::Error(body) => encoding.write(Code::Error, body),
            Self::App(app) => encoding.write_app(app.code, &app.body),
        }
    }
}

/// The body of an application's frame.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AppBody {
    /// The client's own number for a question; the answer carries it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<u32>,
    #[serde(default)]
    pub data: Payload,
}
