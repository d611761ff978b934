//! login-ingest: takes in who came and who went.
//!
//! For whom: login systems, by gRPC or NDJSON, and the mesh's own comets and ack-retry, by requests on the bus. Three
//! doors, one validation, one store.
//!
//! * **Consumes** gRPC `LoginIngest.Report`, HTTP `POST /v1/logins`, requests on `pm.v1.login.report` (queue group
//!   `login-ingest`: any instance answers any of them).
//! * **Produces** LOGIN, on `pm.v1.login.record.<p>.<user>`: it alone decides which partition a user is.
//! * **Owns** nothing that outlives a record's answer: validation, login ids minted for who has none, the queue of
//!   records that wait for their store.
//!
//! It guarantees: a record answered *accepted* is stored; one *refused* names the field and the limit, and harms no
//! other; *unknown* may have been stored, and is to be said again with the same login id. Each record gets exactly one
//! answer. Of one stream, one body or one request, a user's accepted records are stored in their order. The message id
//! (user, login id and event) makes a record said twice within LOGIN's window one; a login id is unique among its user's.
//! Everything is bounded: records that wait per stream and in all, a line, a message.
//!
//! It does not know who is online, ends no login, reads no stream, and holds no record that it has answered.
//!
//! Start reading at [`record`], then [`gather`]; [`service`] shows how they are put together.

pub mod answers;
pub mod config;
pub mod gather;
pub mod handlers;
mod metrics;
pub mod record;
pub mod service;

pub use config::Config;
pub use service::Service;
