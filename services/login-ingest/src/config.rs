//! Configuration.

use std::time::Duration;

use pushmesh_boot::{DoorConfig, FieldError, ServiceConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{gather::Limits, handlers::StreamLimits};

/// Where records come in, and how many may wait.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The door for gRPC and HTTP, one port for both. Default 127.0.0.1:8101, with tokens.
    pub door: DoorConfig,
    /// Most records that wait to be stored, of all doors together: 1 to 1000000. Default 65536. Beyond it a record is
    /// answered *unknown*, with `retry_after`.
    pub waiting_max: usize,
    /// Most records that are stored at once: 1 to 500. Default 500.
    pub batch_max: usize,
    /// Most records of one stream that wait for their answer: 1 to 2000. Default 2000. More are not read until some are
    /// answered.
    pub stream_waiting_max: usize,
    /// What a caller is asked to wait before it says an *unknown* record again: 100 ms to 60 s. Default "2s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub retry_after: Duration,
    /// How long a caller may leave its answers unread while `stream_waiting_max` wait: 1 s to 1 h. Default "60s". Then no more of
    /// its records are taken, and it is told so behind its answers; unread as long again, its connection is closed.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub unread_max: Duration,
    /// How long an HTTP body may send nothing: 1 s to 1 h. Default "60s". What was read by then is answered.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub http_idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            door: DoorConfig::local(8101),
            waiting_max: 65_536,
            batch_max: 500,
            stream_waiting_max: 2000,
            retry_after: Duration::from_secs(2),
            unread_max: Duration::from_secs(60),
            http_idle: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// `grace`: the whole end's.
    pub fn limits(&self, grace: Duration) -> Limits {
        Limits {
            waiting_max: self.waiting_max,
            batch_max: self.batch_max,
            retry_after: self.retry_after,
            // The answers still have to leave before the door cuts its connections, at half of it.
            closing_within: grace / 4,
        }
    }

    pub fn stream_limits(&self) -> StreamLimits {
        StreamLimits { waiting_max: self.stream_waiting_max, unread_max: self.unread_max, idle: self.http_idle }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        let numbers = [
            ("waiting_max", self.waiting_max, 1_000_000),
            ("batch_max", self.batch_max, 500),
            ("stream_waiting_max", self.stream_waiting_max, 2000),
        ];
        for (field, value, max) in numbers {
            if !(1..=max).contains(&value) {
                return Err(FieldError::new(field, format!("is {value}; it must be 1 to {max}")));
            }
        }
        let seconds = Duration::from_secs;
        let durations = [
            ("retry_after", self.retry_after, Duration::from_millis(100), seconds(60)),
            ("unread_max", self.unread_max, seconds(1), seconds(3600)),
            ("http_idle", self.http_idle, seconds(1), seconds(3600)),
        ];
        for (field, value, min, max) in durations {
            if value < min || value > max {
                return Err(FieldError::new(field, format!("is {value:?}; it must be {min:?} to {max:?}")));
            }
        }
        Ok(())
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
        let error = Config { batch_max: 5000, ..Config::default() }.validate().unwrap_err();
        assert_eq!(error.field, "batch_max");
        assert!(error.reason.contains("must be 1 to"), "{error}");
    }
}
