//! Who says the messages: in a room's owner's stead to pushmesh, and to each peer in its own protocol.
//!
//! One connection, spoken to directly, so that little of the machine goes into saying.

use std::{fmt::Write as _, io::ErrorKind, net::SocketAddr, ops::Range};

use anyhow::{Context, bail};
use pushmesh_protocol::{Partitions, RoomId, name::Subject};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::frames::{self, PAYLOAD_BYTES, Protocol, TOPIC, mqtt, mqtt_text};
use crate::bench::{latency::Latencies, machine, schedule::Schedule};

/// Most messages of a room's batch: whoever comes late does not come with megabytes.
const BATCH_MAX: u64 = 256;

pub struct Publisher {
    stream: TcpStream,
    to: To,
    /// The number of the next message.
    pub next: u64,
}

/// Whom the messages are for.
#[derive(Debug, Clone)]
pub enum To {
    Room(RoomId, Partitions),
    Peer(Protocol),
}

impl Publisher {
    /// `address` is the NATS server's for a room, else the peer's.
    pub async fn connect(address: SocketAddr, to: To) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await.with_context(|| format!("publish to {address}"))?;
        stream.set_nodelay(true)?;
        let hello = match to {
            To::Room(..) | To::Peer(Protocol::Nats) => b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_vec(),
            To::Peer(Protocol::Mqtt) => mqtt(0x10, &[&mqtt_text("MQTT")[..], &[4, 2, 0, 0], &mqtt_text("")].concat()),
            To::Peer(_) => Vec::new(),
        };
        stream.write_all(&hello).await?;
        Ok(Self { stream, to, next: 0 })
    }

    /// Says so many messages, all together.
    pub async fn say(&mut self, count: u64) -> anyhow::Result<()> {
        self.hear()?;
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let bytes = self.bytes(numbers);
        self.stream.write_all(&bytes).await.context("the server takes no messages")
    }

    /// Says messages when they are due; how late it was with them.
    pub async fn follow(&mut self, schedule: Schedule, count: u64) -> anyhow::Result<Latencies> {
        let (mut said, mut lag) = (0, Latencies::default());
        while said < count {
            let now = machine::now();
            let due = schedule.due(now).min(count);
            if due > said {
                lag.record(now.saturating_sub(schedule.at(said)));
                let more = (due - said).min(BATCH_MAX);
                self.say(more).await?;
                said += more;
            } else {
                sleep(schedule.at(said).saturating_sub(now)).await;
            }
        }
        Ok(lag)
    }

    fn bytes(&self, numbers: Range<u64>) -> Vec<u8> {
        let nats = |subject: &str, payload: &[u8]| {
            [format!("PUB {subject} {}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat()
        };
        match &self.to {
            To::Room(room, partitions) => {
                let subject = Subject::room_frame(partitions.of_room(room), room);
                nats(&subject.to_string(), &frames::batch(room, *partitions, numbers))
            }
            To::Peer(Protocol::Nats) => numbers.flat_map(|number| nats(TOPIC, &frames::payload(number))).collect(),
            To::Peer(Protocol::Mqtt) => {
                let packet = |number| mqtt(0x30, &[&mqtt_text(TOPIC)[..], &frames::payload(number)].concat());
                numbers.flat_map(packet).collect()
            }
            To::Peer(_) => {
                let mut head = String::new();
                let _infallible = write!(
                    head,
                    "POST /pub HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: {PAYLOAD_BYTES}\r\n\r\n"
                );
                numbers.flat_map(|number| [head.as_bytes(), &frames::payload(number)].concat()).collect()
            }
        }
    }

    /// What the server says in between: it wants to hear that we live.
    fn hear(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => bail!("the server closed the publisher's connection"),
                Ok(read) => {
                    let is_nats = !matches!(self.to, To::Peer(Protocol::Nchan | Protocol::Mqtt));
                    if is_nats && bytes[..read].windows(6).any(|six| six == b"PING\r\n") {
                        // Seven bytes: they fit wherever nothing waits.
                        let _next_time = self.stream.try_write(b"PONG\r\n");
                    }
                    if bytes[..read].starts_with(b"-ERR") || bytes[..read].starts_with(b"HTTP/1.1 4") {
                        bail!("the server refused a message: {}", String::from_utf8_lossy(&bytes[..read.min(80)]));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the publisher's connection broke"),
            }
        }
    }
}
