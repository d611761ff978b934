//! How a service reaches NATS, and how long it holds on when NATS is away.

use std::{path::PathBuf, time::Duration};

use pushmesh_config::FieldError;
use serde::{Deserialize, Serialize};

/// The table `[nats]` of every service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Servers, separated by commas. Default `nats://127.0.0.1:4222`.
    pub url: String,
    /// File with an nkey seed (`SU…`). Default none.
    pub nkey_seed_file: Option<PathBuf>,
    /// File with a user JWT and seed, as `nsc` writes it. Default none.
    pub credentials_file: Option<PathBuf>,
    /// File with a token. Default none.
    pub token_file: Option<PathBuf>,
    /// User name; together with `password_file`. Default none.
    pub user: Option<String>,
    /// File with the user's password. Default none.
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities that sign the servers' certificates; set, TLS is required. Default none: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate; together with `key_file`. Default none.
    pub cert_file: Option<PathBuf>,
    /// PEM file with this client's key. Default none.
    pub key_file: Option<PathBuf>,
    /// How long starting up waits for a first connection. Default "10s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub connect_wait: Duration,
    /// How long a message that is to be stored is tried again with the same id, and what a door keeps in a bucket. Default
    /// "20s": outlasts an outage of 15 s with the reconnect or the election of a leader after it.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub outage_hold: Duration,
    /// Bytes of messages not yet stored that are held in memory; beyond it new ones are refused. Default "64MiB".
    #[serde(with = "pushmesh_config::size")]
    #[schemars(with = "pushmesh_config::SizeText")]
    pub hold_max_bytes: usize,
    /// How long an answer to one JetStream publish is awaited before it is tried again. Default "2s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub ack_timeout: Duration,
    /// How long any other key-value operation is tried before it fails. Default "5s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub kv_timeout: Duration,
    /// How long a core publish waits for a place in the connection's queue (2,048 messages). Default "1s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub publish_wait: Duration,
    /// Messages that may wait for their JetStream ack at once: 1 to 3,000. Default 3,000.
    pub in_flight_max: usize,
    /// So many rounds of ack timeouts in a row, while connected, make the client connect anew, to another server if
    /// there is one. Default 3.
    pub reconnect_after_timeouts: u32,
    /// How often the connection is probed: 1 s to 5 s; two probes without answer end it. Default "2s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub ping_interval: Duration,
    /// Messages that wait in one subscription before the newest are dropped (and counted). Default 65,536.
    pub subscription_capacity: usize,
    /// Messages of one partition's consumer that are fetched ahead: 1 to 1,024. Default 256.
    pub prefetch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            nkey_seed_file: None,
            credentials_file: None,
            token_file: None,
            user: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            connect_wait: Duration::from_secs(10),
            outage_hold: Duration::from_secs(20),
            hold_max_bytes: 64 << 20,
            ack_timeout: Duration::from_secs(2),
            kv_timeout: Duration::from_secs(5),
            publish_wait: Duration::from_secs(1),
            in_flight_max: 3000,
            reconnect_after_timeouts: 3,
            ping_interval: Duration::from_secs(2),
            subscription_capacity: 1 << 16,
            prefetch: 256,
        }
    }
}

impl Config {
    /// The defaults, towards `url`.
    pub fn to(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    pub fn validate(&self) -> Result<(), FieldError> {
        let refuse = |field: &str, reason: &str| Err(FieldError::new(field, reason));
        let seconds = Duration::from_secs;
        if self.url.split(',').any(|url| url.trim().is_empty()) {
            return refuse("url", "must be one or more server addresses, separated by commas");
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return refuse("cert_file", "and nats.key_file must be set together");
        }
        if self.user.is_some() != self.password_file.is_some() {
            return refuse("user", "and nats.password_file must be set together");
        }
        if !(seconds(1)..=seconds(5)).contains(&self.ping_interval) {
            return refuse("ping_interval", "must be 1s to 5s");
        }
        if !(1..=3000).contains(&self.in_flight_max) {
            return refuse("in_flight_max", "must be 1 to 3000 messages");
        }
        if !(1..=1024).contains(&self.prefetch) {
            return refuse("prefetch", "must be 1 to 1024 messages");
        }
        if self.hold_max_bytes == 0 {
            return refuse("hold_max_bytes", "must be at least 1 byte");
        }
        if self.subscription_capacity < 1024 {
            return refuse("subscription_capacity", "must be at least 1024 messages");
        }
        if self.reconnect_after_timeouts == 0 {
            return refuse("reconnect_after_timeouts", "must be at least 1");
        }
        for (field, duration) in [
            ("ack_timeout", self.ack_timeout),
            ("kv_timeout", self.kv_timeout),
            ("publish_wait", self.publish_wait),
            ("connect_wait", self.connect_wait),
        ] {
            if !(Duration::from_millis(10)..=seconds(300)).contains(&duration) {
                return refuse(field, "must be 10ms to 300s");
            }
        }
        Ok(())
    }
}
