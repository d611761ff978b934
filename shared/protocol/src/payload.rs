//! Bytes that the mesh carries and does not read.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Opaque bytes of an application: `bin` in MessagePack; in JSON a string where they are UTF-8 without control characters
/// (tab and line ends aside), else `{"base64": "…"}`.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    // Contents never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        // JSON writes a control character in six bytes: as text, a push of the longest data would pass a frame's limit.
        let is_binary = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r');
        match std::str::from_utf8(&self.0) {
            Ok(text) if !self.0.iter().any(is_binary) => serializer.serialize_str(text),
            _ => serializer.collect_map([("base64", STANDARD.encode(&self.0))]),
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes, a string, or {\"base64\": string}")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(Bytes::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Payload, E> {
                Ok(bytes.into())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Payload, E> {
                Ok(text.into())
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
                match map.next_entry::<String, String>()? {
                    Some((key, value)) if key == "base64" => {
                        let bytes = STANDARD.decode(value).map_err(|_| de::Error::custom("base64 is malformed"))?;
                        Ok(bytes.into())
                    }
                    _ => Err(de::Error::custom("an object here must have the one key base64")),
                }
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_json_bytes_at_most_double_whatever_they_are() {
        for byte in 0..=u8::MAX {
            let payload = Payload::from(vec![byte; 16_384]);
            let json = serde_json::to_vec(&payload).unwrap();
            assert!(json.len() <= 2 * 16_384 + 2, "{} bytes of JSON for bytes of {byte}", json.len());
            assert_eq!(serde_json::from_slice::<Payload>(&json).unwrap(), payload);
        }
    }
}
