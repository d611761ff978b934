//! Live rooms towards the mesh: listened to while they have members here, asked for those who join, told who is there.
//!
//! A room is subscribed to before its owner is asked, and the owner answers on the connection that it publishes on: so all
//! that comes after the answer's position comes here.

pub mod join;
pub mod lobby;
pub mod presence;
pub mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use pushmesh_bus::{Bus, Message, SubscribeError, Subscription};
use pushmesh_membership::Membership;
use pushmesh_protocol::{
    Instance, RoomId,
    frame::RoomPosition,
    metric::comet as names,
    name::Subject,
    room::{RoomCount, RoomPresence},
    wire,
};
use pushmesh_telemetry::metric::gauge;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    join::{Joiner, Why},
    lobby::{Ask, Lobby, Outcome, Waiting},
    presence::Report,
    table::{Table, ToOpen},
};
use crate::{
    address::Dice,
    queue::Receiver,
    shard::outlet::{JoinRequest, RoomNews},
};

/// Batches of one room that are sorted before another room's.
const IN_A_ROW: usize = 16;
/// News taken in one go.
const NEWS: usize = 256;
/// JOINs that wait to be asked for; more wait in the shards' queue, and then are refused there.
const WAITING_MAX: usize = 65_536;
const TICK: Duration = Duration::from_millis(250);
/// Ticks from one report of changes to the next, and from one whole report to the next.
const CHANGES_EVERY: u64 = 8;
const WHOLES_EVERY: u64 = 40;

pub struct Rooms {
    /// A connection for rooms alone: their frames hold up no push.
    pub bus: Bus,
    pub instance: Instance,
    pub membership: Membership,
    pub table: Table,
    pub joiner: Arc<Joiner>,
    pub lobby: Lobby,
    /// How long a JOIN may take, asks that fail among it.
    pub join_within: Duration,
    pub dice: Dice,
    /// How many rooms there are, for others.
    pub count: Arc<AtomicU32>,
}

/// A room's subscription.
struct Line {
    room: RoomId,
    subscription: Subscription,
    stop: CancellationToken,
}

enum Event {
    News,
    Opened(ToOpen, Result<Subscription, SubscribeError>),
    Came(Line, Message),
    Closed,
    Asked(RoomId, Option<RoomPosition>, Outcome<Why>),
    /// Somebody was told that he is too late.
    Told,
    Due,
    Tick,
}

/// Asks and refusals under way, each a task of its own.
type Asks = FuturesUnordered<BoxFuture<'static, Event>>;

impl Rooms {
    /// Serves until the shards are gone.
    pub async fn run(mut self, mut news: Receiver<RoomNews>) {
        let (mut opening, mut lines, mut asks) = (FuturesUnordered::new(), FuturesUnordered::new(), Asks::new());
        let (mut ticks, mut tick) = (tokio::time::interval(TICK), 0u64);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut taken = Vec::with_capacity(NEWS);
        loop {
            let event = tokio::select! {
                count = news.recv_many(&mut taken, NEWS), if self.lobby.waiting() < WAITING_MAX => match count {
                    0 => return,
                    _ => Event::News,
                },
                Some(event) = opening.next() => event,
                Some(event) = lines.next() => event,
                Some(event) = asks.next() => event,
                () = until(self.lobby.next_due()) => Event::Due,
                _ = ticks.tick() => Event::Tick,
            };
            match event {
                Event::News => {
                    for news in taken.drain(..) {
                        for to_open in self.hear(news) {
                            opening.push(open(self.bus.clone(), to_open));
                        }
                    }
                }
                Event::Opened(to_open, Ok(subscription)) => {
                    if self.table.opened(&to_open) {
                        let ToOpen { room, stop, .. } = to_open;
                        lines.push(next(Line { room, subscription, stop }));
                    }
                }
                Event::Opened(to_open, Err(error)) => self.table.not_opened(&to_open, error.to_string()),
                Event::Came(mut line, first) => {
                    let received = Instant::now();
                    let more = std::iter::from_fn(|| line.subscription.try_next()).take(IN_A_ROW - 1);
                    for message in std::iter::once(first).chain(more) {
                        self.table.route(&line.room, &message.payload, received);
                    }
                    lines.push(next(line));
                    let asked = self.table.presence.answers();
                    self.report(asked).await;
                }
                Event::Asked(room, resume, outcome) => {
                    let late = self.lobby.asked(&room, resume, outcome, Instant::now(), &mut self.dice);
                    asks.extend(late.filter(|(late, _)| !late.is_empty()).map(|(late, why)| self.refuse(late, why)));
                }
                Event::Closed | Event::Told | Event::Due => {}
                Event::Tick => {
                    tick += 1;
                    self.tick(tick).await;
                    let late = self.lobby.late(Instant::now());
                    if !late.is_empty() {
                        asks.push(self.refuse(late, Why::Other("too many JOINs wait".to_owned())));
                    }
                }
            }
            while let Some(ask) = self.lobby.next(Instant::now(), &mut self.dice) {
                asks.push(self.ask(ask));
            }
        }
    }

