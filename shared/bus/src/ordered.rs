//! Following a stream in order and without a gap: the last message of every subject, then live; or all behind a sequence.
//!
//! An ephemeral push consumer with flow control. A gap in its numbers, its silence, its end or a reconnect make it anew:
//! with a full snapshot, since what happened in between might be gone from the stream; or behind the last message read.

mod source;

use std::{collections::VecDeque, time::Duration};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use pushmesh_protocol::{message::Millis, name::Stream};
use tokio::{sync::mpsc, time::Instant};

use crate::{Bus, api::CallError, backoff::Backoff};
use source::{Broken, Source};
pub(crate) use source::{Origin, nanos};

/// Idle, the server says so this often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// So long without a word, and the consumer is made anew.
const SILENCE: Duration = Duration::from_secs(5);
/// This task looked so much later than it wanted to: it was not scheduled, and what came meanwhile may still lie unread.
const LATE: Duration = Duration::from_millis(500);
/// Events between the task that reads and whoever consumes; behind it flow control holds the server back.
const EVENTS_MAX: usize = 1024;
/// Messages read in one turn beside the first.
const TURN_MAX: usize = 255;

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the last message of every subject: at first and whenever it is made anew.
    LastPerSubject,
    /// Behind a sequence; made anew, behind the last message read.
    After(u64),
}

#[derive(Debug)]
pub(crate) enum Event {
    Item(Item),
    /// All that was stored when the watch began (or began again) has been told. Behind a sequence: once.
    CaughtUp,
    /// A snapshot follows again.
    Restarted,
    /// Behind a sequence: the stream's first message is `first`; some between may be gone from it.
    Missing {
        after: u64,
        first: u64,
    },
    /// Behind a sequence: the stream begins anew, and so does what follows.
    Anew,
    /// Nothing of the filter lies between the last item and this sequence.
    Reached(u64),
}

#[derive(Debug)]
pub(crate) struct Item {
    pub subject: String,
    pub payload: Bytes,
    pub headers: Option<HeaderMap>,
    pub sequence: u64,
    pub at: Millis,
}

/// Begins to follow; fails only if the first consumer can't be made.
pub(crate) async fn follow(
    bus: &Bus,
    stream: Stream,
    filter: String,
    begin: Begin,
) -> Result<mpsc::Receiver<Event>, CallError> {
    let connections = bus.inner.health.borrow().connections;
    let mut place = Place { begin, created: None, opened: false, caught_up: false };
    let mut queue = VecDeque::new();
    let deadline = Instant::now() + bus.inner.config.outage_hold;
    let source = place.open(bus, &stream, &filter, deadline, &mut queue).await?;
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let follower = Follower { bus: bus.clone(), stream, filter, place, events, source, connections, queue };
    let stop = bus.inner.stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(follower.run()).await });
    Ok(received)
}

struct Follower {
    bus: Bus,
    stream: Stream,
    filter: String,
    place: Place,
    events: mpsc::Sender<Event>,
    source: Source,
    /// The connection that `source` was made on.
    connections: u64,
    /// Read and not handed on yet: read at once, since a full subscription would drop the newest. Flow control bounds it.
    queue: VecDeque<Queued>,
}

enum Turn {
    Read(Option<async_nats::Message>),
    HandOn,
    Nobody,
    Silent,
    Connection,
}

enum Queued {
    Event(Event),
    /// Asked by the server when enough is on its way; answered when all before it was handed on.
    FlowControl(async_nats::Subject),
}

impl Follower {
    async fn run(mut self) {
        let mut health = self.bus.health();
        loop {
            let turn = tokio::select! {
                // Silence comes last: it is none while something is to be read.
                biased;
                room = self.events.reserve(), if !self.queue.is_empty() => match room {
                    Ok(_) => Turn::HandOn,
                    Err(_) => Turn::Nobody,
                },
                message = self.source.subscriber.next() => Turn::Read(message),
                () = self.events.closed() => Turn::Nobody,
                _ = health.changed() => Turn::Connection,
                () = tokio::time::sleep_until(self.source.heard + SILENCE) => Turn::Silent,
            };
            let broken = match turn {
                Turn::Read(Some(message)) => self.read(message).is_err(),
                Turn::HandOn => {
                    self.hand_on().await;
                    false
                }
                Turn::Silent if self.source.heard.elapsed() >= SILENCE + LATE => {
                    // A busy process that makes its watches anew is busier still.
                    self.source.heard += self.source.heard.elapsed() - SILENCE + HEARTBEAT + LATE;
                    false
                }
                Turn::Silent => true,
                Turn::Connection => {
                    let now = health.borrow_and_update().clone();
                    if now.closed {
                        return;
                    }
                    now.connected && now.connections != self.connections
                }
                Turn::Read(None) => return,
                Turn::Nobody => break,
            };
            if broken && !self.restart().await {
                break;
            }
        }
        self.source.delete(&self.bus, &self.stream).await;
    }

