//! Stories of whole meshes: real processes, a real nats-server, real sockets.

mod bad_input;
mod calls;
mod cluster;
mod devices;
mod kinds;
mod limits;
mod restarts;
mod retries;
mod room_faults;
mod room_limits;
mod rooms;
mod traces;
mod two_of_everything;
