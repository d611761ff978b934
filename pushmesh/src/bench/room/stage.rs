//! A mesh and an audience, on which loads are tried.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use pushmesh_auth::Scope;
use pushmesh_protocol::{RoomId, UserId, metric::comet};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    audience::{Order, Range},
    expected::{Cuts, Members},
    flow::{Flow, Flowed, LIKES_EACH, gift_of},
    hall::{AllSeen, Hall},
    line::Line,
    mix::{Beside, Mix, Times},
    taken::{ClassTaken, Taken},
    tally::{Class, LikesPlan, Watch},
};
use crate::bench::{
    Frame,
    backlog::{Sample, grows},
    latency::Latencies,
    load::Watch as LoadWatch,
    machine,
    mesh::Mesh,
    population,
    schedule::Schedule,
    scrape::Counters,
    until,
};

/// What rooms need; a LOGIN is stored by login-ingest.
const SERVICES: [&str; 3] = ["login-ingest", "room-fanout", "api"];
/// The comet shows the door to its raw write loop, if it was built with it.
const FLOOR: (&str, &str) = ("BENCH_FLOOR", "1");
/// api would refuse more chat in one room than 200 a second: here it must be offered.
pub const RAISED: [(&str, &str); 1] = [("api", "service.limits.chat_per_room=1000000")];
/// How long all clients may take to log in, or to join.
const ENTER_WITHIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);
/// Between the order to watch and the first message.
const LEAD: Duration = Duration::from_millis(200);
/// What has not come after so long without anything new stays away: heads are repeated every 2 s, and what they show to be
/// missed is asked for a second later.
const QUIET: Duration = Duration::from_secs(8);
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// How long the ledger may take to say what was given.
const LEDGER_WITHIN: Duration = Duration::from_secs(20);
const TOKENS: Duration = Duration::from_secs(24 * 3600);

/// Everything that stands still while loads change.
pub struct Stage<'a> {
    pub frame: &'a Frame,
    pub mesh: Mesh,
    hall: Hall,
    token: String,
    api: SocketAddr,
    entered: u64,
    /// Clients from 0 to this one are in rooms.
    seated: u64,
    rooms: u64,
}

/// A room with its members, and what it was told.
pub struct Place {
    pub room: RoomId,
    /// Those of whom something is expected.
    members: Members,
    /// All members speak, in turn.
    speakers: u64,
    cuts: Cuts,
    ledger: BTreeMap<UserId, u64>,
    likes: u64,
    /// Of a line of chat.
    last_offset: u64,
}

impl<'a> Stage<'a> {
    pub async fn set(frame: &'a Frame) -> anyhow::Result<Self> {
        let mut mesh = Mesh::start_with(&SERVICES, "1s", &RAISED).await?;
        mesh.add_with("comet", "comet", &[FLOOR]).await?;
        frame.say(format_args!("the mesh is ready: {} processes", mesh.pids().len()));
        let token = mesh.minter()?.backend("bench", &[Scope::RoomRead, Scope::RoomWrite], TOKENS);
        let api = mesh.door("api", "http")?;
        Ok(Self { frame, hall: Hall::start()?, mesh, token, api, entered: 0, seated: 0, rooms: 0 })
    }

    /// So many clients are logged in.
    pub async fn enter(&mut self, clients: u64) -> anyhow::Result<()> {
        if clients <= self.entered {
            return Ok(());
        }
        self.hall.enter(Range { from: self.entered, to: clients }, &self.mesh).await?;
        self.entered = clients;
        self.all("logged in", clients, |seen| seen.of.online).await
    }

    /// A new room with these clients in it, counted as this group.
    pub async fn room(&mut self, range: Range, group: usize) -> anyhow::Result<Place> {
        self.rooms += 1;
        let room = RoomId::new(&format!("room-{}", self.rooms))?;
        self.hall.tell(Order::Move { range, room: room.clone(), group }).await?;
        self.joined(range.to).await?;
        let members = Members::new(range.from..range.to);
        Ok(Place {
            room,
            members,
            speakers: range.to - range.from,
            cuts: Cuts::default(),
            ledger: BTreeMap::new(),
            likes: 0,
            last_offset: 0,
        })
    }

