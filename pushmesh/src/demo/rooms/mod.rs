//! The demo's rooms: real chat, gifts and a storm of likes, watched by thousands of clients and by an oracle.
//!
//! [`schedule`] lays the evening out, [`audience`] is the child process that holds [`viewer`]s, [`door`] speaks to api as a
//! backend does, [`evening`] carries the schedule out, and [`oracle`] says what everybody had to see.

pub mod audience;
mod door;
mod evening;
mod oracle;
mod schedule;
mod viewer;

pub use door::{Door, Present};
pub use evening::{Evening, Outcome};
pub use oracle::Judgement;
pub use schedule::{Line, Schedule, schedule};
