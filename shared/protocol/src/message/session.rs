//! Sessions, and which login each is in.

use serde::{Deserialize, Serialize};

use super::{Epoch, Millis};
use crate::id::{DeviceId, Instance, LoginId};

/// A connection that is logged in: value in the bucket `sess`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub login_id: LoginId,
    pub device: DeviceId,
    pub comet: Instance,
    pub comet_epoch: Epoch,
    pub since: Millis,
    /// When its socket broke, if it did.
    pub left: Option<Millis>,
}

/// What has become of the login that a session began with, where something has: value in the bucket `sess`, beside the
/// session. So a push kind's next owner knows what the last one was told by LOGIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLogin {
    /// The session's own.
    pub began: LoginId,
    pub device: DeviceId,
    /// The session's: of two sessions of a device the later one counts.
    pub since: Millis,
    /// The newest record that says so.
    pub by: EndedBy,
}

/// A record of LOGIN that ended a login for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// Its place in LOGIN: of two records of a device the later one counts, whatever the clocks say.
    pub sequence: u64,
    /// The login that it began in the other's place; an `offline` begins none.
    pub successor: Option<Successor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    pub login_id: LoginId,
    pub at: Millis,
}

impl EndedBy {
    /// The login that stands now.
    pub fn current(&self) -> Option<&LoginId> {
        self.successor.as_ref().map(|successor| &successor.login_id)
    }
}
