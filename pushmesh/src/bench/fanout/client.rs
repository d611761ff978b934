//! One connection of the load driver: how it gets in, and how it accounts for each frame it is sent.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, bail};
use pushmesh_protocol::frame::{ClientFrame, Encoding, ErrorCode, HeartbeatProfile, Join, Login, Ping, ServerFrame};

use super::{
    frames::{self, PAYLOAD_BYTES, Protocol, TOPIC, mqtt, mqtt_text},
    manner::{Manner, framing},
    orders::{Due, Tally},
};
use crate::bench::population;

/// How often a JOIN is tried again: partitions may be on their way to their owner.
const TRIES: u8 = 20;
/// Bins of a tenth of a millisecond, up to half a minute.
const BIN_NS: u64 = 100_000;
const BINS: usize = 300_000;

/// One connection.
pub struct Client {
    stream: TcpStream,
    phase: Phase,
    partial: Vec<u8>,
    /// The number of the next message.
    pub next: u64,
    decodes: bool,
    tries: u8,
    /// What it says once it is let in.
    login: Vec<u8>,
    /// Pings that are not answered.
    pub pings: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Upgrade,
    Entering,
    /// Logged in, or subscribed at a peer.
    Idle,
    Joining,
    Closed,
}

/// What was counted under one order.
pub struct Counts {
    pub tally: Tally,
    due: Option<Due>,
    bins: Vec<u32>,
}

impl Counts {
    pub fn new(due: Option<Due>) -> Self {
        Self { tally: Tally::default(), due, bins: vec![0; if due.is_some() { BINS } else { 0 }] }
    }

    /// Latencies in microseconds, and how often each came.
    pub fn latencies(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bins = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        bins.map(|(bin, count)| ((bin as u64 * 2 + 1) * BIN_NS / 2000, u64::from(*count)))
    }

    #[inline]
    fn came(&mut self, number: u64, now_ns: u64) {
        let Some(due) = self.due else { return };
        let at = due.start_ns + number.saturating_sub(due.first) * due.period_ns;
        let bin = (now_ns.saturating_sub(at) / BIN_NS) as usize;
        self.bins[bin.min(BINS - 1)] += 1;
    }
}

