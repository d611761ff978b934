//! The child process that holds a share of a room's clients: orders in on standard input, one answer to each out on standard
//! output, one JSON object a line each. One thread owns all of them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Context as _;
use pushmesh_auth::Minter;
use pushmesh_protocol::{
    RoomId,
    frame::{ClientFrame, Encoding, Join, Leave, Login, Ping, ServerFrame},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, ReadBuf},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    digest::{Digest, Reading, Readings, What},
    seat::Seat,
    tally::{Tally, Told, Watch},
    wire::{self, Piece},
};
use crate::bench::{machine, population};

/// Whose clients of all: every so manieth from this one on, between two numbers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}

/// What the parent says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// This process holds those clients whose number leaves `child` when divided by `children`: these connect and log in.
    Enter {
        child: u64,
        children: u64,
        range: Range,
        jwks: PathBuf,
        address: SocketAddr,
    },
    /// They leave the room they are in, and join another one; from now on they count as this group.
    Move {
        range: Range,
        room: RoomId,
        group: usize,
    },
    /// They read nothing until they hear again.
    Deafen {
        range: Range,
        deaf: bool,
    },
    /// What counts from now on.
    Watch(Watch),
    Tell {
        latencies: bool,
    },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Seen(Seen),
}

/// What this process' clients have seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Connections that are logged in.
    pub online: u64,
    /// … and in the room that they were sent to last.
    pub joined: u64,
    pub groups: Vec<Told>,
    /// Into how many parts each room was cut, and after which offset.
    pub cuts: BTreeMap<RoomId, BTreeMap<u64, u16>>,
    /// Connections that broke so far.
    pub broken: u64,
    pub trouble: Option<String>,
}

pub const GROUPS: usize = 3;
/// A token's life: longer than any bench.
const TOKENS: Duration = Duration::from_secs(24 * 3600);
/// What one read may bring.
const READ_BYTES: usize = 256 * 1024;
/// Connections of this process that are being opened at once.
const OPENING_MAX: usize = 64;
/// Before a broken one is opened again, and as much again at random.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(50);
/// A client pings every so manieth tick: within the comet's 25 s.
const PING_TICKS: usize = 400;
/// How often a deaf client asks whether it may hear.
const DEAF_LOOK: Duration = Duration::from_millis(200);

/// Runs until standard input ends. On a thread of its own, whose runtime has no other.
pub async fn run() -> anyhow::Result<()> {
    let thread = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(LocalSet::new().run_until(obey()))
    });
    thread.await.context("the thread of the audience panicked")?
}

async fn obey() -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    let hall = Rc::new(RefCell::new(Hall::default()));
    spawn_local(keep(hall.clone()));
    let opening = Rc::new(Semaphore::new(OPENING_MAX));
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Enter { child, children, range, jwks, address } => {
                let minter = Minter::from_jwks(&jwks)?;
                for user in (range.from..range.to).filter(|user| user % children == child) {
                    let token = minter.client(&population::user(user), None, TOKENS);
                    let number = hall.borrow_mut().take_in(user, token);
                    spawn_local(attend(hall.clone(), number, address, opening.clone()));
                }
                Answer::Done
            }
            Order::Move { range, room, group } => {
                hall.borrow_mut().send_to(range, &room, group);
                Answer::Done
            }
            Order::Deafen { range, deaf } => {
                hall.borrow_mut().of(range).for_each(|chair| chair.deaf = deaf);
                Answer::Done
            }
            Order::Watch(watch) => {
                hall.borrow_mut().groups.iter_mut().for_each(|group| group.watch(watch.clone()));
                Answer::Done
            }
            Order::Tell { latencies } => Answer::Seen(hall.borrow().seen(latencies)),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        out.write_all(&line).await?;
        out.flush().await.context("nobody hears the answers")?;
    }
    Ok(())
}

/// All clients of the process, and what they share.
struct Hall {
    chairs: Vec<Chair>,
    groups: [Tally; GROUPS],
    readings: Readings,
    scratch: Box<[u8]>,
    cuts: BTreeMap<RoomId, BTreeMap<u64, u16>>,
    broken: u64,
    trouble: Option<String>,
}

