//! What a client is made with.

use std::time::Duration;

use pushmesh_protocol::{
    DeviceId,
    frame::{Encoding, HeartbeatProfile, Resume},
};

use crate::{address::Address, api::Api, memory::Memory, token::TokenSource};

/// What [`Client::connect`](crate::Client::connect) needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to connect, unless `api` knows better.
    pub address: Address,
    /// Asked where to connect before each connection; its candidates are tried in their order, `address` last. Default none.
    pub api: Option<Api>,
    pub token: TokenSource,
    /// Which of the user's devices this is: two connections of one device replace each other.
    pub device: DeviceId,
    /// Over WebSocket; TCP always carries MessagePack. Default MessagePack.
    pub encoding: Encoding,
    /// How often to ping; the comet has the last word. Default every 25 s.
    pub heartbeat: HeartbeatProfile,
    /// What an earlier process of this device was told in [`LoggedIn`](crate::LoggedIn). Default none.
    pub resume: Option<Resume>,
    /// What this device has been shown: the same one for all its clients, of which a new one may begin before the old one ended.
    /// Default a new one.
    pub memory: Memory,
    /// Whether a push is acknowledged once its event is in the channel. If not, [`Client::ack`](crate::Client::ack)
    /// does it, and a duplicate is acknowledged again only if the first was. Default true.
    pub auto_ack: bool,
    /// How many events may wait to be read; with more the socket is not read. Default 64.
    pub events: usize,
    /// How long connecting and logging in may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a question may take. Default 10 s.
    pub ask_timeout: Duration,
    /// Delays before connecting again.
    pub backoff: BackoffOptions,
}

/// Delays between attempts: doubled from `first` to `cap`, each jittered between its half and itself.
#[derive(Debug, Clone, Copy)]
pub struct BackoffOptions {
    /// Default 200 ms.
    pub first: Duration,
    /// Default 5 s.
    pub cap: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), cap: Duration::from_secs(5) }
    }
}

impl Options {
    /// The defaults, for a device at an address.
    pub fn new(address: Address, token: impl Into<TokenSource>, device: DeviceId) -> Self {
        Self {
            address,
            api: None,
            token: token.into(),
            device,
            encoding: Encoding::MessagePack,
            heartbeat: HeartbeatProfile::default(),
            resume: None,
            memory: Memory::default(),
            auto_ack: true,
            events: 64,
            connect_timeout: Duration::from_secs(10),
            ask_timeout: Duration::from_secs(10),
            backoff: BackoffOptions::default(),
        }
    }
}