impl Client {
    /// Connects, and says the first thing. `token` is a pushmesh user's.
    pub fn open(manner: &Manner, address: SocketAddr, token: Option<String>, decodes: bool) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let upgrade = |path: &str, subprotocol: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
            )
        };
        let login = token.map(|token| {
            let heartbeat = HeartbeatProfile::Normal;
            manner.framed(&ClientFrame::Login(Login { token, device: population::device(), resume: None, heartbeat }))
        });
        let login = login.unwrap_or_default();
        let (phase, hello) = match manner.protocol {
            Protocol::WebSocket => {
                let offered = format!("Sec-WebSocket-Protocol: {}\r\n", Encoding::MessagePack.subprotocol());
                (Phase::Upgrade, upgrade("/", &offered).into_bytes())
            }
            Protocol::Nchan => (Phase::Upgrade, upgrade("/sub", "").into_bytes()),
            Protocol::Tcp => (Phase::Entering, login.clone()),
            Protocol::Nats => {
                let hello = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {TOPIC} 1\r\nPING\r\n");
                (Phase::Entering, hello.into_bytes())
            }
            Protocol::Mqtt => {
                // Version 4, a clean session, no keep-alive, no name: the server gives one.
                let connect = mqtt(0x10, &[&mqtt_text("MQTT")[..], &[4, 2, 0, 0], &mqtt_text("")].concat());
                let subscribe = mqtt(0x82, &[&[0, 1][..], &mqtt_text(TOPIC), &[0]].concat());
                (Phase::Entering, [connect, subscribe].concat())
            }
        };
        stream.set_nonblocking(true)?;
        let mut client = Self { stream, phase, partial: Vec::new(), next: 0, decodes, tries: 0, login, pings: 0 };
        client.say(&hello)?;
        Ok(client)
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn is_in(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub fn join(&mut self, manner: &Manner) -> anyhow::Result<()> {
        (self.next, self.tries) = (0, TRIES);
        if !manner.is_pushmesh() {
            return Ok(());
        }
        self.phase = Phase::Joining;
        self.ask_in(manner)
    }

    fn ask_in(&mut self, manner: &Manner) -> anyhow::Result<()> {
        let room = manner.room.clone().context("no room to join")?;
        self.say(&manner.framed(&ClientFrame::Join(Join { room, resume: None })))
    }

    /// So that a pushmesh comet hears of it.
    pub fn ping(&mut self, manner: &Manner) -> anyhow::Result<()> {
        if !manner.is_pushmesh() {
            return Ok(());
        }
        self.pings += 1;
        self.say(&manner.framed(&ClientFrame::Ping(Ping {})))
    }

    // What a client says is short: a socket that has not been read for an hour still takes it.
    fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("a client can't say what it has to")
    }

    /// Reads what is there.
    pub fn read(
        &mut self,
        manner: &Manner,
        scratch: &mut [u8],
        counts: &mut Counts,
        clock: impl Fn() -> u64,
    ) -> anyhow::Result<()> {
        loop {
            let kept = self.partial.len();
            scratch[..kept].copy_from_slice(&self.partial);
            let filled = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => {
                    self.phase = Phase::Closed;
                    bail!("the server closed a connection");
                }
                Ok(read) => kept + read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.phase = Phase::Closed;
                    return Err(error).context("a connection broke");
                }
            };
            let now_ns = clock();
            counts.tally.bytes += (filled - kept) as u64;
            let taken = self.take(manner, &scratch[..filled], counts, now_ns)?;
            self.partial.clear();
            self.partial.extend_from_slice(&scratch[taken..filled]);
            if filled < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Goes over all whole frames: the bytes they take.
    fn take(&mut self, manner: &Manner, bytes: &[u8], counts: &mut Counts, now_ns: u64) -> anyhow::Result<usize> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.starts_with(&manner.prefix) {
                if rest.len() < manner.length {
                    return Ok(at);
                }
                self.message(manner, &rest[..manner.length], counts, now_ns);
                at += manner.length;
                continue;
            }
            match self.other(manner, rest, counts)? {
                0 => return Ok(at),
                taken => at += taken,
            }
        }
    }

    #[inline]
    fn message(&mut self, manner: &Manner, whole: &[u8], counts: &mut Counts, now_ns: u64) {
        let tally = &mut counts.tally;
        let end = whole.len() - manner.protocol.tail();
        let Some(number) = frames::number(&whole[end - PAYLOAD_BYTES..end]) else {
            tally.spoilt += 1;
            return;
        };
        if number < self.next {
            tally.duplicated += 1;
            return;
        }
        tally.missing += number - self.next;
        self.next = number + 1;
        tally.frames += 1;
        if tally.first_ns == 0 {
            tally.first_ns = now_ns;
        }
        tally.last_ns = now_ns;
        if self.decodes {
            let is_right = match &manner.room {
                Some(room) if manner.is_pushmesh() => {
                    let header = 4;
                    let decoded = ServerFrame::decode(Encoding::MessagePack, &whole[header..]);
                    decoded.is_ok_and(|decoded| decoded == frames::room_frame(room, number))
                }
                _ => whole[end - PAYLOAD_BYTES..end] == frames::payload(number),
            };
            *(if is_right { &mut tally.decoded } else { &mut tally.spoilt }) += 1;
        }
        counts.came(number, now_ns);
    }

    /// Whatever is no message: the bytes it takes, 0 if it has not come whole.
    fn other(&mut self, manner: &Manner, bytes: &[u8], counts: &mut Counts) -> anyhow::Result<usize> {
        if self.phase == Phase::Upgrade {
            return self.upgraded(manner, bytes);
        }
        match manner.protocol {
            Protocol::WebSocket | Protocol::Tcp => {
                let Some((opcode, header, length)) = framing(manner.protocol, bytes) else { return Ok(0) };
                let Some(body) = bytes.get(header..header + length) else { return Ok(0) };
                if opcode == 8 {
                    let why = String::from_utf8_lossy(body.get(2..).unwrap_or_default()).into_owned();
                    bail!("the comet closed a connection: {why}");
                }
                self.heard(manner, ServerFrame::decode(Encoding::MessagePack, body)?, counts)?;
                Ok(header + length)
            }
            Protocol::Nchan => {
                let Some((opcode, header, length)) = framing(manner.protocol, bytes) else { return Ok(0) };
                if bytes.len() < header + length {
                    return Ok(0);
                }
                if opcode == 8 {
                    bail!("nchan closed a connection");
                }
                Ok(header + length)
            }
            Protocol::Nats => {
                let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(0) };
                match &bytes[..end] {
                    b"PING" => self.say(b"PONG\r\n")?,
                    b"PONG" => self.phase = Phase::Idle,
                    line if line.starts_with(b"-ERR") => bail!("nats-server: {}", String::from_utf8_lossy(line)),
                    _ => {}
                }
                Ok(end + 2)
            }
            Protocol::Mqtt => {
                let [kind, length, ..] = bytes else { return Ok(0) };
                let total = 2 + usize::from(*length);
                if *length >= 0x80 || bytes.len() < total {
                    return Ok(0);
                }
                match (kind & 0xf0, &bytes[2..total]) {
                    (0x20, [_, 0]) => {}
                    (0x20, answer) => bail!("mosquitto refused a connection: {answer:?}"),
                    (0x90, _) => self.phase = Phase::Idle,
                    _ => counts.tally.foreign += 1,
                }
                Ok(total)
            }
        }
    }

    fn upgraded(&mut self, manner: &Manner, bytes: &[u8]) -> anyhow::Result<usize> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(0) };
        if !bytes.starts_with(b"HTTP/1.1 101") {
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            bail!("no WebSocket: {}", String::from_utf8_lossy(line));
        }
        self.phase = if manner.is_pushmesh() { Phase::Entering } else { Phase::Idle };
        let login = std::mem::take(&mut self.login);
        if !login.is_empty() {
            self.say(&login)?;
        }
        Ok(end + 4)
    }

    fn heard(&mut self, manner: &Manner, frame: ServerFrame, counts: &mut Counts) -> anyhow::Result<()> {
        match frame {
            ServerFrame::LoginOk(_) => self.phase = Phase::Idle,
            ServerFrame::Joined(_) => self.phase = Phase::Idle,
            ServerFrame::Pong(_) => self.pings = self.pings.saturating_sub(1),
            ServerFrame::Ping(_) => {}
            ServerFrame::Gap(gap) => counts.tally.told_missing += u64::from(gap.high + gap.normal + gap.low),
            ServerFrame::Error(error)
                if self.phase == Phase::Joining && self.tries > 0 && error.error == ErrorCode::Unavailable =>
            {
                self.tries -= 1;
                self.ask_in(manner)?;
            }
            ServerFrame::Error(error) => bail!("the comet answered {:?}: {}", error.error, error.message),
            ServerFrame::Kick(kick) => bail!("the comet kicked a connection: {:?}", kick.reason),
            ServerFrame::Reconnect(_) => bail!("the comet sent a connection elsewhere"),
            _ => counts.tally.foreign += 1,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use pushmesh_protocol::{RoomId, frame::Gap};

    use super::*;

    /// What a client that is in a room counts of these bytes, come in pieces of so many.
    fn counted(protocol: Protocol, bytes: &[u8], piece: usize) -> (Tally, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let manner = Manner::new(protocol, Some(RoomId::new("r1").unwrap()));
        let address = listener.local_addr().unwrap();
        let mut client = Client::open(&manner, address, Some("token".to_owned()), true).unwrap();
        client.phase = Phase::Idle;
        let (mut server, _) = listener.accept().unwrap();
        let (mut scratch, mut counts) = (vec![0; 64 * 1024], Counts::new(None));
        for bytes in bytes.chunks(piece) {
            server.write_all(bytes).unwrap();
            let before = counts.tally.bytes;
            while counts.tally.bytes < before + bytes.len() as u64 {
                client.read(&manner, &mut scratch, &mut counts, || 1).unwrap();
            }
        }
        (counts.tally, client.next)
    }

    #[test]
    fn every_frame_is_accounted_for_however_it_comes() {
        let room = RoomId::new("r1").unwrap();
        for protocol in [Protocol::WebSocket, Protocol::Tcp, Protocol::Nats, Protocol::Nchan, Protocol::Mqtt] {
            let bytes: Vec<u8> =
                [0, 1, 2, 5, 5, 6].iter().flat_map(|number| protocol.on_the_wire(&room, *number)).collect();
            for piece in [1, 7, 150, bytes.len()] {
                let (tally, next) = counted(protocol, &bytes, piece);
                let found = (tally.frames, tally.missing, tally.duplicated, tally.decoded, tally.spoilt, next);
                assert_eq!(found, (5, 2, 1, 5, 0, 7), "{protocol:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_the_comet_says_it_dropped_is_counted_and_what_is_not_ours_is_not_taken_for_it() {
        let room = RoomId::new("r1").unwrap();
        let framed = |frame: ServerFrame| {
            let body = frame.encode(Encoding::MessagePack);
            [&(body.len() as u32).to_be_bytes()[..], &body].concat()
        };
        let ServerFrame::Room(mut others) = frames::room_frame(&room, 0) else { panic!() };
        others.items[0].data = b"somebody else's".to_vec().into();
        let gap = ServerFrame::Gap(Gap { room: Some(room.clone()), high: 3, normal: 1, low: 0 });
        let mut spoilt = Protocol::Tcp.on_the_wire(&room, 0);
        spoilt[20] ^= 1;
        let bytes = [framed(ServerFrame::Room(others)), framed(gap), spoilt].concat();
        let (tally, next) = counted(Protocol::Tcp, &bytes, 50);
        assert_eq!((tally.told_missing, tally.foreign, tally.spoilt, tally.decoded, next), (4, 1, 1, 0, 1));
    }
}
