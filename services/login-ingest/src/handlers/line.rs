//! NDJSON: bytes into lines, a line into a record, an answer into a line. Pure.

use pushmesh_protocol::message::Millis;
use serde::{Deserialize, Serialize};

use crate::{
    answers::Answer,
    record::{self, Checked, Field, Refused, Told},
};

/// Longest line, in bytes without its end.
pub const LINE_MAX_BYTES: usize = 4096;

/// Cuts a body into lines whatever its chunks are, and never holds more than one line of the longest length.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    /// Bytes of the line so far, those not held included.
    bytes: usize,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Vec<u8>),
    /// With its length, in bytes.
    TooLong(usize),
}

impl Lines {
    /// The next line that ends in `chunk`; takes what it reads off the front. `None`: all of `chunk` is read.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Option<Line> {
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        self.bytes += part.len();
        if self.bytes <= LINE_MAX_BYTES + 1 {
            self.held.extend_from_slice(part);
        }
        *chunk = &chunk[end.map_or(chunk.len(), |end| end + 1)..];
        end.map(|_| self.take())
    }

    /// What stands after the last line's end, if anything.
    pub fn finish(mut self) -> Option<Line> {
        (self.bytes > 0).then(|| self.take())
    }

    fn take(&mut self) -> Line {
        let mut held = std::mem::take(&mut self.held);
        let mut bytes = std::mem::take(&mut self.bytes);
        if held.len() == bytes && held.last() == Some(&b'\r') {
            held.pop();
            bytes -= 1;
        }
        if bytes > LINE_MAX_BYTES { Line::TooLong(bytes) } else { Line::Whole(held) }
    }
}

/// A record as people write it. Everything may be absent here: what must not be is refused by its own field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    login_id: Option<String>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    at_ms: Option<Millis>,
}

/// `None` for a line with nothing on it: it has no answer.
pub fn check(
    line: &Line,
    now: Millis,
    mint: impl FnOnce() -> pushmesh_protocol::LoginId,
) -> Option<Result<Checked, Refused>> {
    let text = match line {
        Line::TooLong(bytes) => {
            let reason = format!("has {bytes} bytes; the limit is {LINE_MAX_BYTES}");
            return Some(Err(Refused { field: Field::Line, reason }));
        }
        Line::Whole(text) if text.iter().all(u8::is_ascii_whitespace) => return None,
        Line::Whole(text) => text,
    };
    Some(parse(text).and_then(|written| {
        let told = Told {
            user: written.user.as_deref().unwrap_or_default(),
            device: written.device.as_deref().unwrap_or_default(),
            login_id: written.login_id.as_deref().unwrap_or_default(),
            event: record::event_named(written.event.as_deref().unwrap_or_default()),
            at: written.at_ms.unwrap_or_default(),
        };
        record::check(&told, now, mint)
    }))
}

fn parse(text: &[u8]) -> Result<Written, Refused> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let written = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = Field::of_line(&error.path().to_string());
        Refused { field, reason: format!("is malformed: {}", error.inner()) }
    })?;
    json.end().map_err(|error| Refused { field: Field::Line, reason: format!("is malformed: {error}") })?;
    Ok(written)
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<UnknownLine<'a>>,
}

#[derive(Debug, Serialize)]
struct AcceptedLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    login_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct RefusedLine<'a> {
    field: &'a str,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct UnknownLine<'a> {
    reason: &'a str,
    retry_after_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_id: Option<&'a str>,
}

/// Writes the answer of line `number` behind what `out` holds.
pub fn write(number: u64, answer: &Answer, out: &mut Vec<u8>) {
    let mut answered = Answered { line: number, accepted: None, refused: None, unknown: None };
    match answer {
        Answer::Accepted { login_id } => {
            answered.accepted = Some(AcceptedLine { login_id: login_id.as_ref().map(|id| id.as_str()) });
        }
        Answer::Refused(Refused { field, reason }) => {
            answered.refused = Some(RefusedLine { field: field.name(), reason });
        }
        Answer::Unknown { reason, retry_after, login_id } => {
            answered.unknown = Some(UnknownLine {
                reason,
                retry_after_ms: retry_after.as_millis() as u64,
                login_id: login_id.as_ref().map(|id| id.as_str()),
            });
        }
    }
    write_line(&answered, out);
}

/// Why reading stopped before the body's end.
#[derive(Debug, Serialize)]
pub struct Stopped {
    /// The last line that was read: those after it were not taken.
    pub after_line: u64,
    pub reason: String,
    pub retry_after_ms: u64,
}

