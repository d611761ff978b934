//! How a command fails, and the exit code that says so (after BSD's sysexits).

use std::{fmt, process::ExitCode};

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: anyhow::Error,
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// 1: it was tried, and failed.
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 1, error: error.into() }
    }

    /// 2: called wrongly.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into() }
    }

    /// 69: something needed is not there now.
    pub fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 69, error: error.into() }
    }

    /// 78: configuration, keys or files are wrong.
    pub fn config(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 78, error: error.into() }
    }

    /// 130: SIGINT or SIGTERM came before it was done, as a shell says of SIGINT.
    pub fn interrupted() -> Self {
        Self { code: 130, error: anyhow::anyhow!("interrupted") }
    }

    /// What a door answered.
    pub fn refused(status: &tonic::Status, door: impl fmt::Display) -> Self {
        let said = anyhow::anyhow!("{door} answered {:?}: {}", status.code(), status.message());
        match status.code() {
            tonic::Code::Unavailable => Self::unavailable(said),
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Self::config(said),
            _ => Self::failed(said),
        }
    }

    /// Prints the error and gives the exit code.
    pub fn exit(self) -> ExitCode {
        eprintln!("error: {:#}", self.error);
        ExitCode::from(self.code)
    }
}

// Its chain is in its text.
impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    /// Keeps the exit code of a failure that was passed on as an `anyhow::Error`.
    fn from(error: anyhow::Error) -> Self {
        error.downcast().unwrap_or_else(Self::failed)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}
