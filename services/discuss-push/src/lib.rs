//! discuss-push: Tells the members of ad-hoc discussion groups of their calls.
//!
//! For whom: a product whose users meet in small ad-hoc groups that live as long as their call. The service is thin: its policy ([`discussions`]), its gRPC
//! directory ([`handlers::directory`]) and its configuration; all work is done by the engine, `pushmesh_push`.
//!
//! * **Consumes** online batches of the distributor, sessions, its directory and calls by watch, CALLS questions, gRPC
//!   `DiscussDirectory` and `Calls` of backends.
//! * **Produces** PUSH, `DIR_<kind>`, `call_<kind>`.
//! * **Owns** user partitions, by leases of `<kind>-push`, in memory alone.
//!
//! It guarantees what the engine guarantees: each active call of a user is told once per login, and withdrawn when it
//! ends. The kind is configuration (`kind = "discuss"`): another kind of the same shape is another process of this one.
//!
//! It sends nothing to clients, and knows no other kind.
//!
//! Start reading at [`discussions`], then [`service`].

pub mod config;
pub mod discussions;
pub mod handlers;
pub mod service;

pub use config::Config;
pub use service::Service;
