//! What a service gives to be run.

use pushmesh_config::FieldError;
use pushmesh_protocol::Token;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{context::Context, settings::DoorConfig};

/// A service: its name, its configuration, how it starts and how it drains.
pub trait Service: Sized + Send + 'static {
    /// As it is called on the command line and in logs.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    type Config: ServiceConfig;

    /// The name under which it joins the mesh: [`Service::NAME`], or for a push service its kind's.
    fn member_name(config: &Self::Config) -> Token {
        let _ = config;
        Token::new(Self::NAME).expect("a service's name is a token")
    }

    /// Builds the service. Called when NATS is connected, the mesh is known and joined; the service counts as ready when
    /// this has returned and all its latches are dropped. Dropped half-way if a signal comes meanwhile.
    fn start(ctx: Context, config: Self::Config) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Ends its work: on the first signal, when `drain` is cancelled and not-ready is told. What it spawned by
    /// [`Context::spawn`] is awaited after this. Dropped half-way when the grace period ends.
    fn drain(self) -> impl Future<Output = ()> + Send;
}

/// The table `[service]`. Says `#[serde(default, deny_unknown_fields)]`, as do the tables in it.
pub trait ServiceConfig: Serialize + DeserializeOwned + Default + JsonSchema + Clone + Send + Sync + 'static {
    /// What types alone can't say; the field is named from inside the table.
    fn validate(&self) -> Result<(), FieldError>;

    /// Every [`DoorConfig`] of it, by its name inside the table: what is wrong with one is said before anything starts.
    fn doors(&self) -> Vec<(&'static str, &DoorConfig)> {
        Vec::new()
    }
}
