//! Stories of whole meshes: real processes, a real nats-server, real sockets.

mod bad_input;
mod calls;
mod cluster;
mod devices;
mod doors;
mod kinds;
mod limits;
mod online;
mod restarts;
mod retries;
mod room_dead;
mod room_deaf;
mod room_faults;
mod room_history;
mod room_limits;
mod room_mutes;
mod room_storm;
mod rooms;
mod take_over;
mod traces;
mod two_of_everything;
