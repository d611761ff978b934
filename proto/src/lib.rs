//! The gRPC contracts: `pushmesh.v1`, one file per domain, compiled with protox.
//!
//! * `login.proto`: [`v1::login_ingest_server`], login reports of a login system.
//! * `directory.proto`: one directory for each push kind's shape (flat groups, ad-hoc discussions, a tree).
//! * `call.proto`: calls, the same in every kind.
//! * `push.proto`: a push to a user, by ack-retry.
//! * `room.proto`: live rooms, who is online and where to connect, pushes to many, by api.

/// Version 1 of the contracts.
#[allow(clippy::doc_markdown, clippy::large_enum_variant)]
pub mod v1 {
    tonic::include_proto!("pushmesh.v1");
}

/// All descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pushmesh.bin"));
