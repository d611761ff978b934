//! The child process that holds a share of the viewers: orders in on standard input; what they saw, out on standard output.

use std::collections::{BTreeMap, HashMap};

use pushmesh_client::{Client, Event, Events, Options};
use pushmesh_protocol::{
    DeviceId, RoomId, UserId,
    frame::{Encoding, RoomItem, item},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

use super::oracle::{Stay, note};
use crate::demo::{clients::write, clock, crew};

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Enter {
        viewer: u64,
        user: UserId,
        token: String,
        address: String,
        encoding: Encoding,
        room: usize,
        name: RoomId,
    },
    Walk {
        viewer: u64,
        room: usize,
        name: RoomId,
    },
    /// Everybody says what he saw since he joined, and goes.
    Finish {},
}

impl crew::Order for Order {
    fn client(&self) -> Option<u64> {
        match self {
            Self::Enter { viewer, .. } | Self::Walk { viewer, .. } => Some(*viewer),
            Self::Finish {} => None,
        }
    }
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Joined {
        viewer: u64,
    },
    /// Of a viewer who left a room.
    Stayed(Stay),
    /// All in all, of this child's viewers.
    Watched {
        child: u32,
        gifts: u64,
        lines: u64,
        likes: u64,
    },
    /// From the request to the display of gifts: tenths of a millisecond, and how many took so long.
    Latencies {
        tenths: Vec<(u32, u64)>,
    },
    Trouble {
        viewer: u64,
        text: String,
    },
    Finished {},
}

/// Reports that may wait to be written.
const REPORTS: usize = 4096;
/// How often the counts are told.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// What a gift's note says: its number in the room, and when it was asked for.
pub fn gift_note(number: u32, asked_us: u64) -> String {
    format!("{number} {asked_us}")
}

fn read_gift_note(text: &str) -> Option<(u32, u64)> {
    let (number, asked) = text.split_once(' ')?;
    Some((number.parse().ok()?, asked.parse().ok()?))
}

/// What a line of chat carries.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    pub number: u32,
    pub text: String,
}

/// Something that a viewer saw, for the counts.
#[derive(Default)]
struct Tally {
    gifts: u64,
    lines: u64,
    likes: u64,
    tenths: BTreeMap<u32, u64>,
}

/// Runs until standard input ends.
pub async fn run() -> anyhow::Result<()> {
    let (reports, queue) = mpsc::channel(REPORTS);
    let writer = tokio::spawn(write(queue));
    let tally = std::sync::Arc::new(std::sync::Mutex::new(Tally::default()));
    let mut viewers: HashMap<u64, mpsc::Sender<Move>> = HashMap::new();
    let mut watching = tokio::task::JoinSet::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut tick = tokio::time::interval(TELL_EVERY);
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = tick.tick() => {
                let watched = {
                    let tally = tally.lock().expect("nobody panics with it");
                    Report::Watched { child: std::process::id(), gifts: tally.gifts, lines: tally.lines, likes: tally.likes }
                };
                reports.send(watched).await?;
                continue;
            }
        };
        let Some(line) = line else { break };
        match serde_json::from_str(&line)? {
            Order::Enter { viewer, user, token, address, encoding, room, name } => {
                let device = DeviceId::new("screen")?;
                let options = Options { encoding, ..Options::new(address.parse()?, token, device) };
                tracing::debug!(%user, "enters");
                let (client, events) = Client::connect(options);
                let (moves, orders) = mpsc::channel(4);
                let watcher = Viewer {
                    number: viewer,
                    client,
                    reports: reports.clone(),
                    tally: tally.clone(),
                    place: Place { room, name, stay: None },
                };
                watching.spawn(watcher.watch(events, orders));
                viewers.insert(viewer, moves);
            }
            Order::Walk { viewer, room, name } => {
                if let Some(moves) = viewers.get(&viewer) {
                    let _ = moves.send(Move { room, name }).await;
                }
            }
            Order::Finish {} => {
                viewers.clear();
                while watching.join_next().await.is_some() {}
                let tenths = {
                    let tally = tally.lock().expect("nobody panics with it");
                    tally.tenths.iter().map(|(tenths, count)| (*tenths, *count)).collect()
                };
                reports.send(Report::Latencies { tenths }).await?;
                reports.send(Report::Finished {}).await?;
            }
        }
    }
    drop((reports, viewers));
    watching.shutdown().await;
    writer.await?
}

struct Move {
    room: usize,
    name: RoomId,
}

/// Where a viewer is, or is about to be.
struct Place {
    room: usize,
    name: RoomId,
    stay: Option<Stay>,
}

struct Viewer {
    number: u64,
    client: Client,
    reports: mpsc::Sender<Report>,
    tally: std::sync::Arc<std::sync::Mutex<Tally>>,
    place: Place,
}

impl Viewer {
    async fn watch(mut self, mut events: Events, mut moves: mpsc::Receiver<Move>) {
        self.client.join(self.place.name.clone()).await;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.see(event).await,
                    None => break,
                },
                next = moves.recv() => match next {
                    Some(Move { room, name }) => {
                        self.end_stay(true).await;
                        self.client.leave(self.place.name.clone()).await;
                        self.place = Place { room, name, stay: None };
                        self.client.join(self.place.name.clone()).await;
                    }
                    None => break,
                },
            }
        }
        self.end_stay(false).await;
        self.client.close();
    }

    async fn end_stay(&mut self, walks: bool) {
        if let Some(mut stay) = self.place.stay.take() {
            stay.left_us = walks.then(now_us);
            let _ = self.reports.send(Report::Stayed(stay)).await;
        }
    }

    async fn see(&mut self, event: Event) {
        match event {
            Event::Joined(joined) if joined.room == self.place.name && self.place.stay.is_none() => {
                self.place.stay = Some(Stay {
                    viewer: self.number as usize,
                    room: self.place.room,
                    joined_us: now_us(),
                    left_us: None,
                    gifts: vec![],
                    lines: vec![],
                    gaps: 0,
                });
                let _ = self.reports.send(Report::Joined { viewer: self.number }).await;
            }
            Event::Room { room, item } if room == self.place.name => self.item(&item),
            Event::RoomGap { room, .. } if room == self.place.name => {
                if let Some(stay) = &mut self.place.stay {
                    stay.gaps += 1;
                }
            }
            Event::Refused(error) => self.trouble(error.message).await,
            Event::Kicked(reason) => self.trouble(format!("kicked: {reason:?}")).await,
            Event::Disconnected { reason, .. } => self.trouble(reason).await,
            _ => {}
        }
    }

    async fn trouble(&self, text: String) {
        let _ = self.reports.send(Report::Trouble { viewer: self.number, text }).await;
    }

    fn item(&mut self, seen: &RoomItem) {
        let Some(stay) = &mut self.place.stay else { return };
        let mut tally = self.tally.lock().expect("nobody panics with it");
        match seen.kind.as_str() {
            item::GIFT => {
                let gift: Option<item::Gift> = item::read(&seen.data);
                let Some((number, asked)) = gift.and_then(|gift| read_gift_note(gift.note.as_deref()?)) else { return };
                note(&mut stay.gifts, number);
                tally.gifts += 1;
                *tally.tenths.entry((now_us().saturating_sub(asked) / 100) as u32).or_default() += 1;
            }
            item::CHAT => {
                let Some(said) = item::read::<Said>(&seen.data) else { return };
                note(&mut stay.lines, said.number);
                tally.lines += 1;
            }
            item::LIKE => tally.likes += 1,
            _ => {}
        }
    }
}

fn now_us() -> u64 {
    clock::now().as_micros() as u64
}
