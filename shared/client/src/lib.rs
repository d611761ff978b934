//! The Rust client: connect, log in, reconnect, dedupe, acknowledge
