//! What a command prints: lines for people, or one JSON object a line.

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde::Serialize;

/// One result a line, on standard output.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// Prints a result. An error means that nobody reads (a closed pipe).
    pub fn line(self, text: impl Display, json: &impl Serialize) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, json)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{text}")?;
        }
        out.flush()
    }
}

/// Milliseconds since 1970 as `HH:MM:SS` UTC.
pub fn clock(millis: u64) -> String {
    let second = millis / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_read_off_the_clock() {
        assert_eq!(super::clock(1_103_933_100_050), "00:05:00");
    }
}
