//! The three doors.

pub mod grpc;
pub mod http;
pub mod line;
pub mod reader;
pub mod report;

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::gather::Intake;

/// What the two doors for backends share.
#[derive(Clone)]
pub struct Doorway {
    pub intake: Intake,
    /// Who may come in.
    pub door: Arc<pushmesh_auth::Door>,
    /// How far clocks may differ, for the end of a token.
    pub leeway: Duration,
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
    /// How long a caller may leave its answers unread.
    pub unread_max: Duration,
    /// How long an HTTP body may send nothing.
    pub idle: Duration,
}
