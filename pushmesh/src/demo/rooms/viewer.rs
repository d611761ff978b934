//! One viewer: he is where he is wished to be, and says of each stay what he saw.
//!
//! Who leaves a room asks it first how far it is, and goes when he has seen everything up to there: so whatever the others
//! had been shown before he wanted to go, he must have been shown too, however slow the machine is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pushmesh_client::{Client, Event, Events};
use pushmesh_protocol::{
    RoomId,
    frame::{Chain, Joined, RoomItem, RoomPosition, item},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    audience::{Report, Said, Tally, read_gift_note},
    oracle::{Stay, note},
};
use crate::demo::clock;

/// How long a room's answer may still take when everything else is over.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub room: usize,
    pub name: RoomId,
}

/// How he stands to the room where he is.
enum Standing {
    /// Has asked to be let in.
    Coming,
    In(Visit),
    /// Has asked how far the room is.
    Going {
        visit: Visit,
        until: Option<RoomPosition>,
    },
}

struct Visit {
    stay: Stay,
    seen: RoomPosition,
}

pub struct Viewer {
    number: u64,
    walks: bool,
    client: Client,
    reports: mpsc::Sender<Report>,
    tally: Arc<Mutex<Tally>>,
    wished: watch::Receiver<Place>,
    here: Place,
    standing: Standing,
}

impl Viewer {
    pub fn new(
        number: u64,
        walks: bool,
        client: Client,
        reports: mpsc::Sender<Report>,
        tally: Arc<Mutex<Tally>>,
        wished: watch::Receiver<Place>,
    ) -> Self {
        let here = wished.borrow().clone();
        Self { number, walks, client, reports, tally, wished, here, standing: Standing::Coming }
    }

    /// Until nobody wishes anything any more, and he has been told what he asked for or has waited long enough.
    pub async fn watch(mut self, mut events: Events) {
        self.client.join(self.here.name.clone()).await;
        let mut last: Option<Instant> = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.see(event).await,
                    None => break,
                },
                wish = self.wished.changed(), if last.is_none() => {
                    if wish.is_err() {
                        last = Some(Instant::now() + ANSWERED_WITHIN);
                    }
                }
                () = sleep_until(last.unwrap_or_else(Instant::now)), if last.is_some() => break,
            }
            self.walk().await;
            if last.is_some() && self.is_settled() {
                break;
            }
        }
        self.end().await;
    }

    /// A step towards where he shall be.
    async fn walk(&mut self) {
        let wished = self.wished.borrow().clone();
        self.standing = match std::mem::replace(&mut self.standing, Standing::Coming) {
            Standing::In(mut visit) if wished != self.here => {
                visit.stay.left_us = Some(now_us());
                self.client.join(self.here.name.clone()).await;
                Standing::Going { visit, until: None }
            }
            Standing::Going { mut visit, .. } if wished == self.here => {
                visit.stay.left_us = None;
                Standing::In(visit)
            }
            Standing::Going { visit, until: Some(until) } if visit.has_seen(&until) => {
                let _ = self.reports.send(Report::Stayed(visit.stay)).await;
                self.client.leave(self.here.name.clone()).await;
                self.here = wished;
                self.client.join(self.here.name.clone()).await;
                Standing::Coming
            }
            same => same,
        };
    }

    fn is_settled(&self) -> bool {
        matches!(self.standing, Standing::In(_)) && *self.wished.borrow() == self.here
    }

    async fn end(self) {
        let astray =
            |asked: &str| Report::Astray { viewer: self.number, room: self.here.room, asked: asked.to_owned() };
        let last = match self.standing {
            Standing::In(visit) => Report::Stayed(visit.stay),
            Standing::Coming => astray("to be let in"),
            Standing::Going { .. } => astray("how far it is"),
        };
        let _ = self.reports.send(last).await;
        self.client.close();
    }

    async fn see(&mut self, event: Event) {
        match event {
            Event::Joined(joined) if joined.room == self.here.name => self.joined(&joined).await,
            Event::Room { room, item } if room == self.here.name => self.item(&item),
            Event::RoomGap { room, to, .. } if room == self.here.name => {
                if let Some(visit) = self.standing.visit() {
                    visit.stay.gaps += 1;
                    visit.seen = to;
                }
            }
            Event::Refused(error) => self.trouble(error.message).await,
            Event::Kicked(reason) => self.trouble(format!("kicked: {reason:?}")).await,
            Event::Disconnected { reason, .. } => self.trouble(reason).await,
            _ => {}
        }
    }

    async fn joined(&mut self, joined: &Joined) {
        match &mut self.standing {
            Standing::Coming => {
                let stay = Stay::begin(self.number as usize, self.here.room, now_us());
                self.standing = Standing::In(Visit { stay, seen: joined.position });
                let _ = self.reports.send(Report::Joined { viewer: self.number }).await;
            }
            Standing::Going { until: until @ None, .. } => *until = Some(joined.position),
            Standing::In(_) | Standing::Going { .. } => {}
        }
    }

    fn item(&mut self, seen: &RoomItem) {
        let Some(visit) = self.standing.visit() else { return };
        visit.note(seen);
        let (stay, now) = (&mut visit.stay, now_us());
        let mut tally = self.tally.lock().expect("nobody panics with it");
        match seen.kind.as_str() {
            item::GIFT => {
                let gift: Option<item::Gift> = item::read(&seen.data);
                let Some((number, asked)) = gift.and_then(|gift| read_gift_note(gift.note.as_deref()?)) else { return };
                note(&mut stay.gifts, number);
                tally.gifts += 1;
                *tally.tenths.entry((now.saturating_sub(asked) / 100) as u32).or_default() += 1;
                if !self.walks {
                    tally.shown.entry(stay.room).or_default().gifts.insert(number, now);
                }
            }
            item::CHAT => {
                let Some(said) = item::read::<Said>(&seen.data) else { return };
                note(&mut stay.lines, said.number);
                tally.lines += 1;
                if !self.walks {
                    tally.shown.entry(stay.room).or_default().lines.insert(said.number, now);
                }
            }
            item::LIKE => tally.likes += 1,
            _ => {}
        }
    }

    async fn trouble(&self, text: String) {
        let _ = self.reports.send(Report::Trouble { viewer: self.number, text }).await;
    }
}

impl Standing {
    fn visit(&mut self) -> Option<&mut Visit> {
        match self {
            Self::Coming => None,
            Self::In(visit) | Self::Going { visit, .. } => Some(visit),
        }
    }
}

impl Visit {
    fn note(&mut self, item: &RoomItem) {
        match item.chain {
            Chain::Gifts => self.seen.gifts = self.seen.gifts.max(item.offset),
            Chain::High => self.seen.high = self.seen.high.max(item.offset),
            Chain::Normal | Chain::Loose => {}
        }
    }

    /// Of what is judged: gifts and chat.
    fn has_seen(&self, position: &RoomPosition) -> bool {
        self.seen.gifts >= position.gifts && self.seen.high >= position.high
    }
}

fn now_us() -> u64 {
    clock::now().as_micros() as u64
}
