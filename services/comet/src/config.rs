//! The service's configuration.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use pushmesh_boot::{FieldError, ServiceConfig};
use pushmesh_protocol::{
    Token,
    frame::{APP_CODE_MIN, FRAME_MAX_BYTES, Heartbeat, HeartbeatProfile, LOGIN_FRAME_MAX_BYTES},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    proxy::{Network, ProxyProtocol},
    room::crowd::SLOTS_MAX,
};

/// `[service]` of a comet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where WebSockets are accepted. Port 0 takes a free one. Default 127.0.0.1:7800.
    pub websocket: SocketAddr,
    /// Where plain TCP is accepted. Port 0 takes a free one. Default 127.0.0.1:7801.
    pub tcp: SocketAddr,
    /// Where clients reach this comet, told to others and to whoever asks where to connect: `ws://host:port`. Empty: where
    /// it listens, if that is an address. Default empty.
    pub address: String,
    /// The same of its TCP door: `tcp://host:port`. Default empty.
    pub tcp_address: String,
    /// The path of the WebSocket; any other is answered 404. Default `/`.
    pub path: String,
    /// Whether balancers in front say who connects: `off`, or `required`: each connection, on both doors, begins with a
    /// PROXY header (version 1 or 2), and the limits of one address are those of the client it names. Default `off`.
    pub proxy_protocol: ProxyProtocol,
    /// Addresses and networks (`10.0.0.0/8`) that PROXY headers are taken from. Default none: from everybody.
    pub trusted_proxies: Vec<Network>,
    /// Origins that browsers may come from, written as they write them (`https://app.example`); `*` allows every one.
    /// Default none: browsers are refused.
    pub allowed_origins: Vec<String>,
    /// Whether requests without Origin (no browsers) are welcome. Default true.
    pub allow_missing_origin: bool,
    /// Threads that own connections; 0 is one per core. Default 0.
    pub shards: u16,
    /// Whether each shard stays on one core. Default true.
    pub pin_shards: bool,
    /// Application codes (1000 to 65535) and the name each is served under, as `1000 = "echo"`. Default none.
    pub apps: BTreeMap<String, Token>,
    pub limits: Limits,
    pub heartbeat: HeartbeatConfig,
    pub socket: SocketConfig,
    pub rooms: RoomsConfig,
    /// How long login-ingest may take to store a login. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub report_within: Duration,
    /// How long a kind may take to answer CALLS before it is named missing. Default 1s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub calls_within: Duration,
    /// How long an application's backend may take. Default 2s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub app_within: Duration,
    /// How long the goodbye may take, from the first RECONNECT to the last session written. Default 10s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub drain_for: Duration,
    /// Most of the random delay in a RECONNECT: what spreads the clients of one slice. Default 1s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub reconnect_spread: Duration,
    /// After how long unheard by the mesh this comet puts all its sessions again: 1s to 1h. Default 60s, as long as
    /// ack-retry waits before it ends a silent comet's logins.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub reput_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            websocket: SocketAddr::from(([127, 0, 0, 1], 7800)),
            tcp: SocketAddr::from(([127, 0, 0, 1], 7801)),
            address: String::new(),
            tcp_address: String::new(),
            path: "/".into(),
            proxy_protocol: ProxyProtocol::default(),
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            allow_missing_origin: true,
            shards: 0,
            pin_shards: true,
            apps: BTreeMap::new(),
            limits: Limits::default(),
            heartbeat: HeartbeatConfig::default(),
            socket: SocketConfig::default(),
            rooms: RoomsConfig::default(),
            report_within: Duration::from_secs(5),
            calls_within: Duration::from_secs(1),
            app_within: Duration::from_secs(2),
            drain_for: Duration::from_secs(10),
            reconnect_spread: Duration::from_secs(1),
            reput_after: Duration::from_secs(60),
        }
    }
}

