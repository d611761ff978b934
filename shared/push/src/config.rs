//! What every push service can be told in its table `[service.engine]`.

use std::time::Duration;

use pushmesh_config::FieldError;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// A login record older than this is skipped while its user and device have no session. Default "60s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub stale_after: Duration,
    /// How long a session waits for the record of its login before the login is told without. Longer saves a second
    /// look-up when records are slow, shorter tells sooner when they don't come. Default "1s", at most "30s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub session_grace: Duration,
    /// A push of a call expires after this long, wherever it is. Default "1h".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub push_lifetime: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(60),
            session_grace: Duration::from_secs(1),
            push_lifetime: Duration::from_secs(3600),
        }
    }
}

impl EngineConfig {
    /// Fields are named relative to this table.
    pub fn validate(&self) -> Result<(), FieldError> {
        if self.stale_after < Duration::from_secs(1) {
            return Err(FieldError::new("stale_after", "must be at least 1s"));
        }
        if self.session_grace > Duration::from_secs(30) {
            return Err(FieldError::new("session_grace", "must be at most 30s"));
        }
        if self.push_lifetime < Duration::from_secs(1) || self.push_lifetime > Duration::from_secs(7 * 24 * 3600) {
            return Err(FieldError::new("push_lifetime", "must be 1s to 7d"));
        }
        Ok(())
    }
}
