//! api: the front door of rooms.
//!
//! For whom: backends and clients that send into rooms, keep order there or ask what is going on.
//!
//! * **Consumes** HTTP and gRPC, the same operations at one port, with tokens of clients and backends; the buckets `rooms`
//!   and `mutes`, by watch; what comets tell of themselves; where it is asked for them, sessions, what the streams hold of a
//!   room, and the answers of rooms' owners, push services and comets.
//! * **Produces** gifts with their markers and chat (ROOM_HIGH), events (ROOM_NORMAL), likes and notes (ROOM_LOW); state and
//!   roles in the bucket `rooms`, mutes in `mutes`; pushes to many (PUSH).
//! * **Owns** the checks (token, right, mute, state, rate, size), what is not published yet of the likes it has accepted, and
//!   which effect a gift's key had.
//!
//! It guarantees: what is answered with a sequence is stored. A gift's key has one effect, at whichever instance and however
//! often it is said within the hour that a key may be old; who says it again gets the first answer, who says something else
//! under it is refused. Gifts wait behind no chat: they have a queue and a connection of their own. What is refused names the
//! field or the limit; 503 and `Retry-After` say that it is not the caller's fault, and may have been stored. Mutes, bans and
//! roles hold at every instance as soon as its watch tells, which is within a second; a mute everywhere is told in the rooms
//! where the user is, as far as his comets say where. A crash loses the accepted likes of a tick; where they can't be stored for
//! 2 s more, none are taken until they are. Every queue and table is bounded.
//!
//! It does not order what rooms see, count gifts, or know who is in a room: room-fanout does. Limits of users and backends are
//! kept by each instance for itself, so that N of them allow up to N times as much; a room's they share by their number.
//!
//! Start reading at [`operations`], one file for each; [`service`] shows how it is put together.

mod api;
mod caller;
mod comets;
mod config;
mod gift;
mod grpc;
mod history_chain;
mod http;
mod likes;
mod limits;
mod metrics;
mod mute;
mod openapi;
pub mod operations;
mod query;
mod reads;
mod refusal;
mod request;
pub mod service;
mod standing;
mod till;
mod typing;
mod watching;
mod whereabouts;

pub use config::Config;
pub use service::Service;
