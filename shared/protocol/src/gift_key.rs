//! [`GiftKey`]: what makes a gift one gift, however often it is said.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{TextVisitor, Token};

/// A gift's idempotency key: a UUID of version 7 (RFC 9562), 36 characters, lower case. It says when it was made.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct GiftKey(Token);

/// The text is no [`GiftKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID of version 7, such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct GiftKeyError;

impl GiftKey {
    /// Upper case is taken for lower case: it is the same key.
    pub fn new(text: &str) -> Result<Self, GiftKeyError> {
        let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        let fits = |(at, byte): (usize, u8)| if is_dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
        let bytes = text.as_bytes();
        if bytes.len() != 36 || !bytes.iter().copied().enumerate().all(fits) {
            return Err(GiftKeyError);
        }
        if bytes[14] != b'7' || !matches!(bytes[19], b'8' | b'9' | b'a' | b'b' | b'A' | b'B') {
            return Err(GiftKeyError);
        }
        Token::new(&text.to_ascii_lowercase()).map(Self).map_err(|_| GiftKeyError)
    }

    /// When it was made: milliseconds since 1970.
    pub fn at(&self) -> u64 {
        let text = self.0.as_str();
        u64::from_str_radix(&format!("{}{}", &text[..8], &text[9..13]), 16).expect("checked when it was made")
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for GiftKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GiftKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GiftKey({self})")
    }
}

impl FromStr for GiftKey {
    type Err = GiftKeyError;
    fn from_str(text: &str) -> Result<Self, GiftKeyError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for GiftKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gift_key_is_a_uuid_of_version_7_and_knows_its_time() {
        let key = GiftKey::new("018CC251-F400-7000-8000-000000000001").unwrap();
        assert_eq!(key.as_str(), "018cc251-f400-7000-8000-000000000001");
        assert_eq!(key.at(), 1_704_067_200_000);
        for bad in [
            "",
            "018cc251-f400-4000-8000-000000000001",
            "018cc251f40070008000000000000001",
            "018cc251-f400-7000-c000-000000000001",
        ] {
            assert_eq!(GiftKey::new(bad), Err(GiftKeyError), "{bad:?}");
        }
    }
}
