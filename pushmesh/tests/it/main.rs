//! The binary, as somebody at a terminal meets it.

#![allow(clippy::unwrap_used)]

mod bench;
mod command;
mod demo;
mod help;
mod mesh;
mod offline;
mod rooms;
mod up;
