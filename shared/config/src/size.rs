//! Sizes in bytes as people write them: `"64MiB"`, `"4 KiB"`, or a plain number of bytes.
//!
//! On a field of any unsigned type: `#[serde(with = "pushmesh_config::size")] #[schemars(with = "pushmesh_config::SizeText")]`.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{Deserializer, Serializer, de};

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no size; expected bytes, or a whole number with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB), like \"64MiB\""
)]
pub struct SizeError {
    text: String,
}

/// Reads a size in bytes.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let wrong = || SizeError { text: text.chars().take(64).collect() };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let number: u64 = trimmed[..digits].parse().map_err(|_| wrong())?;
    let unit = match trimmed[digits..].trim_start() {
        "" => 1,
        name => UNITS.iter().find(|(known, _)| *known == name).ok_or_else(wrong)?.1,
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Writes a size so that [`parse`] reads the same one: in the biggest binary unit that divides it.
pub fn format(bytes: u64) -> String {
    let binary = UNITS.iter().rev().filter(|(name, _)| name.ends_with("iB") || *name == "B");
    match bytes {
        0 => "0B".to_owned(),
        _ => {
            let (name, unit) =
                binary.clone().find(|(_, unit)| bytes.is_multiple_of(*unit)).expect("everything divides by 1");
            format!("{}{name}", bytes / unit)
        }
    }
}

pub fn serialize<T: Copy + TryInto<u64>, S: Serializer>(size: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: u64 = (*size).try_into().map_err(|_| serde::ser::Error::custom("a size beyond 2^64 bytes"))?;
    serializer.serialize_str(&format(bytes))
}

pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Visitor(PhantomData))
}

struct Visitor<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<T> {
    fn fit<E: de::Error>(bytes: u64) -> Result<T, E> {
        T::try_from(bytes).map_err(|_| E::custom(format!("{bytes} bytes are more than this field can hold")))
    }
}

impl<T: TryFrom<u64>> de::Visitor<'_> for Visitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size like \"64MiB\", or a number of bytes")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        parse(text).map_err(E::custom).and_then(Self::fit)
    }
    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<T, E> {
        Self::fit(bytes)
    }
    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<T, E> {
        u64::try_from(bytes).map_err(|_| E::custom("a size can't be negative")).and_then(Self::fit)
    }
}

/// The schema of a size.
#[derive(Debug)]
pub struct SizeText;

impl schemars::JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^\\s*[0-9]+\\s*(B|kB|KB|KiB|MB|MiB|GB|GiB|TiB)?\\s*$"}
            ],
            "examples": ["64MiB"]
        })
    }
}
