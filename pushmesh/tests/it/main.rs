//! The binary, as somebody at a terminal meets it.

#![allow(clippy::unwrap_used)]

mod command;
mod help;
mod offline;
mod up;