    /// The last so many members count as another group, and nothing is expected of them.
    pub async fn regroup(&mut self, last: u64, place: &mut Place, group: usize) -> anyhow::Result<Range> {
        let (from, to) = (place.speakers - last, place.speakers);
        let range = Range { from, to };
        self.hall.tell(Order::Move { range, room: place.room.clone(), group }).await?;
        place.members = Members::new(0..from);
        Ok(range)
    }

    /// Many small rooms, of so many clients each, from a client on.
    pub async fn small_rooms(
        &mut self,
        from: u64,
        rooms: u64,
        each: u64,
        group: usize,
    ) -> anyhow::Result<Arc<[RoomId]>> {
        let mut all = Vec::new();
        for number in 0..rooms {
            let room = RoomId::new(&format!("small-{number}"))?;
            let first = from + number * each;
            let range = Range { from: first, to: first + each };
            self.hall.tell(Order::Move { range, room: room.clone(), group }).await?;
            all.push(room);
        }
        self.joined(from + rooms * each).await?;
        Ok(all.into())
    }

    /// They read nothing, or read again.
    pub async fn deafen(&mut self, range: Range, deaf: bool) -> anyhow::Result<()> {
        self.hall.tell(Order::Deafen { range, deaf }).await
    }

    /// All that were ever sent to a room are in theirs, up to this client at least.
    pub async fn joined(&mut self, to: u64) -> anyhow::Result<()> {
        self.seated = self.seated.max(to);
        self.all("in their rooms", self.seated, |seen| seen.of.joined).await
    }

    async fn all(&mut self, what: &str, clients: u64, count: fn(&AllSeen) -> u64) -> anyhow::Result<()> {
        let (hall, mesh) = (&mut self.hall, &mut self.mesh);
        let (mut last, mut trouble) = (0, None);
        let all = until(ENTER_WITHIN, LOOK, async || {
            mesh.check()?;
            let seen = hall.seen(false).await?;
            last = count(&seen);
            trouble = seen.of.trouble;
            Ok((last >= clients).then_some(()))
        });
        if all.await?.is_none() {
            self.frame.say_complaints(mesh);
            let trouble = trouble.unwrap_or_else(|| "none".into());
            bail!("only {last} of {clients} clients are {what}; the last trouble: {trouble}");
        }
        self.frame.say(format_args!("{clients} clients are {what}"));
        Ok(())
    }

    pub fn comet_memory_mib(&self) -> f64 {
        let pid = self.mesh.pids().get("comet").copied().unwrap_or_default();
        crate::bench::latency::rounded(machine::memory_kib(pid) as f64 / 1024.0)
    }

    /// What the comet counts.
    pub async fn comet_counters(&self) -> anyhow::Result<Counters> {
        Counters::read(self.mesh.door("comet", "admin")?).await
    }

