//! W3C trace context, as it travels in payloads and headers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The context of a sampled span. An unsampled one does not travel: it costs no byte.
///
/// As text it is a `traceparent` (W3C Trace Context, version 00, flag 01).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
}

/// Not a sampled `traceparent` of version 00.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no traceparent of a sampled span")]
pub struct TraceContextError;

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace_id, self.span_id)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceContext {
    type Err = TraceContextError;
    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().ok_or(TraceContextError)?;
            let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if part.len() == digits && part.bytes().all(lower) {
                u128::from_str_radix(part, 16).map_err(|_| TraceContextError)
            } else {
                Err(TraceContextError)
            }
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        if version == 0xff || trace_id == 0 || span_id == 0 || flags & 1 == 0 {
            return Err(TraceContextError);
        }
        Ok(Self { trace_id, span_id: span_id as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_w3c_example() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), text);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }
}
