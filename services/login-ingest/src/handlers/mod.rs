//! The three doors.

pub mod grpc;
pub mod http;
pub mod line;
pub mod report;

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::gather::Intake;

/// What the two doors for backends share.
#[derive(Clone)]
pub struct Doorway {
    pub intake: Intake,
    /// Who may come in.
    pub door: Arc<pushmesh_auth::Door>,
    /// Cancelled: nothing more is read, what was read is answered.
    pub closing: CancellationToken,
    /// Every stream's reader.
    pub readers: TaskTracker,
    pub limits: StreamLimits,
}

/// What one stream may ask of us.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Records that may wait for their answer; more are not read.
    pub waiting_max: usize,
    /// How long an HTTP body may send nothing.
    pub idle: std::time::Duration,
}