/// One client.
struct Chair {
    user: u64,
    token: String,
    writer: Option<OwnedWriteHalf>,
    online: bool,
    deaf: bool,
    room: Option<RoomId>,
    group: usize,
    seat: Seat,
    /// Of a frame that was not all there.
    rest: Vec<u8>,
}

impl Default for Hall {
    fn default() -> Self {
        Self {
            chairs: Vec::new(),
            groups: Default::default(),
            readings: Readings::default(),
            scratch: vec![0; READ_BYTES].into(),
            cuts: BTreeMap::new(),
            broken: 0,
            trouble: None,
        }
    }
}

impl Hall {
    fn take_in(&mut self, user: u64, token: String) -> usize {
        self.chairs.push(Chair {
            user,
            token,
            writer: None,
            online: false,
            deaf: false,
            room: None,
            group: 0,
            seat: Seat::default(),
            rest: Vec::new(),
        });
        self.chairs.len() - 1
    }

    fn of(&mut self, range: Range) -> impl Iterator<Item = &mut Chair> {
        self.chairs.iter_mut().filter(move |chair| (range.from..range.to).contains(&chair.user))
    }

    fn send_to(&mut self, range: Range, room: &RoomId, group: usize) {
        let now = machine::now();
        for chair in self.of(range) {
            chair.group = group;
            if chair.room.as_ref() == Some(room) {
                continue;
            }
            if let Some(room) = chair.room.replace(room.clone()) {
                chair.say(&ClientFrame::Leave(Leave { room }));
            }
            chair.seat = Seat::default();
            chair.join(now);
        }
    }

    fn seen(&self, latencies: bool) -> Seen {
        let count = |what: fn(&&Chair) -> bool| self.chairs.iter().filter(what).count() as u64;
        Seen {
            online: count(|chair| chair.online),
            joined: count(|chair| chair.seat.joined),
            groups: self.groups.iter().map(|group| group.tell(latencies)).collect(),
            cuts: self.cuts.clone(),
            broken: self.broken,
            trouble: self.trouble.clone(),
        }
    }

    /// Reads what is there until nothing more is.
    fn read(&mut self, number: usize, half: &mut OwnedReadHalf, context: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        loop {
            let kept = self.chairs[number].rest.len();
            self.scratch[..kept].copy_from_slice(&self.chairs[number].rest);
            let mut buffer = ReadBuf::new(&mut self.scratch[kept..]);
            ready!(Pin::new(&mut *half).poll_read(context, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Err(anyhow::anyhow!("closed by the comet")));
            }
            // The scratch is nobody's while a frame of it is looked at.
            let scratch = std::mem::take(&mut self.scratch);
            let taken = self.take(number, &scratch[..kept + read]);
            self.scratch = scratch;
            taken?;
        }
    }

    fn take(&mut self, number: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let (mut at, now) = (0, machine::now());
        loop {
            match wire::piece(&bytes[at..]) {
                Piece::Message(payload, size) => {
                    at += size;
                    self.message(number, payload, now)?;
                }
                Piece::Other(size) => at += size,
                Piece::Closed => anyhow::bail!("the comet said good-bye"),
                Piece::Partial => break,
            }
        }
        let rest = &mut self.chairs[number].rest;
        rest.clear();
        rest.extend_from_slice(&bytes[at..]);
        if rest.is_empty() && rest.capacity() > 0 {
            *rest = Vec::new();
        }
        Ok(())
    }

    fn message(&mut self, number: usize, payload: &[u8], now: Duration) -> anyhow::Result<()> {
        let (reading, is_new) = self.readings.read(payload);
        match reading {
            Reading::Room(digest) => {
                if is_new {
                    self.note_cuts(&digest);
                }
                let chair = &mut self.chairs[number];
                if chair.room.as_ref() == Some(&digest.room) {
                    chair.seat.take(&digest, now, &mut self.groups[chair.group]);
                }
            }
            Reading::Other(Some(frame)) => self.other(number, &frame, now)?,
            Reading::Other(None) => anyhow::bail!("a frame that nobody can read"),
        }
        Ok(())
    }