/// Writes the last line of an answer that does not cover its whole body.
pub fn write_stopped(stopped: &Stopped, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Last<'a> {
        stopped: &'a Stopped,
    }
    write_line(&Last { stopped }, out);
}

fn write_line(line: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, line).expect("texts and numbers can be written to memory");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pushmesh_protocol::LoginId;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::default();
        let mut found = vec![];
        for mut chunk in chunks.iter().copied() {
            while let Some(line) = lines.next(&mut chunk) {
                found.push(line);
            }
            assert!(chunk.is_empty());
        }
        found.extend(lines.finish());
        found
    }

    fn checked(text: &[u8]) -> Result<Checked, Refused> {
        check(&Line::Whole(text.to_vec()), 1_700_000_000_000, || LoginId::new("minted").unwrap()).unwrap()
    }

    #[test]
    fn lines_end_where_they_end_whatever_the_chunks() {
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(cut(&[b"ab\r\nc", b"d\n", b"\n", b"e"]), [whole("ab"), whole("cd"), whole(""), whole("e")]);
        assert_eq!(cut(&[b""]), []);
    }

    #[test]
    fn a_long_line_is_counted_not_held() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            assert_eq!(lines.next(&mut &[b'x'; 1000][..]), None);
            assert!(lines.held.len() <= LINE_MAX_BYTES + 1);
        }
        assert_eq!(lines.next(&mut &b"\nnext\n"[..]), Some(Line::TooLong(1_000_000)));
        let exactly = [&[b'x'; LINE_MAX_BYTES][..], b"\r\n"].concat();
        assert!(matches!(&cut(&[&exactly])[..], [Line::Whole(line)] if line.len() == LINE_MAX_BYTES));
    }

    #[test]
    fn a_bad_line_is_refused_by_its_field() {
        let deep = "[".repeat(2000);
        let cases: &[(&str, Field, &str)] = &[
            ("{", Field::Line, "EOF"),
            ("nonsense", Field::Line, "expected"),
            ("[1]", Field::Line, "expected"),
            (&deep, Field::Line, "is malformed"),
            (r#"{"user":5,"event":"online"}"#, Field::User, "expected a string"),
            (r#"{"user":"a","event":"online","at_ms":-1}"#, Field::At, "expected u64"),
            (r#"{"user":"a","event":"online","device":{"a":[]}}"#, Field::Device, "expected a string"),
            (r#"{"user":"a","event":"online","more":1}"#, Field::Line, "unknown field `more`"),
            (r#"{"user":"a","user":"b","event":"online"}"#, Field::Line, "duplicate field `user`"),
            (r#"{"user":"a","event":"online"} {}"#, Field::Line, "trailing"),
            (r#"{"event":"online"}"#, Field::User, "is empty"),
            (r#"{"user":"a"}"#, Field::Event, "neither online nor offline"),
            (r#"{"user":"a","event":"ONLINE"}"#, Field::Event, "neither online nor offline"),
            (r#"{"user":"a\u0000","event":"online"}"#, Field::User, "'\\0'"),
        ];
        for (text, field, reason) in cases {
            let refused = checked(text.as_bytes()).unwrap_err();
            assert!(refused.reason.contains(reason), "{text:.80} should be refused with {reason}: {refused:?}");
            assert_eq!(refused.field, *field, "{text:.80}: {refused:?}");
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        let mut out = vec![];
        write(3, &Answer::Accepted { login_id: Some(LoginId::new("l").unwrap()) }, &mut out);
        write(4, &Answer::Refused(checked(br#"{"user":"a.b","event":"online"}"#).unwrap_err()), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (first, second) = text.trim_end().split_once('\n').unwrap();
        assert_eq!(first, r#"{"line":3,"accepted":{"login_id":"l"}}"#);
        assert!(second.starts_with(r#"{"line":4,"refused":{"field":"user","reason":"has '.' at byte 1"#), "{second}");
    }

    proptest! {
        #[test]
        fn cutting_does_not_depend_on_the_chunks(text: Vec<u8>, at in 0usize..100) {
            let (left, right) = text.split_at(at.min(text.len()));
            prop_assert_eq!(cut(&[left, right]), cut(&[&text]));
        }

        #[test]
        fn no_line_panics(text: Vec<u8>) {
            let _ = check(&Line::Whole(text), 0, || LoginId::new("minted").unwrap());
        }
    }
}
