//! Metrics of `boot`.

use super::{Counter, Gauge};

pub const READY: Gauge = Gauge {
    name: "pushmesh_boot_ready",
    help: "1 while the service is ready, 0 while it starts, drains or lacks NATS. By service.",
};
pub const BUILD_INFO: Gauge =
    Gauge { name: "pushmesh_boot_build_info", help: "Always 1. By service, version and revision." };
pub const DOOR_CONNECTIONS: Gauge =
    Gauge { name: "pushmesh_boot_door_connections", help: "Open connections to doors and the admin port. By service." };
pub const DOOR_REFUSED: Counter = Counter {
    name: "pushmesh_boot_door_refused_total",
    help: "Connections closed at once because the door had as many as it may. By service.",
};
pub const DOOR_ACCEPT_ERRORS: Counter = Counter {
    name: "pushmesh_boot_door_accept_errors_total",
    help: "Connections that could not be accepted, for lack of file descriptors or the like. By service.",
};
pub const DOOR_SILENT: Counter = Counter {
    name: "pushmesh_boot_door_silent_total",
    help: "Connections closed since nothing came over them. By service.",
};