/// What one comet, one address and one connection may take. Whoever passes one is told its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of this comet; more are answered ERROR full (close code 1013). Default 200,000.
    pub connections: u32,
    /// Connections that have not logged in; more are answered ERROR full (1013). Default 10,000.
    pub before_login: u32,
    /// Connections from one IPv4 address or IPv6 /64; more are answered ERROR full (1013). Default 50,000.
    pub per_address: u32,
    /// Logins from one address that may fail in a row; then none is looked at until some time has passed (1013). Logins that
    /// succeed are set off against them. Default 40.
    pub failed_logins: u32,
    /// How many of them are forgotten a second. Default 2.
    pub failed_logins_forgotten: u32,
    /// Connections a shard accepts a second; more wait in the kernel's queue. Default 10,000.
    pub accepts_per_second: u32,
    /// How long the WebSocket handshake may take. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub handshake_within: Duration,
    /// How long LOGIN may take after the handshake (4008). Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub login_within: Duration,
    /// Logins that are checked and stored at once; more wait. Default 512.
    pub logins_at_once: u32,
    /// Bytes of the one frame before login (1009). Default and most 4,096.
    pub login_frame_bytes: u32,
    /// Bytes of a message, its fragments together (1009). Default and most 65,536.
    pub frame_bytes: u32,
    /// Frames a connection may send a second: messages, fragments, pings, pongs (4006). Default 100.
    pub frames_per_second: u32,
    /// Frames it may send at once. Default 400.
    pub frames_burst: u32,
    /// Well-framed messages with a bad body before the connection is closed (4007). Default 16.
    pub bad_frames: u8,
    /// Questions (CALLS, application frames) a connection may have open; more are answered ERROR too_fast. Default 8.
    pub questions: u8,
    /// Rooms a connection may be in; a JOIN of one more is answered ERROR forbidden. Default 16.
    pub rooms: u8,
    /// JOINs a connection may say a second, twice as many as it may have rooms at once; more are answered ERROR too_fast.
    /// Default 20.
    pub joins_per_second: u32,
    /// Messages that wait for a client that reads too slowly (4004). Default 200.
    pub backlog_messages: u32,
    /// Bytes that wait for it (4004); what it missed in rooms it joins may be twice as many besides. Default 262,144.
    pub backlog_bytes: u32,
    /// How long it may take no whole frame while some wait (4004). Default 20s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub blocked_for: Duration,
    /// Most of the random delay in every retry_after_ms. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub retry_jitter: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 200_000,
            before_login: 10_000,
            per_address: 50_000,
            failed_logins: 40,
            failed_logins_forgotten: 2,
            accepts_per_second: 10_000,
            handshake_within: Duration::from_secs(5),
            login_within: Duration::from_secs(5),
            logins_at_once: 512,
            login_frame_bytes: LOGIN_FRAME_MAX_BYTES as u32,
            frame_bytes: FRAME_MAX_BYTES as u32,
            frames_per_second: 100,
            frames_burst: 400,
            bad_frames: 16,
            questions: 8,
            rooms: 16,
            joins_per_second: 20,
            backlog_messages: 200,
            backlog_bytes: 256 * 1024,
            blocked_for: Duration::from_secs(20),
            retry_jitter: Duration::from_secs(5),
        }
    }
}

/// How often clients ping, and how many silent intervals end a connection (4005).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Interval of the profile `normal`. Default 25s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub normal: Duration,
    /// Interval of the profile `fast`. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub fast: Duration,
    /// Silent intervals that end a connection. Default 3.
    pub misses: u8,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { normal: Duration::from_secs(25), fast: Duration::from_secs(5), misses: 3 }
    }
}

impl HeartbeatConfig {
    pub fn of(&self, profile: HeartbeatProfile) -> Heartbeat {
        let interval = match profile {
            HeartbeatProfile::Normal => self.normal,
            HeartbeatProfile::Fast => self.fast,
        };
        Heartbeat { interval_ms: interval.as_millis() as u32, misses: self.misses }
    }
}

/// What every client's socket gets. Without these the kernel swallows 31,000 messages before a slow reader shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SocketConfig {
    /// SO_SNDBUF in bytes (the kernel doubles it). Default 32,768.
    pub send_buffer_bytes: u32,
    /// TCP_NOTSENT_LOWAT in bytes. Default 16,384.
    pub not_sent_low_water_bytes: u32,
    /// Connections that wait in the kernel to be accepted. Default 4,096.
    pub accept_queue: u16,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self { send_buffer_bytes: 32 * 1024, not_sent_low_water_bytes: 16 * 1024, accept_queue: 4096 }
    }
}

/// How live rooms are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoomsConfig {
    /// How long the owner of a room may take to answer a JOIN, tries over a take-over among them. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub join_within: Duration,
    /// Rooms that are listened to, each a subscription; a JOIN of one more is answered ERROR unavailable. Default 50,000.
    pub at_most: u32,
    /// Asks of rooms' owners at once, each for up to 512 JOINs from one position in a room; more wait. Default 512.
    pub joins_at_once: u32,
    /// Batches of frames of class high that wait for one shard; of class normal half as many, of class low a quarter. What comes
    /// beyond is dropped, and the rooms' members are told of a gap. Default 16,384.
    pub queue: u32,
    /// How long after its last member has gone a room is listened to. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub linger: Duration,
    /// How long a frame of class low is worth sending to a client that reads too slowly. Default 5s.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub low_for: Duration,
    /// Up to how many members here a room's owner is told who came and went, and not only how many there are. Default 0:
    /// never.
    pub names_up_to: u32,
}

