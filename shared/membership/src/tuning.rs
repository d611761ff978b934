//! Who a member is, and how fast it beats.

use std::time::Duration;

use pushmesh_protocol::id::{Instance, Token};

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    pub service: Token,
    /// Unique within its service: a second one of the same name ends the first.
    pub instance: Instance,
    /// 1 to 100: its share of the partitions is in proportion.
    pub weight: u16,
    /// Where clients or people reach it; may be empty.
    pub address: String,
}

/// Intervals and limits. The defaults are the measured ones: change them together or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Between two heartbeats. Default 250 ms.
    pub heartbeat: Duration,
    /// Not heard for so long while others are: dead. Default 1.2 s.
    pub dead_after: Duration,
    /// Lifetime of a member's key. Default 10 s: longer than an election of the bucket's leader takes.
    pub key_ttl: Duration,
    /// Between two renewals of the key. Default 2 s.
    pub renew: Duration,
    /// Not having heard itself for so long, a member gives up its leases. Default 900 ms: a heartbeat less than `dead_after`.
    pub fence_after: Duration,
    /// The runtime of the work has not got on for so long: the member falls silent, and others take over. Default 10 s.
    pub stuck_after: Duration,
    /// How long re-balancing waits when most members vanish at once. Default 10 s.
    pub freeze: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            dead_after: Duration::from_millis(1200),
            key_ttl: Duration::from_secs(10),
            renew: Duration::from_secs(2),
            fence_after: Duration::from_millis(900),
            stuck_after: Duration::from_secs(10),
            freeze: Duration::from_secs(10),
        }
    }
}

impl Tuning {
    /// The longest pause between two heard heartbeats that still counts as hearing.
    pub(crate) fn hearing_gap(&self) -> Duration {
        self.heartbeat * 2
    }

    /// So long without a turn means that this process was not scheduled.
    pub(crate) fn stall(&self) -> Duration {
        self.fence_after / 2
    }

    /// Why these can't be used together.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.heartbeat.is_zero() {
            return Some("heartbeat must be more than 0");
        }
        if self.fence_after < self.heartbeat * 2 {
            return Some("fence_after must be at least two heartbeats");
        }
        if self.dead_after < self.fence_after + self.heartbeat {
            return Some(
                "dead_after must be at least fence_after and a heartbeat: an owner stops before it is replaced",
            );
        }
        if self.stuck_after < self.dead_after {
            return Some("stuck_after must be at least dead_after: a busy process is not a dead one");
        }
        if self.key_ttl < Duration::from_secs(1) || self.key_ttl < self.renew * 2 {
            return Some("key_ttl must be at least 1s and two renewals");
        }
        None
    }
}
