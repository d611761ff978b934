//! Another team with a consumer of its own, that knows nothing of ours: the broker's protocol over a socket.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinHandle,
};

use crate::PATIENCE;

/// Where the consumer delivers, and where requests are answered.
const INBOX: &str = "of.strangers";
const ANSWER: &str = "to.strangers";

/// A durable consumer that takes everything and acknowledges nothing: what it was given comes again and again.
pub struct Stranger {
    stream: String,
    address: String,
    /// How often each message came, by subject and sequence in the stream.
    seen: Arc<Mutex<HashMap<(String, u64), usize>>>,
    reading: JoinHandle<()>,
}

impl Stranger {
    /// `url` is that of one server.
    pub async fn read(url: &str, stream: &str, filter: &str) -> Self {
        let address = url.trim_start_matches("nats://").to_owned();
        let mut wire = Wire::connect(&address).await;
        wire.say(&format!("SUB {INBOX} 2\r\n")).await;
        let config = json!({
            "durable_name": "strangers",
            "deliver_subject": INBOX,
            "deliver_policy": "all",
            "filter_subject": filter,
            "ack_policy": "explicit",
            "ack_wait": 1_000_000_000,
            "max_ack_pending": -1,
        });
        let create = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.strangers");
        wire.ask(&create, &json!({ "stream_name": stream, "config": config })).await;
        let seen: Arc<Mutex<HashMap<_, _>>> = Arc::default();
        let note = seen.clone();
        let reading = tokio::spawn(async move {
            while let Some(message) = wire.next().await {
                // $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.…
                let sequence = message.reply.split('.').nth(5).and_then(|number| number.parse().ok());
                let key = (message.subject, sequence.expect("a delivery says its sequence"));
                *note.lock().expect("nobody panics with it").entry(key).or_default() += 1;
            }
        });
        Self { stream: stream.to_owned(), address, seen, reading }
    }

    /// Of the messages whose subject contains this: how many have come, and how often all of them.
    pub fn seen(&self, part: &str) -> (usize, usize) {
        let seen = self.seen.lock().expect("nobody panics with it");
        let found: Vec<_> = seen.iter().filter(|((subject, _), _)| subject.contains(part)).collect();
        (found.len(), found.iter().map(|(_, times)| **times).sum())
    }

    /// How many the broker still waits for an acknowledgement of.
    pub async fn unacknowledged(&self) -> u64 {
        let mut wire = Wire::connect(&self.address).await;
        let info = wire.ask(&format!("$JS.API.CONSUMER.INFO.{}.strangers", self.stream), &json!({})).await;
        info["num_ack_pending"].as_u64().expect("the broker counts them")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

struct Message {
    subject: String,
    reply: String,
    payload: Vec<u8>,
}

struct Wire {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Wire {
    async fn connect(address: &str) -> Self {
        let (reader, writer) = TcpStream::connect(address).await.expect("the broker listens").into_split();
        let mut wire = Self { lines: BufReader::new(reader), writer };
        wire.say(&format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {ANSWER} 1\r\n")).await;
        wire
    }

    async fn say(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.expect("the broker reads");
    }

    /// One request to the broker itself.
    async fn ask(&mut self, subject: &str, body: &Value) -> Value {
        let body = body.to_string();
        self.say(&format!("PUB {subject} {ANSWER} {}\r\n{body}\r\n", body.len())).await;
        let answer = async {
            loop {
                let message = self.next().await.expect("the broker answers");
                if message.subject == ANSWER {
                    return message;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer of the broker");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert!(answer.get("error").is_none(), "{subject}: {answer}");
        answer
    }

    /// `None` when the connection ends.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            assert!(!line.starts_with("-ERR"), "the broker refuses: {line}");
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => self.say("PONG\r\n").await,
                // MSG <subject> <sid> [reply] <bytes>; HMSG has the bytes of its headers before those of all.
                ["MSG" | "HMSG", subject, _, .., length] => {
                    let reply = if words.len() > 4 { words[3] } else { "" };
                    let (subject, reply) = (subject.to_owned(), reply.to_owned());
                    let mut payload = vec![0; length.parse::<usize>().expect("a length") + 2];
                    self.lines.read_exact(&mut payload).await.ok()?;
                    payload.truncate(payload.len() - 2);
                    return Some(Message { subject, reply, payload });
                }
                _ => {}
            }
        }
    }
}
