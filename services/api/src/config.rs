//! Configuration.

use std::time::Duration;

use pushmesh_boot::{DoorConfig, FieldError, ServiceConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{limits::LimitsConfig, typing::TypesConfig};

/// Who comes in where, how much may wait, and how often.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The door for HTTP and gRPC, one port for both. Default 127.0.0.1:8107, with tokens.
    pub door: DoorConfig,
    /// Most connections to the door at a time: 1 to 1000000. Default 10000. Beyond it new ones are closed at once; the process
    /// needs as many file descriptors.
    pub connections_max: usize,
    /// Most gifts that wait to be stored: 1 to 1000000. Default 8192. Beyond it a gift is refused (503).
    pub gifts_waiting_max: usize,
    /// Most gifts that are stored at once, in one atomic batch: 1 to 250. Default 100.
    pub gift_batch_max: usize,
    /// Most messages, events and notes that wait to be stored: 1 to 100000. Default 2000. Beyond it one is refused (503).
    pub messages_waiting_max: usize,
    /// How often the sums of likes are told: 10 ms to 10 s. Default "200ms". A crash loses the likes of one tick;
    /// where they can't be stored for 2 s more, likes are refused (503) until they are.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub likes_tick: Duration,
    /// Most rooms with likes of late: 1 to 10000000. Default 200000. Beyond it likes of further rooms are refused (503).
    pub like_rooms_max: usize,
    /// What a caller is asked to wait where something is away or full: 100 ms to 60 s. Default "2s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub retry_after: Duration,
    /// How long a request's body may take: 100 ms to 60 s. Default "10s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub body_within: Duration,
    /// How often, how long, how many.
    pub limits: LimitsConfig,
    /// Which class messages of a type have.
    pub types: TypesConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            door: DoorConfig::local(8107),
            connections_max: 10_000,
            gifts_waiting_max: 8192,
            gift_batch_max: 100,
            messages_waiting_max: 2000,
            likes_tick: Duration::from_millis(200),
            like_rooms_max: 200_000,
            retry_after: Duration::from_secs(2),
            body_within: Duration::from_secs(10),
            limits: LimitsConfig::default(),
            types: TypesConfig::default(),
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        let numbers = [
            ("connections_max", self.connections_max, 1_000_000),
            ("gifts_waiting_max", self.gifts_waiting_max, 1_000_000),
            ("gift_batch_max", self.gift_batch_max, 250),
            ("messages_waiting_max", self.messages_waiting_max, 100_000),
            ("like_rooms_max", self.like_rooms_max, 10_000_000),
        ];
        for (field, value, max) in numbers {
            if !(1..=max).contains(&value) {
                return Err(FieldError::new(field, format!("is {value}; it must be 1 to {max}")));
            }
        }
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let durations = [
            ("likes_tick", self.likes_tick, ms(10), s(10)),
            ("retry_after", self.retry_after, ms(100), s(60)),
            ("body_within", self.body_within, ms(100), s(60)),
        ];
        for (field, value, min, max) in durations {
            if value < min || value > max {
                return Err(FieldError::new(field, format!("is {value:?}; it must be {min:?} to {max:?}")));
            }
        }
        self.limits.validate()?;
        self.types.validate()
    }

    fn doors(&self) -> Vec<(&'static str, &DoorConfig)> {
        vec![("door", &self.door)]
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_boot::Settings;

    use super::*;

    #[test]
    fn the_defaults_are_good_and_a_wrong_key_is_not_passed_over() {
        Config::default().validate().unwrap();
        let schema = pushmesh_config::schema::<Settings<Config>>();
        assert_eq!(pushmesh_config::lenient_tables(&schema), Vec::<String>::new());
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_by_its_field() {
        let mut config = Config { gift_batch_max: 500, ..Config::default() };
        assert_eq!(config.validate().unwrap_err().field, "gift_batch_max");
        config.gift_batch_max = 1;
        config.limits.chat_per_user = 0;
        assert_eq!(config.validate().unwrap_err().field, "limits.chat_per_user");
    }
}
