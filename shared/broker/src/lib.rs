//! Finds, installs and runs a nats-server as a child process.
//!
//! * **What for**: `pushmesh up`, and every test that needs a real server.
//! * **Owns** the child and the files below [`Options::store_dir`].
//! * **Guarantees**: [`Server::start`] returns a server that accepts connections, or says why not with the end of its log.
//!   The child ends with its [`Server`], and with this process however that ends (Linux).
//! * **Does not**: provision streams, or manage a server that somebody else runs.
//!
//! Start reading at [`locate()`], then [`server`].

pub mod config;
mod locate;
pub mod server;

pub use config::{ClusterOptions, Options};
pub use locate::{LocateError, VERSION, locate, locate_on_path};
pub use server::{Server, StartError};
