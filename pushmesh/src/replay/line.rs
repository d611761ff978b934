//! One line of a replayed file.

use pushmesh_proto::v1::LoginEvent;
use serde::Deserialize;

/// Longest line, in bytes.
pub const LINE_MAX_BYTES: usize = 64 * 1024;

/// A login record as it is reported; what is wrong with its ids is for login-ingest to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub user: String,
    pub device: String,
    pub login_id: String,
    pub event: LoginEvent,
    /// When it happened, where the line says so in a way that may be reported.
    pub at_ms: Option<u64>,
    /// When it happened, for the pace.
    pub pace_ms: Option<u64>,
}

/// Both formats: `{"user", "event", …}`, or `{"t", "type", "user", …}` of the recorded channel.
#[derive(Deserialize)]
struct Line {
    user: Option<String>,
    device: Option<String>,
    login_id: Option<String>,
    event: Option<String>,
    at_ms: Option<u64>,
    t: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// `None` for a line of another type (somebody talked); an error names the field.
pub fn parse(text: &str) -> Result<Option<Record>, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| format!("no record: {error}"))?;
    let recorded = line.event.is_none();
    let Some(event) = line.event.or(line.kind) else {
        return Err("field event: is missing; it must be online or offline".into());
    };
    let event = match event.as_str() {
        "online" => LoginEvent::Online,
        "offline" => LoginEvent::Offline,
        _ if recorded => return Ok(None),
        other => {
            let other: String = other.chars().take(32).collect();
            return Err(format!("field event: is {other:?}; it must be online or offline"));
        }
    };
    let t = match &line.t {
        None => None,
        Some(t) => Some(
            crate::demo::records::rfc3339_millis(t).ok_or("field t: is no RFC 3339 time in UTC with milliseconds")?,
        ),
    };
    Ok(Some(Record {
        user: line.user.ok_or("field user: is missing")?,
        device: line.device.unwrap_or_default(),
        login_id: line.login_id.unwrap_or_default(),
        event,
        at_ms: line.at_ms,
        pace_ms: line.at_ms.or(t),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_formats() {
        let own = parse(r#"{"user":"a","device":"d","event":"offline","login_id":"l","at_ms":7}"#).unwrap().unwrap();
        assert_eq!((own.event, own.at_ms, own.pace_ms), (LoginEvent::Offline, Some(7), Some(7)));
        let recorded = r#"{"t":"2004-12-25T00:05:00.000Z","group":"g","type":"online","user":"u","org":"net/x"}"#;
        let recorded = parse(recorded).unwrap().unwrap();
        assert_eq!((recorded.event, recorded.at_ms), (LoginEvent::Online, None));
        assert_eq!(recorded.pace_ms, Some(1_103_933_100_000));
        assert_eq!(parse(r#"{"t":"2004-12-25T00:05:00.000Z","type":"message","user":"u","text":"hi"}"#), Ok(None));
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        for (text, field) in [
            ("{", "no record"),
            ("[]", "no record"),
            ("{}", "field event"),
            (r#"{"event":"gone","user":"a"}"#, "field event"),
            (r#"{"event":"online"}"#, "field user"),
            (r#"{"type":"online","user":"a","t":"yesterday"}"#, "field t"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(field), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
