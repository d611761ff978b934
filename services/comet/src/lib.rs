//! Holds the clients' long connections, over WebSocket and TCP.
//!
//! * **What for**: a client logs in here and is told here; the rest of the mesh never sees a socket.
//! * **Consumes** clients' frames; on `pm.v1.comet.batch.<comet>`, what ack-retry has for its connections; on
//!   `pm.v1.room.frame.<p>.<room>`, the frames of each room with a member here. **Produces** login reports (requests to
//!   login-ingest), sessions in the bucket `sess`, acknowledgements on `pm.v1.ack.client.<p>`, questions to push services,
//!   rooms' owners and applications, who is in which room on `pm.v1.room.presence.<p>`, how full it is on
//!   `pm.v1.comet.status.<comet>`. **Owns** connections, nothing else: it may vanish at any time, and costs its clients a
//!   reconnect.
//! * **Guarantees**: LOGIN_OK only once the session stands and the login is stored. Frames of one class reach a connection
//!   in the order they came; no frame is sent in part and then given up while the socket lives. A client that reads slowly
//!   costs bounded memory and nobody else's time: lower classes are dropped first, every drop is counted, and the client is
//!   told of its gap, by room. A room's frames are not begun before its JOINED, in the order of each class, one write for
//!   all that has come meanwhile. Each limit has a name, a close code and a metric label.
//! * **Does not** retry or dedupe pushes (ack-retry, the client), decide what a user is told (push services), know what is
//!   said in a room, or what was (its owner), terminate TLS, or compress.
//!
//! Threads: each [`shard`] is one thread that owns its sockets; tokens, NATS and the admin port live on the main runtime,
//! in [`mesh`]. Between them are bounded queues: [`shard::outlet`] out, [`shard::command`] in.
//!
//! Start reading at [`service`], then [`shard`] and [`shard::live`]; for rooms at [`room::sweep`] and [`mesh::rooms`].

pub mod address;
pub mod backlog;
pub mod close;
pub mod config;
pub mod elsewhere;
#[cfg(feature = "bench-floor")]
pub mod floor;
pub mod framing;
pub mod lane;
pub mod limit;
pub mod mesh;
pub mod metrics;
pub mod penalty;
pub mod proxy;
pub mod queue;
pub mod room;
pub mod service;
pub mod shard;
pub mod socket;
pub mod wheel;

pub use config::Config;
pub use service::Service;