impl Default for RoomsConfig {
    fn default() -> Self {
        Self {
            join_within: Duration::from_secs(5),
            at_most: 50_000,
            joins_at_once: 512,
            queue: 16_384,
            linger: Duration::from_secs(5),
            low_for: Duration::from_secs(5),
            names_up_to: 0,
        }
    }
}

impl Config {
    /// The application codes that are served. Call it on a validated configuration.
    pub fn app_names(&self) -> BTreeMap<u16, Token> {
        self.apps.iter().filter_map(|(code, name)| Some((code.parse().ok()?, name.clone()))).collect()
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        let limits = &self.limits;
        check("path", self.path.starts_with('/') && !self.path.contains('?'), "must begin with / and have no query")?;
        for code in self.apps.keys() {
            let served = code.parse::<u16>().is_ok_and(|number| number >= APP_CODE_MIN);
            check("apps", served, "codes must be 1000 to 65535")?;
        }
        for (field, value) in [
            ("limits.connections", limits.connections),
            ("limits.before_login", limits.before_login),
            ("limits.per_address", limits.per_address),
            ("limits.failed_logins", limits.failed_logins),
            ("limits.failed_logins_forgotten", limits.failed_logins_forgotten),
            ("limits.accepts_per_second", limits.accepts_per_second),
            ("limits.logins_at_once", limits.logins_at_once),
            ("limits.frames_per_second", limits.frames_per_second),
            ("limits.frames_burst", limits.frames_burst),
            ("limits.questions", u32::from(limits.questions)),
            ("limits.rooms", u32::from(limits.rooms)),
            ("limits.joins_per_second", limits.joins_per_second),
            ("limits.backlog_messages", limits.backlog_messages),
            ("heartbeat.misses", u32::from(self.heartbeat.misses)),
            ("socket.accept_queue", u32::from(self.socket.accept_queue)),
            ("rooms.at_most", self.rooms.at_most),
            ("rooms.joins_at_once", self.rooms.joins_at_once),
            ("rooms.queue", self.rooms.queue),
        ] {
            check(field, value > 0, "must be 1 or more")?;
        }
        // Rooms name a connection by its slot, in few bits.
        let slots = u64::from(limits.connections) + u64::from(limits.before_login);
        check("limits.connections", slots < u64::from(SLOTS_MAX), "must be below 268 million, with before_login")?;
        let within = |value: u32, least: usize, most: usize| (least..=most).contains(&(value as usize));
        check(
            "limits.login_frame_bytes",
            within(limits.login_frame_bytes, 256, LOGIN_FRAME_MAX_BYTES),
            "must be 256 to 4096",
        )?;
        check("limits.frame_bytes", within(limits.frame_bytes, 4096, FRAME_MAX_BYTES), "must be 4096 to 65536")?;
        check(
            "limits.backlog_bytes",
            within(limits.backlog_bytes, FRAME_MAX_BYTES + 16, usize::MAX),
            "must hold the largest frame: 65552 or more",
        )?;
        for (field, duration) in [
            ("limits.handshake_within", limits.handshake_within),
            ("limits.login_within", limits.login_within),
            ("limits.blocked_for", limits.blocked_for),
            ("heartbeat.normal", self.heartbeat.normal),
            ("heartbeat.fast", self.heartbeat.fast),
            ("report_within", self.report_within),
            ("calls_within", self.calls_within),
            ("app_within", self.app_within),
            ("rooms.join_within", self.rooms.join_within),
            ("rooms.low_for", self.rooms.low_for),
            ("rooms.linger", self.rooms.linger),
            ("drain_for", self.drain_for),
        ] {
            let sane = duration >= Duration::from_millis(10) && duration <= Duration::from_secs(3600);
            check(field, sane, "must be 10ms to 1h")?;
        }
        // Below a few heartbeats every one of them would end a silence.
        let sane = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.reput_after);
        check("reput_after", sane, "must be 1s to 1h")?;
        Ok(())
    }
}

fn check(field: &'static str, holds: bool, reason: &'static str) -> Result<(), FieldError> {
    if holds { Ok(()) } else { Err(FieldError::new(field, reason)) }
}
