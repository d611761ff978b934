//! [`Rules`]: what the configuration says of pushes and sessions.

use std::time::Duration;

/// What the configuration says about pushes and sessions.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Between two transmissions, and from the last one to the outcome.
    pub retry_interval: Duration,
    /// Transmissions of a push within one login.
    pub transmissions: u8,
    /// Unacknowledged for this long, a push is written to `pending`.
    pub suspect_after: Duration,
    /// An absent session's login ends after this long.
    pub left_after: Duration,
    pub inbox_max_age: Duration,
    pub inbox_max_per_user: usize,
    /// Pushes whose content is held in memory, in one partition: beyond, PUSH is not pulled.
    pub pushes_max: usize,
    /// Bytes of that content.
    pub bytes_max: usize,
    /// Pushes not settled, in one partition, with content in memory or without: beyond, PUSH is not pulled. Inboxes take
    /// half of them, so that what must be told now is never held up by what waits for days.
    pub entries_max: usize,
    /// A CALL_ENDED that nobody could be sent expires after this long.
    pub withdrawal_lifetime: Duration,
}

impl Rules {
    /// Pushes in the inboxes of one partition; what would enter one beyond is a dead letter.
    pub(super) fn inbox_max(&self) -> usize {
        self.entries_max / 2
    }
}
