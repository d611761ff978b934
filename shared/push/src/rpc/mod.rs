//! What backends may ask of any instance of a kind: its directory and its calls. An answer means: stored.

mod calls;
pub mod check;
mod directory;
mod store;

pub use calls::CallsService;
pub use directory::{Directory, Member};
pub(crate) use store::DirectoryStore;
