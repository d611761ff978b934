//! ack-retry: keeps pushes until they are acknowledged.
//!
//! For whom: whoever has something to tell a user, and must not care whether his phone is in a tunnel.
//!
//! * **Consumes** PUSH, partition by partition; clients' acknowledgements by way of their comets; sessions and members,
//!   by watch; gRPC `Pushes` of backends.
//! * **Produces** batches to comets, DEAD, reports of logins whose session ended, PUSH (for its own `Push` call), and beside a
//!   session the login that it is in, where a record ended the one it began with.
//! * **Owns** pending pushes, their tries and inboxes: in memory, in unacknowledged messages of PUSH and in `pending`;
//!   and the end of sessions.
//!
//! It guarantees: every push that PUSH took is sent until a client acknowledged it, at most three times within a login,
//! 10 s apart and once more at once for a reconnect; then it is in the user's inbox or a dead letter with an alarm,
//! or was worth nothing later, as its policy says. Its id is its idempotency key. A crash costs at most a repeated transmission,
//! never a fourth, and no push.
//!
//! It does not decide who is told what, write to sockets, or promise an order between pushes.
//!
//! Start reading at [`desk`], then [`partition`] and `serving`.

pub mod api;
pub mod config;
pub mod desk;
mod effects;
mod handlers;
pub mod load;
pub mod logins;
mod metrics;
pub mod note;
mod outbox;
pub mod partition;
mod reporter;
pub mod service;
mod serving;
pub mod sessions;
pub mod settled;
pub mod slab;
pub mod wheel;

pub use config::Config;
pub use service::Service;