    /// Offers a mix to a room, and chat to small rooms beside it, and waits until what came of it is over.
    pub async fn run(
        &mut self,
        place: &mut Place,
        mix: Mix,
        beside: Option<&Beside>,
        times: Times,
    ) -> anyhow::Result<Taken> {
        self.note_parts(place).await?;
        let counters = self.comet_counters().await?;
        let start = machine::now() + LEAD;
        let schedule = |per_s: f64| Schedule { start, per_s };
        let likes = LikesPlan {
            before: place.likes,
            each: LIKES_EACH,
            schedule: schedule((mix.low / LIKES_EACH as f64).max(f64::MIN_POSITIVE)),
        };
        let watch = Watch {
            from_us: start.as_micros() as u64,
            latencies_from_us: (start + times.settle).as_micros() as u64,
            likes: (mix.low > 0.0).then_some(likes),
        };
        self.hall.tell(Order::Watch(watch)).await?;
        let cpu = LoadWatch::begin(self.mesh.pids(), &self.hall.pids());
        let audience = self.hall.busy();
        let flow = |class: Class| self.flow(place, class, mix, schedule, times);
        let (gift, high, normal, low) = (flow(Class::Gift), flow(Class::High), flow(Class::Normal), flow(Class::Low));
        let small = beside.map(|beside| Flow {
            class: Class::High,
            schedule: schedule(beside.per_s),
            window: times.settle + times.window,
            rooms: beside.rooms.clone(),
            speakers: place.speakers,
            lines: Mix::LINES,
        });
        let (api, token) = (self.api, self.token.clone());
        let flows = async {
            let small = async {
                match small {
                    Some(flow) => flow.run(api, &token).await.map(Some),
                    None => Ok(None),
                }
            };
            tokio::try_join!(
                gift.run(api, &token),
                high.run(api, &token),
                normal.run(api, &token),
                low.run(api, &token),
                small
            )
        };
        let looks = sample(&mut self.hall, schedule(mix.high), times);
        let ((gift, high, normal, low, small), samples) = tokio::try_join!(flows, looks)?;
        let mut lag = Latencies::default();
        [&gift, &high, &normal, &low].into_iter().for_each(|flowed| lag.add(&flowed.lag.counted()));
        let mut load = cpu.end(lag.percentile_ms(0.99));
        load.bottleneck = load.bottleneck.or(self.hall.bottleneck(&audience));
        place.note(&gift, &high, &low);
        let flowed = [gift, high, normal, low];
        let seen = self.drain(place, &flowed).await?;
        let after = self.comet_counters().await?;
        let dropped_low = dropped_low(&after).saturating_sub(dropped_low(&counters));
        let expected = place.expected(&flowed);
        let classes = Class::ALL.map(|class| {
            let dropped = if class == Class::Low { dropped_low } else { seen.groups[0].of(class).recovered };
            ClassTaken::new(&flowed[class as usize], seen.groups[0].of(class), expected[class as usize], dropped)
        });
        let is_whole = flowed.iter().chain(small.iter()).all(Flowed::is_whole);
        let taken = Taken {
            mix,
            held: is_whole && (mix.high == 0.0 || !grows(&samples, mix.high)),
            parts: place.cuts.last(),
            classes,
            groups: seen.groups,
            broken: seen.of.broken,
            trouble: flowed.iter().find_map(|flowed| flowed.trouble.clone()).or(seen.of.trouble),
            load,
            before: counters,
            after,
        };
        self.frame.say(&taken);
        Ok(taken)
    }

    fn flow(&self, place: &Place, class: Class, mix: Mix, schedule: impl Fn(f64) -> Schedule, times: Times) -> Flow {
        let per_s = mix.of_class(class) / if class == Class::Low { LIKES_EACH as f64 } else { 1.0 };
        Flow {
            class,
            schedule: schedule(per_s),
            window: times.settle + times.window,
            rooms: [place.room.clone()].into(),
            speakers: place.speakers,
            lines: if per_s > 0.0 { mix.lines(class) } else { 0 },
        }
    }

    /// Waits until everything was seen that must be, or nothing new is.
    async fn drain(&mut self, place: &mut Place, flowed: &[Flowed; 4]) -> anyhow::Result<AllSeen> {
        let (mut last, mut changed) = (0, machine::now());
        let (hall, mesh) = (&mut self.hall, &mut self.mesh);
        let over = until(DRAIN_WITHIN, LOOK, async || {
            mesh.check()?;
            let seen = hall.seen(false).await?;
            place.note_cuts(&seen);
            let counts = Class::ALL.map(|class| {
                let seen = seen.groups[0].of(class);
                seen.delivered + seen.merged
            });
            let sum: u64 = counts.iter().sum();
            if sum != last {
                (last, changed) = (sum, machine::now());
            }
            let all = counts.iter().zip(place.expected(flowed)).all(|(seen, expected)| *seen >= expected);
            let quiet = machine::now().saturating_sub(changed) > QUIET;
            Ok((all || quiet).then_some(()))
        });
        if over.await?.is_none() {
            self.frame.say(format_args!("what was accepted still comes after {DRAIN_WITHIN:?}"));
        }
        self.hall.seen(true).await
    }

