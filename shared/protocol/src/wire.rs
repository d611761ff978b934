//! Compact MessagePack between services: structs are arrays, so new fields go last, with a default.

use serde::{Serialize, de::DeserializeOwned};

/// Deepest nesting that is read.
pub const DEPTH_MAX: usize = 32;

/// Why bytes are not the message they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("malformed message: {0}")]
    Malformed(String),
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
}

/// Encodes a message of ours; our types can't fail to encode.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("internal messages have no type that MessagePack lacks")
}

/// Decodes exactly one message: trailing bytes, nesting beyond [`DEPTH_MAX`] and lengths beyond the input are errors,
/// and a declared length allocates nothing by itself.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let message = T::deserialize(&mut deserializer).map_err(|error| WireError::Malformed(error.to_string()))?;
    if rest.is_empty() { Ok(message) } else { Err(WireError::Trailing(rest.len())) }
}
