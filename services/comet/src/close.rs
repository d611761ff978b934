//! Why connections end: one closed list, each reason with its metric label, its close code and its words.

use pushmesh_protocol::frame::KickReason;

use crate::framing::Violation;

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it, with this code where it said one.
    Client(Option<u16>),
    /// The client closed the socket without a word.
    Eof,
    /// The socket broke.
    Broken,
    Logout,
    Kicked(KickReason),
    Heartbeat,
    Violation(Violation),
    TooFast,
    BadFrames,
    Goodbye,
    /// No PROXY header where one is required, or from somebody who may not say one.
    NoProxyHeader,
    HandshakeTimeout,
    BadHandshake,
    LoginTimeout,
    /// The first frame was something else than LOGIN.
    NotLoggedIn,
    /// It was a LOGIN, and this field of it is wrong.
    BadLogin(String),
    LoginRefused,
    Unavailable,
    Full,
    /// Too many logins failed where it comes from.
    Penalty,
}

impl CloseReason {
    /// As metrics name it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Eof => "eof",
            Self::Broken => "broken",
            Self::Logout => "logout",
            Self::Kicked(KickReason::Replaced) => "replaced",
            Self::Kicked(KickReason::TokenExpired) => "token_expired",
            Self::Kicked(KickReason::Removed) => "removed",
            Self::Kicked(KickReason::TooSlow) => "too_slow",
            Self::Heartbeat => "heartbeat",
            Self::Violation(Violation::TooLarge(..)) => "too_large",
            Self::Violation(_) => "bad_frame",
            Self::TooFast => "too_fast",
            Self::BadFrames => "bad_frames",
            Self::Goodbye => "goodbye",
            Self::NoProxyHeader => "no_proxy_header",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::BadHandshake => "bad_handshake",
            Self::LoginTimeout => "login_timeout",
            Self::NotLoggedIn => "not_logged_in",
            Self::BadLogin(_) => "bad_login",
            Self::LoginRefused => "login_refused",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Penalty => "penalty",
        }
    }

    /// The WebSocket close code: the RFC's where it has one, else one of 4000 to 4999.
    pub fn code(&self) -> u16 {
        match self {
            // An absent code is answered by an absent one; what is written then is 1000.
            Self::Client(code) => code.unwrap_or(1000),
            Self::Eof | Self::Broken => 1006,
            Self::Logout => 1000,
            Self::Kicked(KickReason::Replaced) => 4001,
            Self::Kicked(KickReason::TokenExpired) => 4002,
            Self::Kicked(KickReason::Removed) => 4003,
            Self::Kicked(KickReason::TooSlow) => 4004,
            Self::Heartbeat => 4005,
            Self::Violation(violation) => violation.close_code(),
            Self::TooFast => 4006,
            Self::BadFrames => 4007,
            Self::Goodbye => 1012,
            Self::NoProxyHeader | Self::HandshakeTimeout | Self::BadHandshake => 1002,
            Self::LoginTimeout => 4008,
            Self::NotLoggedIn => 4009,
            Self::BadLogin(_) | Self::LoginRefused => 4010,
            Self::Unavailable | Self::Full | Self::Penalty => 1013,
        }
    }

    /// The words of the close frame: they name the limit.
    pub fn words(&self) -> String {
        match self {
            Self::Client(_) | Self::Eof | Self::Broken | Self::Logout => String::new(),
            Self::Kicked(KickReason::Replaced) => "another connection of this device took over".into(),
            Self::Kicked(KickReason::TokenExpired) => "the token expired".into(),
            Self::Kicked(KickReason::Removed) => "removed".into(),
            Self::Kicked(KickReason::TooSlow) => "read too slowly: limits.backlog".into(),
            Self::Heartbeat => "silent for too long: heartbeat".into(),
            Self::Violation(violation) => violation.to_string(),
            Self::TooFast => "frames came faster than limits.frames_per_second".into(),
            Self::BadFrames => "more malformed frames than limits.bad_frames".into(),
            Self::Goodbye => "this comet is going: connect again".into(),
            Self::NoProxyHeader => "no PROXY header".into(),
            Self::HandshakeTimeout => "no handshake within limits.handshake_within".into(),
            Self::BadHandshake => "bad handshake".into(),
            Self::LoginTimeout => "no LOGIN within limits.login_within".into(),
            Self::NotLoggedIn => "the first frame must be LOGIN".into(),
            Self::BadLogin(field) => format!("login refused: {field} is malformed"),
            Self::LoginRefused => "login refused".into(),
            Self::Unavailable => "unavailable: try again".into(),
            Self::Full => "full: try again".into(),
            Self::Penalty => "too many logins failed from there: limits.failed_logins".into(),
        }
    }

    /// Whether the client may still hear last words.
    pub fn is_audible(&self) -> bool {
        !matches!(self, Self::Eof | Self::Broken | Self::Kicked(KickReason::TooSlow))
    }
}
