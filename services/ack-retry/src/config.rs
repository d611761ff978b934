//! Configuration.

use std::time::Duration;

use pushmesh_boot::{DoorConfig, FieldError, ServiceConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desk::Rules;

/// How often, how long and how much.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gRPC door for `Pushes`. Default 127.0.0.1:8106, with tokens.
    pub door: DoorConfig,
    /// Between two transmissions of a push, and from the last one to its outcome: 10 ms to 1 h. Default "10s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub retry_interval: Duration,
    /// Transmissions of a push within one login: 1 to 10. Default 3.
    pub transmissions: u8,
    /// Unacknowledged for this long, a push is written to `pending` and its message in PUSH acknowledged: 10 ms to 30 s, below
    /// PUSH's ack wait of 60 s. Default "2s". Shorter costs writes, longer makes a take-over repeat more.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub suspect_after: Duration,
    /// A session that left, or whose comet fell silent, ends its login after this long: 100 ms to 1 h. Default "60s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub left_after: Duration,
    /// A push stays in an inbox at most this long: 1 s to 365 d. Default "7d".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub inbox_max_age: Duration,
    /// Pushes in one user's inbox; the oldest beyond become dead letters: 1 to 10000. Default 100.
    pub inbox_max_per_user: usize,
    /// Pushes held in memory in one partition; beyond, PUSH is not pulled: 1 to 10000000. Default 20000.
    pub pushes_max: usize,
    /// Bytes of such pushes in one partition; beyond, PUSH is not pulled: 64 KiB to 16 GiB. Default "64MiB".
    #[serde(with = "pushmesh_config::size")]
    #[schemars(with = "pushmesh_config::SizeText")]
    pub bytes_max: usize,
    /// Pushes not settled in one partition, those in inboxes and those whose content is not in memory included (about 300
    /// bytes each); beyond, PUSH is not pulled: 2 to 100000000. Inboxes take half of them; what would enter one beyond becomes a
    /// dead letter. Default 200000.
    pub entries_max: usize,
    /// The end of a call that its login could not be told expires after this long: 1 s to 7 d. Default "1d".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub withdrawal_lifetime: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Config {
    fn default() -> Self {
        Self {
            door: DoorConfig::local(8106),
            retry_interval: Duration::from_secs(10),
            transmissions: 3,
            suspect_after: Duration::from_secs(2),
            left_after: Duration::from_secs(60),
            inbox_max_age: 7 * DAY,
            inbox_max_per_user: 100,
            pushes_max: 20_000,
            bytes_max: 64 << 20,
            entries_max: 200_000,
            withdrawal_lifetime: DAY,
        }
    }
}

impl Config {
    pub fn rules(&self) -> Rules {
        Rules {
            retry_interval: self.retry_interval,
            transmissions: self.transmissions,
            suspect_after: self.suspect_after,
            left_after: self.left_after,
            inbox_max_age: self.inbox_max_age,
            inbox_max_per_user: self.inbox_max_per_user,
            pushes_max: self.pushes_max,
            bytes_max: self.bytes_max,
            entries_max: self.entries_max,
            withdrawal_lifetime: self.withdrawal_lifetime,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let durations = [
            ("retry_interval", self.retry_interval, ms(10), s(3600)),
            ("suspect_after", self.suspect_after, ms(10), s(30)),
            ("left_after", self.left_after, ms(100), s(3600)),
            ("inbox_max_age", self.inbox_max_age, s(1), 365 * DAY),
            ("withdrawal_lifetime", self.withdrawal_lifetime, s(1), 7 * DAY),
        ];
        for (field, value, min, max) in durations {
            if value < min || value > max {
                return Err(FieldError::new(field, format!("is {value:?}; it must be {min:?} to {max:?}")));
            }
        }
        let numbers = [
            ("transmissions", usize::from(self.transmissions), 1, 10),
            ("inbox_max_per_user", self.inbox_max_per_user, 1, 10_000),
            ("pushes_max", self.pushes_max, 1, 10_000_000),
            ("bytes_max", self.bytes_max, 64 << 10, 16 << 30),
            ("entries_max", self.entries_max, 2, 100_000_000),
        ];
        for (field, value, min, max) in numbers {
            if value < min || value > max {
                return Err(FieldError::new(field, format!("is {value}; it must be {min} to {max}")));
            }
        }
        Ok(())
    }

    fn doors(&self) -> Vec<(&'static str, &DoorConfig)> {
        vec![("door", &self.door)]
    }
}
