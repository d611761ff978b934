//! One file for each consumed message: what it means for the desk.

pub mod ack;
pub mod order;
pub mod session;
