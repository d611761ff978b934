//! The table `[auth]` of every service.

use std::{path::PathBuf, time::Duration};

use pushmesh_config::FieldError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most that clocks may differ.
pub const LEEWAY_MAX: Duration = Duration::from_secs(30);

/// Whose tokens are good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// JSON Web Key Set with the keys that tokens are signed with; read again when it changes. Default none: every token is
    /// refused.
    pub jwks_file: Option<PathBuf>,
    /// What `iss` must say. Default `pushmesh`.
    pub issuer: String,
    /// What `aud` of a client's token must say or contain. Default `pushmesh-client`.
    pub client_audience: String,
    /// What `aud` of a backend's token must say or contain. Default `pushmesh-backend`.
    pub backend_audience: String,
    /// How far clocks may differ, for `exp` and `nbf`: 0s to 30s. Default "10s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub leeway: Duration,
    /// Opens every backend door to who comes without a token; those doors must listen on loopback. For a laptop.
    /// Default false.
    pub insecure_local: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            jwks_file: None,
            issuer: "pushmesh".to_owned(),
            client_audience: "pushmesh-client".to_owned(),
            backend_audience: "pushmesh-backend".to_owned(),
            leeway: Duration::from_secs(10),
            insecure_local: false,
        }
    }
}

impl Config {
    pub fn validate(&self) -> Result<(), FieldError> {
        if self.leeway > LEEWAY_MAX {
            return Err(FieldError::new("leeway", "must be 0s to 30s"));
        }
        let names = [
            ("issuer", &self.issuer),
            ("client_audience", &self.client_audience),
            ("backend_audience", &self.backend_audience),
        ];
        if let Some((field, _)) = names.into_iter().find(|(_, name)| name.is_empty()) {
            return Err(FieldError::new(field, "must not be empty"));
        }
        if self.client_audience == self.backend_audience {
            return Err(FieldError::new("client_audience", "must differ from backend_audience"));
        }
        Ok(())
    }
}
