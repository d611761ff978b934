//! All settings of a service: the common tables, and its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use pushmesh_config::{ConfigError, FieldError};
use pushmesh_protocol::Instance;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::ServiceConfig;

/// What a configuration file holds.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, bound = "C: ServiceConfig")]
#[schemars(bound = "C: JsonSchema + ServiceConfig")]
pub struct Settings<C> {
    /// How to reach NATS.
    pub nats: pushmesh_bus::Config,
    /// Logs and traces.
    pub telemetry: pushmesh_telemetry::Config,
    /// The admin port.
    pub admin: AdminConfig,
    /// What holds at all its doors.
    pub doors: DoorsConfig,
    /// Whose tokens are good.
    pub auth: pushmesh_auth::Config,
    /// What it is in the mesh.
    pub mesh: MeshConfig,
    /// How it ends.
    pub shutdown: ShutdownConfig,
    /// The service's own.
    pub service: C,
}

/// The tables that all services have.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    pub nats: pushmesh_bus::Config,
    pub telemetry: pushmesh_telemetry::Config,
    pub admin: AdminConfig,
    pub doors: DoorsConfig,
    pub auth: pushmesh_auth::Config,
    pub mesh: MeshConfig,
    pub shutdown: ShutdownConfig,
}

/// The table `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where health, readiness, metrics and the log level are served; never on a public network. Default 127.0.0.1:9090; port 0
    /// takes a free one.
    pub listen: SocketAddr,
}

/// The table `[doors]`: what holds at the admin port and at every door for HTTP and gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoorsConfig {
    /// How long a connection may say nothing at its beginning before it is closed: 100ms to 1m. Default "10s". Who has begun
    /// a request has 30 s for its headers.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub first_byte_within: Duration,
}

/// The table `[mesh]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// Its name among the instances of its service, unique while it lives. Default none: the service's name and 8 random digits.
    pub instance: Option<Instance>,
    /// Its share of the work, relative to the others: 1 to 100. Default 10.
    pub weight: u16,
    /// Where others reach its door, `host:port`, as the members' list tells them. Default none.
    pub advertise: Option<String>,
}

/// The table `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long draining may take after the first signal before everything is dropped: 100ms to 1h. Default "25s": within
    /// Kubernetes' 30 s. Calls under way at a gRPC door have half of it.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub grace: Duration,
}

/// A gRPC door, in a service's own table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoorConfig {
    /// Where it listens. Default 127.0.0.1:0, a free port.
    pub listen: SocketAddr,
    /// Opens this door to who comes without a token; it must listen on loopback. Default false.
    pub insecure_local: bool,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: loopback(9090) }
    }
}

impl Default for DoorsConfig {
    fn default() -> Self {
        Self { first_byte_within: Duration::from_secs(10) }
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self { instance: None, weight: 10, advertise: None }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(25) }
    }
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self::local(0)
    }
}

impl DoorConfig {
    /// On loopback.
    pub fn local(port: u16) -> Self {
        Self { listen: loopback(port), insecure_local: false }
    }
}

impl<C: ServiceConfig> Default for Settings<C> {
    fn default() -> Self {
        Self {
            nats: Default::default(),
            telemetry: Default::default(),
            admin: Default::default(),
            doors: Default::default(),
            auth: Default::default(),
            mesh: Default::default(),
            shutdown: Default::default(),
            service: C::default(),
        }
    }
}

impl<C: ServiceConfig> Settings<C> {
    /// What the types alone can't say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.nats.validate().map_err(|error| FieldError::new(format!("nats.{}", error.field), error.reason))?;
        self.telemetry.validate().map_err(|error| error.within("telemetry"))?;
        self.auth.validate().map_err(|error| error.within("auth"))?;
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.doors.first_byte_within) {
            return Err(FieldError::new("doors.first_byte_within", "must be 100ms to 1m").into());
        }
        if !(1..=100).contains(&self.mesh.weight) {
            let reason = format!("is {}; must be 1 to 100", self.mesh.weight);
            return Err(FieldError::new("mesh.weight", reason).into());
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&self.shutdown.grace) {
            return Err(FieldError::new("shutdown.grace", "must be 100ms to 1h").into());
        }
        self.service.validate().map_err(|error| error.within("service"))?;
        for (name, door) in self.service.doors() {
            if (door.insecure_local || self.auth.insecure_local) && !door.listen.ip().is_loopback() {
                let reason = format!("is {}; with insecure_local it must be a loopback address", door.listen);
                return Err(FieldError::new(format!("service.{name}.listen"), reason).into());
            }
        }
        Ok(())
    }

    /// The common tables.
    pub fn common(&self) -> Common {
        Common {
            nats: self.nats.clone(),
            telemetry: self.telemetry.clone(),
            admin: self.admin.clone(),
            doors: self.doors.clone(),
            auth: self.auth.clone(),
            mesh: self.mesh.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
