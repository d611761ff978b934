//! The only owner of async-nats: what services say to each other goes through here.
//!
//! * **What for**: [`Bus::store`] and [`Bus::store_all`] (JetStream, awaited, held over an outage), [`Bus::publish`],
//!   [`Bus::request`] and [`Bus::subscribe`] (core), [`Bus::take_partition`] (a partition's pinned consumer),
//!   [`Bus::watch_stream`], [`Bus::follow_stream`] and [`Bus::read_history`] (streams that nobody consumes for others),
//!   [`Bus::bucket`] (key-value) and [`provision()`].
//! * **Owns** one connection per [`Bus`] (clones share it), its reply inbox, and the window of unacknowledged publishes.
//! * **Guarantees**: a message that `store` answered with [`Stored`] is in its stream, once within the stream's duplicate
//!   window; one that it refused may be there only if the error [is an outage](StoreError::is_outage). A partition's
//!   messages come in stream order; again after a take-over or a lost ack (at least once). Nothing stays behind in memory
//!   when a request times out. Memory is bounded: by bytes for what is held, by number for subscriptions, which drop the
//!   newest when full and count it.
//! * **Does not**: encode messages, choose partitions, decide who owns one, or retry core publishes.
//!
//! Start reading at [`connection`], then [`store`] and [`consume`].

mod ack;
mod api;
mod backoff;
pub mod config;
pub mod connection;
pub mod consume;
pub mod core;
pub mod follow;
pub mod health;
pub mod history;
pub mod kv;
mod metrics;
mod ordered;
pub mod provision;
mod replies;
pub mod settle;
pub mod state;
pub mod store;
mod suspicion;
pub mod watch;
mod watcher;

pub use ack::Acker;
pub use config::Config;
pub use connection::{Bus, ConnectError};
pub use consume::{ConsumeError, Delivered, PartitionConsumer, TakeOver};
pub use core::{Message, PublishError, Reply, RequestError, SubscribeError, Subscription};
pub use follow::{FollowEvent, StreamFollow, StreamMessage};
pub use health::Health;
pub use history::History;
pub use kv::{Entry, GoneReason, Kv, KvError, KvEvent, KvWatch};
pub use provision::{Difference, MeshInfoError, ProvisionError, Report, mesh_info, provision};
pub use settle::Verdict;
pub use state::StreamState;
pub use store::{Outgoing, StoreError, Stored, Unique, UniqueOutcome};
pub use watch::{StreamEvent, StreamWatch};
