//! Reads lines on a thread of its own and lets them out at their pace.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::line::{LINE_MAX_BYTES, Record, parse};

/// Lines that are read ahead.
const AHEAD: usize = 512;
/// Longer gaps are cut to this, before the speed counts.
const GAP_MAX: Duration = Duration::from_secs(1);

/// One line that was read.
pub struct Read {
    /// The first is 1.
    pub line: u64,
    pub record: Result<Option<Record>, String>,
}

/// Opens `file` and starts to read it; with a speed, records come as far apart as they happened.
pub fn start(file: &str, speed: Option<f64>) -> anyhow::Result<mpsc::Receiver<Read>> {
    let reader: Box<dyn io::Read + Send> = match file {
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(path).with_context(|| format!("can't read {path}"))?),
    };
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let gzipped = reader.fill_buf().with_context(|| format!("can't read {file}"))?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn BufRead + Send> =
        if gzipped { Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(reader))) } else { Box::new(reader) };
    let (out, lines) = mpsc::channel(AHEAD);
    // Not a task: standard input may block for ever, and the runtime must end all the same.
    std::thread::spawn(move || read(reader, &out));
    let Some(speed) = speed else { return Ok(lines) };
    let (out, paced) = mpsc::channel(1);
    tokio::spawn(pace(lines, out, speed));
    Ok(paced)
}

fn read(mut reader: impl BufRead, out: &mpsc::Sender<Read>) {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let limit = LINE_MAX_BYTES as u64 + 1;
        let record = match reader.by_ref().take(limit).read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) if bytes.len() > LINE_MAX_BYTES => match skip_line(&mut reader) {
                Ok(()) => Err(format!("longer than {LINE_MAX_BYTES} bytes")),
                Err(error) => Err(error.to_string()),
            },
            Ok(_) if bytes.trim_ascii().is_empty() => continue,
            Ok(_) => std::str::from_utf8(&bytes).map_err(|error| error.to_string()).and_then(parse),
            Err(error) => {
                // What can't be read can't be read on. Nobody left to hear it: then it doesn't matter.
                let _unheard = out.blocking_send(Read { line, record: Err(error.to_string()) });
                return;
            }
        };
        if out.blocking_send(Read { line, record }).is_err() {
            return;
        }
    }
}

/// Reads up to the end of a line without keeping it.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (used, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if ended {
            return Ok(());
        }
    }
}

async fn pace(mut lines: mpsc::Receiver<Read>, out: mpsc::Sender<Read>, speed: f64) {
    let mut due = Instant::now();
    let mut before: Option<u64> = None;
    while let Some(read) = lines.recv().await {
        if let Ok(Some(Record { pace_ms: Some(at), .. })) = &read.record {
            let gap = Duration::from_millis(at.saturating_sub(before.unwrap_or(*at))).min(GAP_MAX);
            due += gap.div_f64(speed);
            before = Some(*at);
            sleep_until(due).await;
        }
        if out.send(read).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<(u64, bool)> {
        let (out, mut lines) = mpsc::channel(64);
        read(text, &out);
        drop(out);
        std::iter::from_fn(|| lines.try_recv().ok()).map(|read| (read.line, read.record.is_ok())).collect()
    }

    #[test]
    fn a_bad_line_spoils_no_other() {
        let good = r#"{"user":"a","event":"online"}"#;
        let long = "x".repeat(LINE_MAX_BYTES * 3);
        let text = format!("{good}\n\n{{\n{long}\n{good}");
        assert_eq!(all(text.as_bytes()), [(1, true), (3, false), (4, false), (5, true)]);
        assert_eq!(all(b"\xff\n"), [(1, false)]);
        assert_eq!(all(b""), []);
    }
}
