//! How a service fails, and the exit code that says it.

use pushmesh_config::ConfigError;

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Exit code 78.
    #[error("bad configuration: {0}")]
    Config(String),
    /// Exit code 69: it is away past its deadline.
    #[error("{dependency} is unavailable: {reason}")]
    Unavailable { dependency: &'static str, reason: String },
    /// Exit code 69: NATS was away at the end.
    #[error("drained, but NATS is unavailable: nothing is lost, others take over as after a crash")]
    Unheard,
    /// Exit code 1.
    #[error("{0:#}")]
    Fatal(anyhow::Error),
    /// Exit code 1.
    #[error("the drain was cut off: {0}")]
    CutOff(&'static str),
}

impl BootError {
    /// The code a process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Unavailable { .. } | Self::Unheard => 69,
            Self::Fatal(_) | Self::CutOff(_) => 1,
        }
    }
}

impl From<ConfigError> for BootError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<pushmesh_bus::ConnectError> for BootError {
    fn from(error: pushmesh_bus::ConnectError) -> Self {
        use pushmesh_bus::ConnectError;
        match error {
            ConnectError::Config(error) => Self::Config(error.to_string()),
            ConnectError::Secret { .. } => Self::Config(chain(&error)),
            _ => Self::Unavailable { dependency: "NATS", reason: chain(&error) },
        }
    }
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
