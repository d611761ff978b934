//! Configuration.

use std::time::Duration;

use pushmesh_boot::{FieldError, ServiceConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::Limits;

/// Most messages of a partition that the server leaves unacknowledged: the consumers' `max_ack_pending`.
pub const WAITING_MAX: usize = 2048;

/// How records are handed on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long records gather for the next request while one of their kind is on its way: 0 to 100 ms. Default "2ms".
    /// Idle, nothing waits.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub gather: Duration,
    /// Most records of one request: 1 to 1000. Default 256.
    pub batch_max: usize,
    /// How long a kind may take to answer a request: 10 ms to 30 s. Default "1s". Then it is asked again.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub request_timeout: Duration,
    /// How long a kind may be silent before its part goes to LATE: 10 ms to 60 s. Default "2s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub late_after: Duration,
    /// First wait before a kind is asked again; it doubles: 1 ms to `retry_max`. Default "100ms".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub retry_min: Duration,
    /// Longest wait before a kind is asked again, for ever: up to 60 s. Default "5s". A change of owner ends it at once.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub retry_max: Duration,
    /// Most messages of one partition and stream that wait at a time: 1 to 2048. Default 2048.
    pub waiting_max: usize,
    /// How long a hand-over waits for what is on its way: up to 60 s. Default "4s". The rest is the next owner's.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub handover_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(2),
            batch_max: 256,
            request_timeout: Duration::from_secs(1),
            late_after: Duration::from_secs(2),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            waiting_max: WAITING_MAX,
            handover_max: Duration::from_secs(4),
        }
    }
}

impl Config {
    pub fn limits(&self) -> Limits {
        Limits {
            gather: self.gather,
            batch_max: self.batch_max,
            late_after: self.late_after,
            retry_min: self.retry_min,
            retry_max: self.retry_max,
            store_max: 500,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        let minute = Duration::from_secs(60);
        let ms = Duration::from_millis;
        let durations = [
            ("gather", self.gather, Duration::ZERO, ms(100)),
            ("request_timeout", self.request_timeout, ms(10), Duration::from_secs(30)),
            ("late_after", self.late_after, ms(10), minute),
            ("retry_max", self.retry_max, ms(1), minute),
            ("retry_min", self.retry_min, ms(1), self.retry_max),
            ("handover_max", self.handover_max, Duration::ZERO, minute),
        ];
        for (field, value, min, max) in durations {
            if value < min || value > max {
                return Err(FieldError::new(field, format!("is {value:?}; it must be {min:?} to {max:?}")));
            }
        }
        for (field, value, max) in [("batch_max", self.batch_max, 1000), ("waiting_max", self.waiting_max, WAITING_MAX)]
        {
            if !(1..=max).contains(&value) {
                return Err(FieldError::new(field, format!("is {value}; it must be 1 to {max}")));
            }
        }
        Ok(())
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
