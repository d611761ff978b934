//! Durations on the command line.

use std::time::Duration;

/// `5s`, `1h`, `30d`: more than nothing.
pub fn parse(text: &str) -> Result<Duration, String> {
    match pushmesh_config::duration::parse(text) {
        Ok(Duration::ZERO) => Err("must be more than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
