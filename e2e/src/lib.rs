//! The harness of the stories: a mesh of real processes on real nats-servers, backends that use its doors, and people
//! who connect to it.
//!
//! It owns what it starts: every process, its data and its sockets go when the [`Mesh`] goes.
//! Start reading at [`Mesh`].

mod backend;
mod broker;
mod front;
mod mesh;
mod person;
mod stranger;
mod viewer;

pub use backend::{Backend, record};
pub use broker::Broker;
pub use front::{Front, Said, gift_key};
pub use mesh::{Mesh, Shape};
pub use person::Person;
pub use stranger::Stranger;
pub use viewer::Viewer;

/// How long anything in a story may take before it counts as not happening: more than it takes on a machine that is busy
/// with other things.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);