    /// A message, and those that are already here: one turn for many.
    fn read(&mut self, first: async_nats::Message) -> Result<(), Broken> {
        self.source.apply(first, &mut self.queue)?;
        for _ in 0..TURN_MAX {
            match self.source.subscriber.next().now_or_never() {
                Some(Some(message)) => self.source.apply(message, &mut self.queue)?,
                // The end, if it is one, is seen by the next turn.
                Some(None) | None => break,
            }
        }
        Ok(())
    }

    /// Hands on what there is room for.
    async fn hand_on(&mut self) {
        while !self.queue.is_empty() {
            let Ok(room) = self.events.try_reserve() else { return };
            match self.queue.pop_front() {
                Some(Queued::Event(event)) => room.send(event),
                // Unanswered, the server stalls, and says so in its heartbeat.
                Some(Queued::FlowControl(to)) => {
                    let answer = self.bus.inner.client.publish(to, Bytes::new());
                    let _ = tokio::time::timeout(HEARTBEAT, answer).await;
                }
                None => {}
            }
        }
    }

    /// `false` when nobody listens any more.
    async fn restart(&mut self) -> bool {
        self.bus.inner.metrics.watch_restarts.increment(1);
        self.queue.retain(|queued| matches!(queued, Queued::Event(_)));
        self.source.delete(&self.bus, &self.stream).await;
        self.place.leave(&self.source);
        let mut backoff = Backoff::new(Duration::from_secs(5));
        loop {
            let mut health = self.bus.health();
            tokio::select! {
                _ = health.wait_for(|health| health.connected) => {}
                () = self.events.closed() => return false,
            }
            self.connections = health.borrow_and_update().connections;
            // Many may begin anew together, and each waits for its turn.
            let deadline = Instant::now() + self.bus.inner.config.outage_hold;
            let opened = tokio::select! {
                opened = self.place.open(&self.bus, &self.stream, &self.filter, deadline, &mut self.queue) => opened,
                () = self.events.closed() => return false,
            };
            match opened {
                Ok(source) => {
                    self.source = source;
                    return true;
                }
                Err(error) => {
                    tracing::warn!(stream = %self.stream, filter = %self.filter, %error, "a watch can't go on; trying again");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }
}

/// How far a follower is: what outlives its consumers.
struct Place {
    begin: Begin,
    /// When the stream was made that a sequence belongs to.
    created: Option<Millis>,
    /// Whether there was a consumer before.
    opened: bool,
    /// Whether that was told.
    caught_up: bool,
}

impl Place {
    /// Makes the next consumer; what is to be said of it goes into the queue, before its messages.
    async fn open(
        &mut self,
        bus: &Bus,
        stream: &Stream,
        filter: &str,
        deadline: Instant,
        queue: &mut VecDeque<Queued>,
    ) -> Result<Source, CallError> {
        let mut source = Source::create(bus, stream, filter, self.begin, deadline).await?;
        let mut tell = |event| queue.push_back(Queued::Event(event));
        match self.begin {
            Begin::LastPerSubject if self.opened => tell(Event::Restarted),
            Begin::LastPerSubject => {}
            Begin::After(after) => {
                // Asked after it was made: what goes from the stream in between is told as missing though it may not be.
                let state = bus.stream_state_until(stream, deadline).await?;
                let is_same = self.created.is_none_or(|created| created == state.created) && state.last >= after;
                self.created = Some(state.created);
                if !is_same {
                    source.delete(bus, stream).await;
                    self.begin = Begin::After(0);
                    tell(Event::Anew);
                    source = Source::create(bus, stream, filter, self.begin, deadline).await?;
                } else if after > 0 && state.first > after + 1 {
                    tell(Event::Missing { after, first: state.first });
                }
                source.caught_up = self.caught_up;
            }
        }
        self.opened = true;
        // An empty snapshot is complete at once.
        if source.waiting == 0 {
            source.catch_up(queue);
        }
        Ok(source)
    }

    /// What a consumer got to.
    fn leave(&mut self, source: &Source) {
        if let Begin::After(after) = &mut self.begin {
            *after = source.sequence.max(*after);
            self.caught_up = source.caught_up;
        }
    }
}
