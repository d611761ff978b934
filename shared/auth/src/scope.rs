//! What a backend may do.

use std::{fmt, str::FromStr};

/// A right of a backend's token, in its claim `scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `login:write`: report logins.
    LoginWrite,
    /// `directory:write`: change and list who is in what.
    DirectoryWrite,
    /// `call:write`: start, end and list calls.
    CallWrite,
    /// `push:write`: push to a user.
    PushWrite,
    /// `room:write`: send into rooms in anybody's name, and keep order there: state, roles, mutes, kicks, notes.
    RoomWrite,
    /// `room:read`: what rooms are like, and who is online.
    RoomRead,
}

/// The text is no [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no scope; expected login:write, directory:write, call:write, push:write, room:write or room:read")]
pub struct ScopeError;

impl Scope {
    pub const ALL: [Self; 6] =
        [Self::LoginWrite, Self::DirectoryWrite, Self::CallWrite, Self::PushWrite, Self::RoomWrite, Self::RoomRead];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoginWrite => "login:write",
            Self::DirectoryWrite => "directory:write",
            Self::CallWrite => "call:write",
            Self::PushWrite => "push:write",
            Self::RoomWrite => "room:write",
            Self::RoomRead => "room:read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(ScopeError)
    }
}
