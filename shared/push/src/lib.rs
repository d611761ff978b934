//! The engine of a push kind: it knows who is a member of what, who is online and which calls go on, and tells each
//! online member of each active call once per login.
//!
//! * **Consumes** online batches (requests on `pm.v1.online.<kind>.<instance>`), the bucket `sess`, the stream
//!   `DIR_<kind>` and the bucket `call_<kind>` by watch, CALLS questions (`pm.v1.calls.<kind>.<p>`), gRPC of backends.
//! * **Produces** PUSH: a delivery for each login and call, a withdrawal for each when the call ends, the end of a login.
//!   Writes `DIR_<kind>` and `call_<kind>` for its gRPC callers.
//! * **Owns** user partitions, by leases: one task each, in memory alone; what it knows can be read again.
//!
//! It guarantees: a login and a call that overlap meet, whichever comes first ([`desk`]); the same pair has the same
//! push id always, so that what is told twice is stored once. An online batch is answered when what came of it is
//! stored, or says per record why not. What comes of calls, sessions and directories is tried until it is stored, and a
//! new owner evaluates everything once more. Within a partition all is stored in the order in which it happened.
//!
//! It does not send to clients, count tries or keep an inbox (ack-retry), nor decide who owns what (membership). It does
//! not know which connection a login has.
//!
//! A kind is a [`PushKind`]; the services group-push, discuss-push and org-push are one each, with a contract of their
//! own in front of [`Directory`]; all else that such a service is, is [`PushService`]. Start reading at [`desk`], then
//! [`partition`] and [`engine`].

mod book;
mod clock;
mod config;
mod desk;
mod engine;
mod event;
mod feed;
mod kind;
mod metrics;
mod order;
mod outbox;
mod partition;
mod patience;
mod removals;
mod router;
pub mod rpc;
mod service;
mod sources;

pub use config::EngineConfig;
pub use engine::{Engine, Host, StartError};
pub use kind::{ENDED_CALL_LIFETIME, PushKind, Reach, call_policy};
pub use rpc::{CallsService, Directory, Member};
pub use service::PushService;
