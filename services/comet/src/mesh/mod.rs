//! The comet's side towards the mesh, on the main runtime: what shards ask is answered here, what the bus brings is sorted
//! to the shards. Each file is one task (or a pool of them) with one queue.

pub mod acks;
pub mod deliver;
pub mod fence;
pub mod goodbye;
pub mod login;
pub mod question;
pub mod report;
pub mod reput;
pub mod rooms;
pub mod session;
pub mod status;
pub mod whereabouts;
