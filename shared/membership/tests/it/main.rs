//! Members, leases and hand-overs over a real nats-server.

mod faults;
mod mesh;
mod overload;
mod ring;
mod sharing;
