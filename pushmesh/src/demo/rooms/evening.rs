//! Carries an evening out: viewers come in, the schedule is played through api's door, and everybody says what he saw.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context, bail};
use pushmesh_protocol::{RoomId, UserId, frame::Encoding};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    audience::{Order, Report, Said, gift_note},
    door::{Door, Given, Present},
    oracle::{Books, Judgement, Oracle, Stay},
    schedule::{Act, Schedule},
};
use crate::demo::{clock, crew::Crew, oracle::Moment, run::Edge, sabotage::Saboteur};

/// How long all viewers may take to come in.
const ENTER: Duration = Duration::from_secs(120);
/// Viewers that come in at once.
const ENTER_AT_ONCE: usize = 100;
/// How long after the last act the books may take to balance, and the last items to be shown.
const SETTLE: Duration = Duration::from_secs(20);
/// Once the books balance and for so long nobody has seen anything new, everybody has seen what he will see, …
const QUIET: Duration = Duration::from_secs(2);
/// … or when so long has passed.
const LAST_ITEMS: Duration = Duration::from_secs(30);
/// How long everybody may take to say what he saw.
const FINISH: Duration = Duration::from_secs(60);
/// More than one display in a hundred later than that after its gift's request, and no room was live.
const LATE_MS: f64 = 10_000.0;

/// The viewers and the doors.
pub struct Evening {
    schedule: Schedule,
    door: Door,
    crew: Crew<Order>,
    said: mpsc::Receiver<Report>,
    oracle: Oracle,
    /// Acts on their way.
    doing: JoinSet<anyhow::Result<Done>>,
    /// Gifts that were asked for, to ask again.
    presents: HashMap<(usize, u32), Present>,
    /// Gifts to ask for again once they are answered.
    again: HashSet<(usize, u32)>,
    saboteur: Option<Saboteur>,
    stays: Vec<Stay>,
    joined: HashSet<u64>,
    watched: HashMap<u32, [u64; 3]>,
    tenths: BTreeMap<u32, u64>,
    finished: usize,
    troubles: u64,
    processes: usize,
}

impl Outcome {
    /// Nothing was lost, twice, out of order or miscounted, and gifts came while they were news.
    pub fn is_right(&self) -> bool {
        self.judgement.is_right() && self.gift_p99_ms <= LATE_MS
    }
}

/// What an evening leaves for the verdict.
#[derive(Debug)]
pub struct Outcome {
    pub members: u64,
    pub judgement: Judgement,
    pub gift_p50_ms: f64,
    pub gift_p99_ms: f64,
}

enum Done {
    Given { room: usize, number: u32, user: UserId, value: u64, moment: Moment, given: Given },
    GivenAgain { room: usize, number: u32, given: Given },
    Said { room: usize, number: u32, moment: Moment, sequence: u64 },
    Liked { room: usize, accepted: u64 },
}

impl Evening {
    pub fn new(schedule: Schedule, door: Door, processes: usize, saboteur: Option<Saboteur>) -> anyhow::Result<Self> {
        let (crew, said) = Crew::start("demo-audience", processes)?;
        let oracle = Oracle::new(schedule.rooms.len());
        Ok(Self {
            schedule,
            door,
            crew,
            said,
            oracle,
            doing: JoinSet::new(),
            presents: HashMap::new(),
            again: HashSet::new(),
            saboteur,
            stays: Vec::new(),
            joined: HashSet::new(),
            watched: HashMap::new(),
            tenths: BTreeMap::new(),
            finished: 0,
            troubles: 0,
            processes,
        })
    }

    /// Everybody connects, logs in and joins his room.
    pub async fn enter(&mut self, edge: &Edge) -> anyhow::Result<()> {
        let deadline = clock::now() + ENTER;
        let mut next = 0;
        let all = self.schedule.viewers.len();
        while self.joined.len() < all {
            while next < all && next < self.joined.len() + ENTER_AT_ONCE {
                let viewer = &self.schedule.viewers[next];
                let token = edge.minter.client(&viewer.user, None, Duration::from_secs(24 * 3600));
                let (address, encoding) = match next % 8 {
                    0 => (&edge.websocket, Encoding::Json),
                    1..=5 => (&edge.websocket, Encoding::MessagePack),
                    _ => (&edge.tcp, Encoding::MessagePack),
                };
                let order = Order::Enter {
                    viewer: next as u64,
                    user: viewer.user.clone(),
                    token,
                    address: address.clone(),
                    encoding,
                    room: viewer.room,
                    name: self.schedule.rooms[viewer.room].clone(),
                    walks: viewer.walks,
                };
                self.crew.tell(order).await?;
                next += 1;
            }
            let left = deadline.saturating_sub(clock::now());
            match tokio::time::timeout(left, self.said.recv()).await {
                Ok(report) => self.hear(report.context("the processes of the rooms' viewers are gone")?),
                Err(_) => bail!("{} of {all} viewers were in their rooms after {ENTER:?}", self.joined.len()),
            }
        }
        Ok(())
    }

