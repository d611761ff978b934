//! What backends ask by gRPC. `Calls` is the engine's own.

pub mod directory;
