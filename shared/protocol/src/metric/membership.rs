//! Metrics of `membership`.

use super::{Counter, Gauge, Histogram};

/// Label `service`: whose members.
pub const MEMBERS: Gauge = Gauge { name: "pushmesh_membership_members", help: "Members heard, by service" };
/// Label `service`: who holds them.
pub const PARTITIONS_HELD: Gauge =
    Gauge { name: "pushmesh_membership_partitions_held", help: "Partitions whose lease this instance holds" };
/// Label `service`.
pub const COVERED: Gauge =
    Gauge { name: "pushmesh_membership_covered", help: "1 while every partition has a live owner" };
pub const FROZEN: Gauge = Gauge {
    name: "pushmesh_membership_frozen",
    help: "1 while re-balancing waits because most members vanished at once",
};
pub const LAST_CHANGE: Gauge = Gauge {
    name: "pushmesh_membership_last_change_timestamp_seconds",
    help: "When the view of members last changed, in seconds since 1970",
};
/// Labels `service` and `how`: fresh, handed_over or crashed.
pub const TAKE_OVERS: Counter =
    Counter { name: "pushmesh_membership_take_overs_total", help: "Partitions taken, by how their lease was found" };
/// Label `service`.
pub const RELEASES: Counter =
    Counter { name: "pushmesh_membership_releases_total", help: "Partitions handed over or given back" };
/// Label `service`.
pub const CONFLICTS: Counter =
    Counter { name: "pushmesh_membership_conflicts_total", help: "Leases that another member wrote first" };
/// Label `service`.
pub const RESTING: Gauge = Gauge {
    name: "pushmesh_membership_resting",
    help: "1 while this instance takes no partitions because it lost all of them again and again",
};
/// Label `service`. Of the runtime that the work shares, not of the heartbeats' own.
pub const RUNTIME_DELAY: Histogram = Histogram {
    name: "pushmesh_membership_runtime_delay_seconds",
    help: "How late a timer of the service's own runtime went off, ten times a second",
};
/// Labels `service` and `why`: stalled (this process was not scheduled) or unheard (no heartbeat came back).
pub const FENCINGS: Counter = Counter {
    name: "pushmesh_membership_fencings_total",
    help: "Times that this instance did not hear itself and gave up all its leases",
};
/// Labels `service` and `why`, as above.
pub const FENCED: Counter = Counter {
    name: "pushmesh_membership_fenced_total",
    help: "Leases given up because this instance did not hear itself",
};
/// Label `service`.
pub const USURPED: Counter =
    Counter { name: "pushmesh_membership_usurped_total", help: "Leases held here that turned out to be another's" };
/// Label `service`.
pub const WORK_ENDED: Counter = Counter {
    name: "pushmesh_membership_work_ended_total",
    help: "Partition work that returned or panicked while its lease was held",
};
pub const SUSPICIONS: Counter =
    Counter { name: "pushmesh_membership_suspicions_total", help: "Members declared dead because they were not heard" };
pub const RETURNS: Counter =
    Counter { name: "pushmesh_membership_returns_total", help: "Members heard again after they were declared dead" };
pub const FREEZES: Counter =
    Counter { name: "pushmesh_membership_freezes_total", help: "Times that most members vanished at once" };