    pub fn members(&self) -> usize {
        self.joined.len()
    }

    /// Plays the schedule and waits until the books balance and everybody has seen what he will see.
    pub async fn play(mut self, shown: impl Fn(String)) -> anyhow::Result<Outcome> {
        let begun = clock::now();
        let acts = std::mem::take(&mut self.schedule.acts);
        let mut acts = acts.into_iter().peekable();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while acts.peek().is_some() || !self.doing.is_empty() {
            let due = acts.peek().map(|(at, _)| (begun + *at).saturating_sub(clock::now()));
            tokio::select! {
                () = tokio::time::sleep(due.unwrap_or(Duration::MAX)), if due.is_some() => {
                    let (_, act) = acts.next().expect("an act is due");
                    self.act(act).await?;
                }
                Some(done) = self.doing.join_next(), if !self.doing.is_empty() => {
                    self.done(done.context("an act panicked")??).await?;
                }
                report = self.said.recv() => {
                    self.hear(report.context("the processes of the rooms' viewers are gone")?);
                }
                _ = tick.tick() => shown(self.line()),
            }
        }
        let books = self.settle().await?;
        self.finish().await?;
        let mut judgement = self.oracle.judge(&self.stays, &books);
        let [gift_p50_ms, gift_p99_ms] = [0.50, 0.99].map(|share| percentile_ms(&self.tenths, share));
        if gift_p99_ms > LATE_MS {
            judgement.breach(|| format!("gifts took up to {gift_p99_ms} ms (p99) to be seen"));
        }
        Ok(Outcome { members: self.joined.len() as u64, judgement, gift_p50_ms, gift_p99_ms })
    }

    async fn act(&mut self, act: Act) -> anyhow::Result<()> {
        let door = self.door.clone();
        let name = |room: usize| -> RoomId { self.schedule.rooms[room].clone() };
        match act {
            Act::Say { room, number, user, text } => {
                let name = name(room);
                self.doing.spawn(async move {
                    let earliest = clock::now();
                    let data = serde_json::to_value(Said { number, text })?;
                    let sequence = door.say(&name, &user, &data).await?;
                    Ok(Done::Said { room, number, moment: Moment { earliest, latest: clock::now() }, sequence })
                });
            }
            Act::Give { room, number, user, gift, count, value } => {
                let name = name(room);
                let earliest = clock::now();
                let key = uuid::Uuid::now_v7().to_string();
                let note = gift_note(number, earliest.as_micros() as u64);
                let present = Present { key, gift, count, value, from: user.clone(), note };
                self.presents.insert((room, number), present.clone());
                self.doing.spawn(async move {
                    let given = door.give(&name, &present).await?;
                    let moment = Moment { earliest, latest: clock::now() };
                    Ok(Done::Given { room, number, user, value, moment, given })
                });
            }
            Act::GiveAgain { room, number } if self.oracle.is_given(room, number) => self.give_again(room, number),
            // Whoever says it again before the first answer may well be answered first.
            Act::GiveAgain { room, number } => drop(self.again.insert((room, number))),
            Act::Like { room, user, count } => {
                let name = name(room);
                self.doing
                    .spawn(async move { Ok(Done::Liked { room, accepted: door.like(&name, &user, count).await? }) });
            }
            Act::Walk { viewer, to, .. } => {
                let order = Order::Walk { viewer: viewer as u64, room: to, name: name(to) };
                self.crew.tell(order).await?;
            }
        }
        Ok(())
    }

    fn give_again(&mut self, room: usize, number: u32) {
        let (door, name) = (self.door.clone(), self.schedule.rooms[room].clone());
        let present = self.presents[&(room, number)].clone();
        self.doing
            .spawn(async move { Ok(Done::GivenAgain { room, number, given: door.give(&name, &present).await? }) });
    }

