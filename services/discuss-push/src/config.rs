//! Configuration.

use std::time::Duration;

use pushmesh_boot::{DoorConfig, FieldError, ServiceConfig};
use pushmesh_protocol::Kind;
use pushmesh_push::EngineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which kind it serves, and where backends reach it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The kind: one of those the mesh was provisioned with. It joins the mesh as `<kind>-push`. Default "discuss".
    pub kind: Kind,
    /// The gRPC door. Default 127.0.0.1:8104, with tokens.
    pub door: DoorConfig,
    /// Most members of one discussion: 2 to 10000. Default 256.
    pub members_max: usize,
    /// How long after its last call has ended a discussion's members are forgotten: 10 s to 24 h. Default "10m".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub dissolve_after: Duration,
    /// Times of the engine.
    pub engine: EngineConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::new("discuss").expect("a token"),
            door: DoorConfig::local(8104),
            members_max: 256,
            dissolve_after: Duration::from_secs(600),
            engine: EngineConfig::default(),
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        if !(2..=10_000).contains(&self.members_max) {
            return Err(FieldError::new("members_max", format!("is {}; it must be 2 to 10000", self.members_max)));
        }
        let (least, most) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));
        if self.dissolve_after < least || self.dissolve_after > most {
            let reason = format!("is {:?}; it must be 10s to 24h", self.dissolve_after);
            return Err(FieldError::new("dissolve_after", reason));
        }
        self.engine.validate().map_err(|error| error.within("engine"))
    }

    fn doors(&self) -> Vec<(&'static str, &DoorConfig)> {
        vec![("door", &self.door)]
    }
}
