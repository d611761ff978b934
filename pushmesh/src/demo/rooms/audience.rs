//! The child process that holds a share of the viewers: orders in on standard input; what they saw, out on standard output.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use pushmesh_client::{Client, Options};
use pushmesh_protocol::{DeviceId, RoomId, UserId, frame::Encoding};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    oracle::{Shown, Stay},
    viewer::{Place, Viewer},
};
use crate::demo::{clients::write, crew};

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
        /// He will go to other rooms.
        walks: bool,
    },
    /// To that room, once he is where he was sent before.
    Walk { viewer: u64, room: usize, name: RoomId },
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
    /// A viewer asked to be in this room, or how far it is, and was never told.
    Astray {
        viewer: u64,
        room: usize,
        asked: String,
    },
    /// What those of this child who stay in a room have been shown there.
    Shown {
        room: usize,
        shown: Shown,
    },
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

pub(super) fn read_gift_note(text: &str) -> Option<(u32, u64)> {
    let (number, asked) = text.split_once(' ')?;
    Some((number.parse().ok()?, asked.parse().ok()?))
}

/// What a line of chat carries.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    pub number: u32,
    pub text: String,
}

/// What all viewers of this process saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub gifts: u64,
    pub lines: u64,
    pub likes: u64,
    /// From the request to the display of gifts.
    pub tenths: BTreeMap<u32, u64>,
    /// By room, to those who stay.
    pub shown: HashMap<usize, Shown>,
}

/// Runs until standard input ends.
pub async fn run() -> anyhow::Result<()> {
    let (reports, queue) = mpsc::channel(REPORTS);
    let writer = tokio::spawn(write(queue));
    let mut audience = Audience { reports, tally: Arc::default(), wishes: HashMap::new(), watching: JoinSet::new() };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut tick = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => audience.carry_out(serde_json::from_str(&line)?).await?,
                None => break,
            },
            _ = tick.tick() => audience.tell().await?,
        }
    }
    let Audience { reports, mut watching, .. } = audience;
    drop(reports);
    watching.shutdown().await;
    writer.await?
}

struct Audience {
    reports: mpsc::Sender<Report>,
    tally: Arc<Mutex<Tally>>,
    /// Where each viewer shall be.
    wishes: HashMap<u64, watch::Sender<Place>>,
    watching: JoinSet<()>,
}

impl Audience {
    async fn carry_out(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Enter { viewer, user, token, address, encoding, room, name, walks } => {
                let options = Options { encoding, ..Options::new(address.parse()?, token, DeviceId::new("screen")?) };
                tracing::debug!(%user, "enters");
                let (client, events) = Client::connect(options);
                let (wish, wished) = watch::channel(Place { room, name });
                let reports = self.reports.clone();
                let watcher = Viewer::new(viewer, walks, client, reports, self.tally.clone(), wished);
                self.watching.spawn(watcher.watch(events));
                self.wishes.insert(viewer, wish);
            }
            Order::Walk { viewer, room, name } => {
                if let Some(wish) = self.wishes.get(&viewer) {
                    wish.send_replace(Place { room, name });
                }
            }
            Order::Finish {} => self.finish().await?,
        }
        Ok(())
    }

    async fn tell(&self) -> anyhow::Result<()> {
        let watched = {
            let tally = self.tally.lock().expect("nobody panics with it");
            let (gifts, lines, likes) = (tally.gifts, tally.lines, tally.likes);
            Report::Watched { child: std::process::id(), gifts, lines, likes }
        };
        Ok(self.reports.send(watched).await?)
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.wishes.clear();
        while self.watching.join_next().await.is_some() {}
        let tally = std::mem::take(&mut *self.tally.lock().expect("nobody panics with it"));
        for (room, shown) in tally.shown {
            self.reports.send(Report::Shown { room, shown }).await?;
        }
        self.reports.send(Report::Latencies { tenths: tally.tenths.into_iter().collect() }).await?;
        Ok(self.reports.send(Report::Finished {}).await?)
    }
}