    fn ask(&self, ask: Ask) -> BoxFuture<'static, Event> {
        let (room, resume) = (ask.room.clone(), ask.resume);
        let serving = AbortOnDropHandle::new(tokio::spawn(self.joiner.clone().serve(ask)));
        Box::pin(async move { Event::Asked(room, resume, serving.await.unwrap_or(Outcome::Lost)) })
    }

    fn refuse(&self, late: Vec<Waiting>, why: Why) -> BoxFuture<'static, Event> {
        let refusing = AbortOnDropHandle::new(tokio::spawn(self.joiner.clone().refuse(late, why)));
        Box::pin(async move {
            // Whether they heard it changes nothing here.
            let _ = refusing.await;
            Event::Told
        })
    }

    fn hear(&mut self, news: RoomNews) -> Vec<ToOpen> {
        match news {
            RoomNews::Join(request) => {
                let (request, now): (JoinRequest, _) = (*request, Instant::now());
                let (listening, to_open) = self.table.join(&request.room, request.from);
                self.lobby.enter(Waiting { request, deadline: now + self.join_within }, listening, now);
                to_open.into_iter().collect()
            }
            RoomNews::Tallies { shard, rooms } => {
                let now = Instant::now();
                rooms.into_iter().filter_map(|tally| self.table.tally(shard, tally, now)).collect()
            }
        }
    }

    async fn tick(&mut self, tick: u64) {
        self.table.tick(Instant::now());
        let count = self.table.rooms();
        gauge(&names::ROOMS).set(count as f64);
        self.count.store(count as u32, Ordering::Relaxed);
        if tick.is_multiple_of(WHOLES_EVERY) {
            let all = self.table.presence.wholes();
            self.report(all).await;
        } else if tick.is_multiple_of(CHANGES_EVERY) {
            let changed = self.table.presence.changes();
            self.report(changed).await;
        }
    }

    async fn report(&mut self, reports: Vec<Report>) {
        for Report { partition, mut whole, rooms } in reports {
            let mut parts = vec![rooms];
            while let Some(rooms) = parts.pop() {
                let told = self.presence(whole, rooms);
                let payload: Bytes = wire::encode(&told).into();
                // A report that is too long for a message goes in parts, and is whole no more.
                if payload.len() > self.bus.max_payload() && told.rooms.len() > 1 {
                    let mut rooms = told.rooms;
                    let half = rooms.split_off(rooms.len() / 2);
                    parts.extend([rooms, half]);
                    whole = false;
                } else if let Err(error) = self.bus.publish(Subject::room_presence(partition), payload).await {
                    // The next whole report mends it.
                    return tracing::debug!(%error, "who is in the rooms is not told");
                }
            }
        }
    }

    fn presence(&self, whole: bool, rooms: Vec<RoomCount>) -> RoomPresence {
        RoomPresence { comet: self.instance.clone(), comet_epoch: self.membership.epoch(), whole, rooms }
    }
}

// Pends for ever where nothing is due.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn open(bus: Bus, to_open: ToOpen) -> Event {
    let subject = Subject::room_frame(to_open.partition, &to_open.room);
    let result = bus.subscribe(subject.into()).await;
    Event::Opened(to_open, result)
}

// Closed: the room is not listened to any more; the subscription ends here.
async fn next(mut line: Line) -> Event {
    let message = tokio::select! {
        biased;
        () = line.stop.cancelled() => None,
        message = line.subscription.next() => message,
    };
    message.map_or(Event::Closed, |message| Event::Came(line, message))
}
