//! The records that a demo replays: one JSON object a line, plain or gzipped.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, bail};
use pushmesh_protocol::{Token, Unit, UserId};
use serde::Deserialize;

/// Three days of a channel, shipped with the program; see `data/README.md` for their source and licence.
const SLICE: &[u8] = include_bytes!("../../data/ubuntu-irc-slice.ndjson.gz");

/// One line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// RFC 3339, UTC, with milliseconds.
    #[serde(rename = "t", deserialize_with = "millis")]
    pub at_ms: u64,
    #[serde(rename = "type")]
    pub event: Event,
    pub user: UserId,
    pub group: Token,
    /// A path of domains, on some `online` records.
    #[serde(default)]
    pub org: Option<Unit>,
    /// The conversation of a message, where annotated.
    #[serde(default)]
    pub discussion: Option<Token>,
    #[serde(default)]
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    Online,
    Offline,
    Message,
}

/// Reads the shipped slice, or another file of the same format.
pub fn read(file: Option<&Path>) -> anyhow::Result<Vec<Record>> {
    match file {
        None => parse(SLICE, "the shipped records"),
        Some(path) => {
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .with_context(|| format!("can't read {}", path.display()))?;
            parse(&bytes, &path.display().to_string())
        }
    }
}

fn parse(bytes: &[u8], name: &str) -> anyhow::Result<Vec<Record>> {
    let reader: Box<dyn Read> = if bytes.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    };
    let mut records: Vec<Record> = Vec::new();
    for (index, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.with_context(|| format!("{name}: line {}", index + 1))?;
        let record: Record = serde_json::from_str(&line).with_context(|| format!("{name}: line {}", index + 1))?;
        if records.last().is_some_and(|before| before.at_ms > record.at_ms) {
            bail!("{name}: line {}: field t goes back in time; records must be in time order", index + 1);
        }
        records.push(record);
    }
    if records.is_empty() {
        bail!("{name} holds no record");
    }
    Ok(records)
}

fn millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    rfc3339_millis(&text)
        .ok_or_else(|| serde::de::Error::custom(format_args!("t is no RFC 3339 time in UTC: {text:?}")))
}

/// `2004-12-25T00:05:00.000Z` as milliseconds since 1970; `None` for another form.
pub(crate) fn rfc3339_millis(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let fixed = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, "."), (23, "Z")];
    if text.len() != 24 || fixed.iter().any(|(at, mark)| text.get(*at..*at + 1) != Some(*mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let in_day = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days_since_1970(year, month, day) * 86_400 + in_day) * 1000 + number(20, 23)?)
}

// Days from civil, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_slice_is_whole() {
        let records = read(None).unwrap();
        let count = |event| records.iter().filter(|record| record.event == event).count();
        assert_eq!((records.len(), count(Event::Online), count(Event::Offline)), (5686, 1137, 230));
        assert_eq!(records.iter().filter(|record| record.org.is_some()).count(), 806);
    }

    #[test]
    fn times_are_read_exactly() {
        assert_eq!(rfc3339_millis("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(rfc3339_millis("2004-12-25T00:05:00.050Z"), Some(1_103_933_100_050));
        assert_eq!(rfc3339_millis("2004-02-29T23:59:59.999Z"), Some(1_078_099_199_999));
        for bad in ["", "2004-12-25 00:05:00.050Z", "2004-12-25T00:05:00Z", "2004-13-25T00:05:00.050Z"] {
            assert_eq!(rfc3339_millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = |text: &str| format!("{:#}", parse(text.as_bytes(), "file").unwrap_err());
        let good = r#"{"t":"2004-12-25T00:05:00.000Z","type":"online","user":"u","group":"g"}"#;
        assert!(error(&format!("{good}\n{{")).starts_with("file: line 2"));
        assert!(error(&good.replace("\"u\"", "\"a.b\"")).contains("has '.' at byte 1"));
        assert!(error(&format!("{good}\n{}", good.replace("2004", "2003"))).contains("back in time"));
        assert!(error("").contains("holds no record"));
    }
}
