//! Durations as people write them: `"5s"`, `"250ms"`, `"1m 30s"`.
//!
//! On a field: `#[serde(with = "pushmesh_config::duration")] #[schemars(with = "pushmesh_config::DurationText")]`;
//! for an `Option<Duration>` the module [`option`] and `Option<pushmesh_config::DurationText>`.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

const UNITS: [(&str, u128); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];
const DAY: u128 = 24 * 3_600 * 1_000_000_000;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration; expected a number with a unit (ns, us, ms, s, m, h, d), like \"5s\" or \"1m 30s\"")]
pub struct DurationError {
    text: String,
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError { text: text.chars().take(64).collect() };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u128 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = rest[digits..].trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let unit = match &after[..letters] {
            "d" => DAY,
            name => UNITS.iter().find(|(known, _)| *known == name).ok_or_else(wrong)?.1,
        };
        total = number.checked_mul(unit).and_then(|nanos| total.checked_add(nanos)).ok_or_else(wrong)?;
        rest = after[letters..].trim_start();
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| wrong())?;
    Ok(Duration::new(seconds, (total % 1_000_000_000) as u32))
}

/// Writes a duration so that [`parse`] reads the same one: in the biggest unit that divides it.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (name, unit) =
        UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(*unit)).expect("everything divides by 1 ns");
    format!("{}{name}", nanos / unit)
}

pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Visitor)
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Duration;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration like \"5s\"")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// The schema of a duration.
#[derive(Debug)]
pub struct DurationText;

impl schemars::JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^(0|(\\s*[0-9]+\\s*(ns|us|ms|s|m|h|d)\\s*)+)$", "examples": ["5s", "250ms", "2m"]})
    }
}

/// The same for an `Option<Duration>`.
pub mod option {
    use super::{Deserializer, Duration, Serializer, de, fmt};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_option(Visitor)
    }

    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Option<Duration>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration like \"5s\", or nothing")
        }
        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
