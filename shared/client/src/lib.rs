//! The Rust client of a mesh: one task that keeps one device connected.
//!
//! *For*: applications, tests and load tools. [`Client::connect`] gives a handle to ask and tell with, and the
//! [`Events`] to read: a push is an [`Event::Push`], shown once however often it was sent.
//!
//! *Consumes* a comet's frames over `ws://` (MessagePack or JSON) or `tcp://` (MessagePack), *produces* LOGIN, ACK,
//! PING, CALLS, JOIN, LEAVE, LOGOUT and an application's frames, *owns* nothing but its memory: the last 1,024 ids seen,
//! and where it stands in each room.
//!
//! *Guarantees*
//! * Connected again after every loss, with jittered, exponential delays of at most 5 s, or when and where the comet
//!   said; only [`Ended`](Event::Ended) ends that, and it is always the last event.
//! * The same login goes on over reconnects while the comet's side remembers it ([`LoggedIn::resumed`]).
//! * A push is acknowledged after its event was put into the channel, and again for every duplicate.
//! * A room's items come in the order of their chains and once, over reconnects and from one comet to another; what
//!   can't be had any more is told as a gap ([`Event::RoomGap`]).
//! * An unread channel stops the reading of the socket (backpressure towards the comet, which drops low lanes first and
//!   closes at last); heartbeats, acknowledgements and questions go on meanwhile.
//! * Bounded memory: 4 KiB to read into, 17 KiB of ids at most, [`Options::events`] events.
//!
//! *Does not*: keep anything on disk (an application that does keeps its [`Memory`]: else what came just before a restart may
//! be shown again), TLS.
//!
//! [`Api`] is the way in the other direction: chat, gifts and likes into rooms over HTTP, a gift said again under its key
//! until it is answered, likes summed and sent once a second. [`Options::api`] asks it where to connect.
//!
//! Start reading at [`Client`]; then `task.rs`, which chooses, and `core.rs`, which applies.

mod address;
mod api;
mod backoff;
mod client;
mod core;
mod event;
mod heartbeat;
mod memory;
mod options;
mod position;
mod rooms;
mod seen;
mod task;
mod token;
mod wire;

pub use address::{Address, AddressError};
pub use api::{Api, ApiError, ApiOptions, Gift, Given, LikeStats, Refusal, Stored, new_key};
pub use client::{AskError, Client, Events, Stats};
pub use event::{End, Event, LoggedIn};
pub use memory::Memory;
pub use options::{BackoffOptions, Options};
pub use position::follow;
pub use pushmesh_protocol::frame::{
    ActiveCall, App, AppBody, Call, CallEnded, Calls, Chain, Encoding, Error, ErrorCode, Gap, HeartbeatProfile, Joined,
    KickReason, Left, LeftReason, Message, Push, PushBody, Resume, RoomItem, RoomPosition, item,
};
pub use reqwest::Method;
pub use token::{TokenSource, TokenSourceError};