    fn note_cuts(&mut self, digest: &Digest) {
        for entry in &digest.entries {
            if let What::Parts(parts) = entry.what {
                self.cuts.entry(digest.room.clone()).or_default().insert(entry.offset, parts);
            }
        }
    }

    fn other(&mut self, number: usize, frame: &ServerFrame, now: Duration) -> anyhow::Result<()> {
        let chair = &mut self.chairs[number];
        match frame {
            ServerFrame::LoginOk(_) => {
                chair.online = true;
                if chair.room.is_some() {
                    chair.join(now);
                }
            }
            ServerFrame::Joined(joined) if chair.room.as_ref() == Some(&joined.room) => chair.seat.joined(joined, now),
            ServerFrame::Error(error) => {
                if error.room.is_some() {
                    chair.seat.refused(now);
                }
                let text = format!("{:?}: {}", error.error, error.message);
                self.trouble = Some(text.clone());
                if error.room.is_none() {
                    anyhow::bail!(text);
                }
            }
            ServerFrame::Kick(kick) => anyhow::bail!("kicked: {kick:?}"),
            _ => {}
        }
        Ok(())
    }
}

impl Chair {
    fn join(&mut self, now: Duration) {
        let Some(room) = self.room.clone().filter(|_| self.online) else { return };
        self.say(&ClientFrame::Join(Join { room, resume: self.seat.position() }));
        self.seat.asked(now);
    }

    /// What does not fit into the socket is lost: whoever reads, reads these few bytes too.
    fn say(&self, frame: &ClientFrame) {
        if let Some(writer) = &self.writer {
            let _ = writer.try_write(&wire::message(&frame.encode(Encoding::MessagePack)));
        }
    }
}

/// One client, from its first connection until the process ends.
async fn attend(hall: Rc<RefCell<Hall>>, number: usize, address: SocketAddr, opening: Rc<Semaphore>) {
    loop {
        let ended = serve(&hall, number, address, &opening).await;
        {
            let mut hall = hall.borrow_mut();
            hall.broken += 1;
            if let Err(error) = ended {
                hall.trouble = Some(format!("{error:#}"));
            }
            let chair = &mut hall.chairs[number];
            (chair.writer, chair.online) = (None, false);
            chair.rest.clear();
            chair.seat.parted();
        }
        sleep(AGAIN_AFTER.mul_f64(1.0 + fastrand::f64())).await;
    }
}

/// One connection.
async fn serve(hall: &RefCell<Hall>, number: usize, address: SocketAddr, opening: &Semaphore) -> anyhow::Result<()> {
    let permit = opening.acquire().await?;
    let (mut half, writer) = wire::open(address).await?.into_split();
    {
        let chair = &mut hall.borrow_mut().chairs[number];
        chair.writer = Some(writer);
        let (token, device) = (chair.token.clone(), population::device());
        chair.say(&ClientFrame::Login(Login { token, device, resume: None, heartbeat: Default::default() }));
    }
    let mut permit = Some(permit);
    loop {
        while hall.borrow().chairs[number].deaf {
            sleep(DEAF_LOOK).await;
        }
        std::future::poll_fn(|context| {
            let mut hall = hall.borrow_mut();
            let polled = hall.read(number, &mut half, context);
            let chair = &hall.chairs[number];
            if chair.online {
                permit = None;
            }
            // Whoever is deaf has nothing to wait for here.
            if polled.is_pending() && chair.deaf { Poll::Ready(Ok(())) } else { polled }
        })
        .await?;
    }
}

/// What is done by the clock: pings, and JOINs that are due.
async fn keep(hall: Rc<RefCell<Hall>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 0usize.. {
        ticks.tick().await;
        let (mut hall, now) = (hall.borrow_mut(), machine::now());
        for (number, chair) in hall.chairs.iter_mut().enumerate().filter(|(_, chair)| chair.online && !chair.deaf) {
            if number % PING_TICKS == tick % PING_TICKS {
                chair.say(&ClientFrame::Ping(Ping {}));
            }
            if chair.seat.is_due(now) {
                chair.join(now);
            }
        }
    }
}
