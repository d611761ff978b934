//! Configuration.

use pushmesh_boot::{DoorConfig, FieldError, ServiceConfig};
use pushmesh_protocol::Kind;
use pushmesh_push::EngineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which kind it serves, and where backends reach it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The kind: one of those the mesh was provisioned with. It joins the mesh as `<kind>-push`. Default "group".
    pub kind: Kind,
    /// The gRPC door. Default 127.0.0.1:8103, with tokens.
    pub door: DoorConfig,
    /// Times of the engine.
    pub engine: EngineConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::new("group").expect("a token"),
            door: DoorConfig::local(8103),
            engine: EngineConfig::default(),
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        self.engine.validate().map_err(|error| error.within("engine"))
    }

    fn doors(&self) -> Vec<(&'static str, &DoorConfig)> {
        vec![("door", &self.door)]
    }
}