    async fn done(&mut self, done: Done) -> anyhow::Result<()> {
        match done {
            Done::Given { room, number, user, value, moment, given } => {
                self.oracle.given(room, number, &user, value, moment, given.sequence);
                if let Some(saboteur) = &mut self.saboteur {
                    saboteur.after_given(&self.schedule.rooms[room], &self.presents[&(room, number)]).await?;
                }
                if self.again.remove(&(room, number)) {
                    self.give_again(room, number);
                }
            }
            Done::GivenAgain { room, number, given } => {
                self.oracle.given_again(room, number, given.sequence, given.repeated);
            }
            Done::Said { room, number, moment, sequence } => self.oracle.said(room, number, moment, sequence),
            Done::Liked { room, accepted } => self.oracle.liked(room, accepted),
        }
        Ok(())
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Joined { viewer } => drop(self.joined.insert(viewer)),
            Report::Stayed(stay) => self.stays.push(stay),
            Report::Astray { viewer, room, asked } => self.oracle.astray(viewer, room, &asked),
            Report::Shown { room, shown } => self.oracle.shown(room, &shown),
            Report::Watched { child, gifts, lines, likes } => drop(self.watched.insert(child, [gifts, lines, likes])),
            Report::Latencies { tenths } => {
                tenths.into_iter().for_each(|(tenths, count)| *self.tenths.entry(tenths).or_default() += count);
            }
            Report::Trouble { viewer, text } => {
                self.troubles += 1;
                tracing::debug!(viewer, text, "trouble");
            }
            Report::Finished {} => self.finished += 1,
        }
    }

    /// What all viewers have seen, item by item.
    fn seen(&self) -> u64 {
        self.watched.values().flatten().sum()
    }

    fn line(&self) -> String {
        let sum = |at: usize| self.watched.values().map(|counts| counts[at]).sum::<u64>();
        format!(
            "rooms    {:>7} in   gifts {} shown {}   chat {} shown {}   likes {}   troubles {}",
            self.joined.len(),
            self.oracle.gifts(),
            sum(0),
            self.oracle.lines(),
            sum(1),
            self.oracle.likes(),
            self.troubles
        )
    }

    /// The books, as soon as they balance, or when they had the time to.
    async fn settle(&mut self) -> anyhow::Result<Vec<Books>> {
        let deadline = clock::now() + SETTLE;
        let mut again = tokio::time::interval(Duration::from_millis(250));
        loop {
            again.tick().await;
            let mut books = Vec::new();
            for room in &self.schedule.rooms {
                books.push(self.door.books(room).await?);
            }
            if self.oracle.balanced(&books) || clock::now() > deadline {
                return Ok(books);
            }
        }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let deadline = clock::now() + LAST_ITEMS;
        let (mut seen, mut since) = (self.seen(), clock::now());
        while clock::now() < deadline.min(since + QUIET) {
            let left = deadline.min(since + QUIET).saturating_sub(clock::now());
            if let Ok(report) = tokio::time::timeout(left, self.said.recv()).await {
                self.hear(report.context("the processes of the rooms' viewers are gone")?);
            }
            if seen != self.seen() {
                (seen, since) = (self.seen(), clock::now());
            }
        }
        self.crew.tell(Order::Finish {}).await?;
        let deadline = clock::now() + FINISH;
        while self.finished < self.processes {
            let left = deadline.saturating_sub(clock::now());
            match tokio::time::timeout(left, self.said.recv()).await {
                Ok(report) => self.hear(report.context("the processes of the rooms' viewers are gone")?),
                Err(_) => bail!("not everybody said what he saw within {FINISH:?}"),
            }
        }
        Ok(())
    }
}

/// Of counts by tenths of a millisecond.
fn percentile_ms(tenths: &BTreeMap<u32, u64>, share: f64) -> f64 {
    let all: u64 = tenths.values().sum();
    let rank = ((all as f64 * share).ceil() as u64).max(1);
    let mut before = 0;
    let found = tenths.iter().find(|(_, count)| {
        before += **count;
        before >= rank
    });
    found.map_or(0.0, |(tenths, _)| f64::from(*tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_counts() {
        let tenths = BTreeMap::from([(10, 98), (500, 1), (2000, 1)]);
        assert_eq!((percentile_ms(&tenths, 0.5), percentile_ms(&tenths, 0.99)), (1.0, 50.0));
        assert_eq!(percentile_ms(&BTreeMap::new(), 0.5), 0.0);
    }
}
