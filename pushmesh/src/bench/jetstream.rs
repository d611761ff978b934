//! The floor of the login path: what the same nats-server stores of the simplest kind of message.
//!
//! 128 bytes each, with a message id, 2,000 in flight, into a stream of its own on file. Spoken to in NATS' own protocol
//! over one connection, so that next to nothing of the machine goes into the publisher.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

pub const PAYLOAD_BYTES: usize = 128;
pub const IN_FLIGHT: usize = 2000;
/// The floor's own: no mesh has such a stream.
const STREAM: &str = "BENCH_FLOOR";
const SUBJECT: &str = "bench.floor";
const INBOX: &str = "_INBOX.benchfloor";
/// Nothing answers later than this.
const SILENCE: Duration = Duration::from_secs(20);

/// Messages that are stored in a second, measured over a window.
pub async fn publish_per_s(url: &str, window: Duration) -> anyhow::Result<f64> {
    let address = url.trim_start_matches("nats://").to_owned();
    let measured = tokio::task::spawn_blocking(move || measure(&address, window)).await;
    measured.context("the floor's publisher panicked")?.context("can't measure the JetStream floor")
}

fn measure(address: &str, window: Duration) -> anyhow::Result<f64> {
    let mut link = Link::connect(address)?;
    let config = format!(
        r#"{{"name":"{STREAM}","subjects":["{SUBJECT}"],"retention":"limits","storage":"file","num_replicas":1,"max_bytes":1073741824,"discard":"old","duplicate_window":120000000000}}"#
    );
    link.ask(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &config)?;
    let measured = link.pipeline(window);
    link.ask(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "")?;
    measured
}

/// A connection to the server.
struct Link {
    stream: TcpStream,
    replies: Replies,
}

impl Link {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("nats-server at {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut link = Self { stream, replies: Replies::default() };
        let hello = format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true}}\r\nSUB {INBOX} 1\r\n");
        link.stream.write_all(hello.as_bytes())?;
        Ok(link)
    }

    fn ask(&mut self, subject: &str, body: &str) -> anyhow::Result<()> {
        self.stream.write_all(format!("PUB {subject} {INBOX} {}\r\n{body}\r\n", body.len()).as_bytes())?;
        while self.read()? == 0 {}
        Ok(())
    }

    /// Keeps so many in flight for the window; those stored in it, a second.
    fn pipeline(&mut self, window: Duration) -> anyhow::Result<f64> {
        let payload = "x".repeat(PAYLOAD_BYTES);
        let (mut said, mut stored, mut text) = (0_u64, 0_u64, String::new());
        let begun = Instant::now();
        let mut elapsed = Duration::ZERO;
        while elapsed < window {
            text.clear();
            while said - stored < IN_FLIGHT as u64 {
                publish(&mut text, said, &payload);
                said += 1;
            }
            self.stream.write_all(text.as_bytes())?;
            stored += self.read()?;
            elapsed = begun.elapsed();
        }
        let per_s = stored as f64 / elapsed.as_secs_f64();
        while stored < said {
            stored += self.read()?;
        }
        Ok(per_s)
    }

    /// Waits for more of what the server says; how many answers are in it.
    fn read(&mut self) -> anyhow::Result<u64> {
        let mut buffer = [0; 64 * 1024];
        let read = self.stream.read(&mut buffer).context("the nats-server is silent")?;
        if read == 0 {
            bail!("the nats-server closed the connection");
        }
        let heard = self.replies.take(&buffer[..read])?;
        if heard.pings > 0 {
            self.stream.write_all("PONG\r\n".repeat(heard.pings).as_bytes())?;
        }
        Ok(heard.answers)
    }
}

fn publish(text: &mut String, number: u64, payload: &str) {
    let headers = format!("NATS/1.0\r\nNats-Msg-Id: floor-{number}\r\n\r\n");
    let (head, all) = (headers.len(), headers.len() + payload.len());
    write!(text, "HPUB {SUBJECT} {INBOX} {head} {all}\r\n{headers}{payload}\r\n").expect("a String takes everything");
}

/// What the server says, as far as it is not taken apart yet.
#[derive(Default)]
struct Replies {
    pending: Vec<u8>,
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    answers: u64,
    pings: usize,
}

impl Replies {
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<Heard> {
        self.pending.extend_from_slice(bytes);
        let (mut heard, mut at) = (Heard::default(), 0);
        while let Some(length) = self.pending[at..].windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&self.pending[at..at + length]).into_owned();
            let body = at + length + 2;
            let mut next = body;
            if line.starts_with("MSG ") {
                let size: usize = line.rsplit(' ').next().and_then(|size| size.parse().ok()).context("a MSG's size")?;
                next = body + size + 2;
                if self.pending.len() < next {
                    break;
                }
                let answer = &self.pending[body..body + size];
                if answer.windows(8).any(|part| part == b"\"error\":") {
                    bail!("the nats-server answered {}", String::from_utf8_lossy(answer));
                }
                heard.answers += 1;
            } else if line == "PING" {
                heard.pings += 1;
            } else if line.starts_with("-ERR") || line.starts_with("HMSG ") {
                bail!("the nats-server said {line}");
            }
            at = next;
        }
        self.pending.drain(..at);
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_wherever_they_are_cut() {
        let text = "INFO {}\r\nMSG _INBOX.x 1 5\r\n{\"a\"}\r\nPING\r\nMSG _INBOX.x 1 4\r\n{\r\n}\r\n".as_bytes();
        for cut in 0..text.len() {
            let mut replies = Replies::default();
            let (one, other) = (replies.take(&text[..cut]).unwrap(), replies.take(&text[cut..]).unwrap());
            assert_eq!((one.answers + other.answers, one.pings + other.pings), (2, 1), "cut at {cut}");
        }
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refusal = "MSG _INBOX.x 1 14\r\n{\"error\":{\"x\"}\r\n";
        assert!(Replies::default().take(refusal.as_bytes()).unwrap_err().to_string().contains("error"));
        assert!(Replies::default().take(b"-ERR 'no'\r\n").is_err());
    }

    #[test]
    fn a_publish_says_its_lengths() {
        let mut text = String::new();
        publish(&mut text, 7, "xyz");
        assert_eq!(text, "HPUB bench.floor _INBOX.benchfloor 34 37\r\nNATS/1.0\r\nNats-Msg-Id: floor-7\r\n\r\nxyz\r\n");
    }
}
