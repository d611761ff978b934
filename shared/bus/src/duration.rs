//! Durations in configuration: "250ms", "5s", "2m".

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_millis() == 0 {
        serializer.collect_str(&format_args!("{}s", duration.as_secs()))
    } else {
        serializer.collect_str(&format_args!("{}ms", duration.as_millis()))
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let count = digits.parse::<u64>().ok();
    let duration = match (count, unit) {
        (Some(count), "ms") => Some(Duration::from_millis(count)),
        (Some(count), "s") => Some(Duration::from_secs(count)),
        (Some(count), "m") => Some(Duration::from_secs(count.saturating_mul(60))),
        (Some(count), "h") => Some(Duration::from_secs(count.saturating_mul(3600))),
        _ => None,
    };
    duration.ok_or_else(|| de::Error::custom(format!("{text:?} is no duration such as \"250ms\", \"5s\" or \"2m\"")))
}
