//! What every part of the mesh agrees on, and nothing else.
//!
//! * [`id`]: [`Token`](id::Token) and the ids made of it; [`PushId`](id::PushId); [`Unit`](id::Unit), a place in a directory.
//! * [`gift_key`]: what makes a gift one gift, however often it is said.
//! * [`partition`]: which of the P partitions a user or room belongs to.
//! * [`frame`]: the frames between a client and a comet, in MessagePack and JSON.
//! * [`message`]: what services say to each other and keep in streams and buckets, in compact MessagePack.
//! * [`room`]: the same for rooms; [`content`]: what of it clients are told.
//! * [`name`]: every subject, stream, consumer, bucket, key and header, built and parsed in one place.
//! * [`metric`]: every metric.
//! * [`topology`]: what has to be provisioned on a NATS server, as typed specs.
//! * [`catalogue`]: who says what to whom, from which the table in ARCHITECTURE.md is made.
//!
//! It consumes, produces and owns nothing at run time: no I/O, no clock, no randomness.
//! A message written by version N-1 is read by version N: new fields go to the end, with `#[serde(default)]`.
//!
//! Start reading at [`name`].

pub mod catalogue;
pub mod content;
pub mod frame;
pub mod gift_key;
pub mod id;
pub mod message;
pub mod metric;
pub mod name;
pub mod partition;
pub mod payload;
pub mod room;
pub mod topology;
pub mod trace;
pub mod wire;

pub use gift_key::GiftKey;
pub use id::{CallId, ConnId, DeviceId, Instance, Kind, LoginId, PushId, RoomId, Token, Unit, UserId};
pub use partition::{Partition, Partitions};
pub use payload::Payload;
pub use trace::TraceContext;