    /// Whether the ledger says what was given, and nothing else.
    pub async fn ledger_is_exact(&self, place: &Place) -> anyhow::Result<bool> {
        let path = format!("/v1/rooms/{}/ranking?places=1000", place.room);
        let mut line = Line::new(self.api, &self.token);
        let exact = until(LEDGER_WITHIN, LOOK, async || {
            let ranking = line.get(&path).await?;
            let told = |place: &serde_json::Value| {
                Some((place["user"].as_str()?.parse::<UserId>().ok()?, place["total"].as_u64()?))
            };
            let places = ranking["top"].as_array().context("a ranking without places")?;
            let told: Option<BTreeMap<_, _>> = places.iter().map(told).collect();
            let total: u64 = place.ledger.values().sum();
            let is_exact = told.as_ref() == Some(&place.ledger) && ranking["gifts_total"].as_u64() == Some(total);
            Ok(is_exact.then_some(()))
        });
        Ok(exact.await?.is_some())
    }

    // A room in which nothing was said is cut without a word.
    async fn note_parts(&self, place: &mut Place) -> anyhow::Result<()> {
        let mut line = Line::new(self.api, &self.token);
        let info = line.get(&format!("/v1/rooms/{}", place.room)).await?;
        let parts = info["parts"].as_u64().context("a room without parts")?;
        place.cuts.note(place.last_offset, u16::try_from(parts)?);
        Ok(())
    }
}

impl Place {
    fn note(&mut self, gift: &Flowed, high: &Flowed, low: &Flowed) {
        for (_, number) in &gift.sequences {
            let (giver, value) = gift_of(*number);
            *self.ledger.entry(population::user(giver)).or_default() += value;
        }
        self.likes += low.accepted;
        let last = high.sequences.iter().map(|(offset, _)| *offset).max();
        self.last_offset = last.unwrap_or_default().max(self.last_offset);
    }

    fn note_cuts(&mut self, seen: &AllSeen) {
        for (after, parts) in seen.of.cuts.get(&self.room).into_iter().flatten() {
            self.cuts.note(*after, *parts);
        }
    }

    /// How often each class must have been seen.
    fn expected(&self, [gift, high, normal, low]: &[Flowed; 4]) -> [u64; 4] {
        let all = self.members.count();
        let speaker = |(offset, number): &(u64, u64)| (*offset, number % self.speakers.max(1));
        let chat = self.members.chat(high.sequences.iter().map(speaker), &self.cuts);
        [gift.accepted * all, chat, normal.accepted * all, low.accepted * all]
    }
}

/// What is due of the chat, and what has been seen of it, from the window's start to its end: what is seen now was due its
/// mean latency ago.
async fn sample(hall: &mut Hall, schedule: Schedule, times: Times) -> anyhow::Result<Vec<Sample>> {
    let (mut ticks, mut samples) = (interval(LOOK), Vec::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (from, end) = (schedule.start + times.settle, times.settle + times.window);
    let (mut before, mut done) = ((0, 0), 0);
    loop {
        ticks.tick().await;
        let seen = hall.seen(false).await?;
        let now = machine::now();
        let high = seen.groups[0].of(Class::High);
        let (count, sum) = (high.delivered - before.0, high.sum_us - before.1);
        if let Some(mean) = sum.checked_div(count) {
            done = done.max(schedule.due(now.saturating_sub(Duration::from_micros(mean))));
        }
        before = (high.delivered, high.sum_us);
        if now > from {
            samples.push(Sample { at: (now - from).min(times.window), due: schedule.due(now), done });
        }
        if now >= schedule.start + end {
            return Ok(samples);
        }
    }
}

// Frames of class low that a member did not get, other than for a newer one.
fn dropped_low(counters: &Counters) -> u64 {
    let of = |label| counters.sum(comet::DROPPED.name, label) + counters.sum(comet::ROOM_DROPPED.name, label);
    of("class=\"low\"") - of("class=\"low\",reason=\"merged\"")
}
