//! Following a stream: the last message of every subject, then live, in order, without a gap.
//!
//! An ephemeral push consumer with flow control. A gap in its numbers, its silence, its end or a reconnect make it anew,
//! with a full snapshot: what happened in between might be gone from the stream.

use std::{collections::VecDeque, time::Duration};

use async_nats::{HeaderMap, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use pushmesh_protocol::{message::Millis, name::Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Bus,
    api::{CallError, Tries, subject},
    backoff::{Backoff, random_token},
};

/// Idle, the server says so this often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// So long without a word, and the consumer is made anew.
const SILENCE: Duration = Duration::from_secs(5);
/// The server deletes a consumer that nobody listens to after this.
const INACTIVE: Duration = Duration::from_secs(30);
/// Events between the task that reads and whoever consumes; behind it flow control holds the server back.
const EVENTS_MAX: usize = 1024;
/// Messages read in one turn beside the first.
const TURN_MAX: usize = 255;

#[derive(Debug)]
pub(crate) enum Event {
    Item(Item),
    /// All that was stored when the watch began (or began again) has been told.
    CaughtUp,
    Restarted,
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
pub(crate) async fn follow(bus: &Bus, stream: Stream, filter: String) -> Result<mpsc::Receiver<Event>, CallError> {
    let connections = bus.inner.health.borrow().connections;
    let source = Source::create(bus, &stream, &filter, Instant::now() + bus.inner.config.outage_hold).await?;
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let follower = Follower { bus: bus.clone(), stream, filter, events, source, connections, queue: VecDeque::new() };
    let stop = bus.inner.stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(follower.run()).await });
    Ok(received)
}

struct Follower {
    bus: Bus,
    stream: Stream,
    filter: String,
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
        self.begin();
        let mut health = self.bus.health();
        loop {
            let turn = tokio::select! {
                message = self.source.subscriber.next() => Turn::Read(message),
                room = self.events.reserve(), if !self.queue.is_empty() => match room {
                    Ok(_) => Turn::HandOn,
                    Err(_) => Turn::Nobody,
                },
                () = self.events.closed() => Turn::Nobody,
                () = tokio::time::sleep_until(self.source.heard + SILENCE) => Turn::Silent,
                _ = health.changed() => Turn::Connection,
            };
            let broken = match turn {
                Turn::Read(Some(message)) => self.read(message).is_err(),
                Turn::HandOn => {
                    self.hand_on().await;
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

    /// The consumer's first word: an empty snapshot is complete at once.
    fn begin(&mut self) {
        if self.source.waiting == 0 {
            self.source.caught_up = true;
            self.queue.push_back(Queued::Event(Event::CaughtUp));
        }
    }

    /// `false` when nobody listens any more.
    async fn restart(&mut self) -> bool {
        self.bus.inner.metrics.watch_restarts.increment(1);
        self.queue.retain(|queued| matches!(queued, Queued::Event(_)));
        self.source.delete(&self.bus, &self.stream).await;
        let mut backoff = Backoff::new(Duration::from_secs(5));
        loop {
            let mut health = self.bus.health();
            tokio::select! {
                _ = health.wait_for(|health| health.connected) => {}
                () = self.events.closed() => return false,
            }
            self.connections = health.borrow_and_update().connections;
            let deadline = Instant::now() + Duration::from_secs(3);
            let created = tokio::select! {
                created = Source::create(&self.bus, &self.stream, &self.filter, deadline) => created,
                () = self.events.closed() => return false,
            };
            match created {
                Ok(source) => {
                    self.source = source;
                    self.queue.push_back(Queued::Event(Event::Restarted));
                    self.begin();
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

/// One ephemeral consumer and its subscription.
struct Source {
    name: String,
    subscriber: Subscriber,
    /// Of its numbers, the last received.
    last: u64,
    /// Messages of the snapshot when it was made.
    waiting: u64,
    caught_up: bool,
    heard: Instant,
}

/// The consumer's numbers have a gap, or it is gone.
struct Broken;

impl Source {
    async fn create(bus: &Bus, stream: &Stream, filter: &str, deadline: Instant) -> Result<Source, CallError> {
        #[derive(Deserialize)]
        struct Created {
            num_pending: u64,
            delivered: super::api::SequencePair,
        }
        let mut tries = Tries::until(deadline);
        let deliver_to = bus.inner.replies.own_subject();
        let subscribe = bus.inner.client.subscribe(deliver_to.as_str().to_owned());
        let subscribed = tokio::time::timeout(tries.this_try(Duration::from_secs(2)), subscribe).await;
        let subscriber = subscribed.map_err(|_| CallError::Timeout)?.map_err(|_| CallError::Lost)?;
        loop {
            // A new name for every try: one that timed out may have made its consumer.
            let name = random_token();
            let request = json!({
                "stream_name": stream.as_str(),
                "action": "create",
                "config": {
                    "name": name,
                    "deliver_subject": deliver_to.as_str(),
                    "deliver_policy": "last_per_subject",
                    "filter_subject": filter,
                    "ack_policy": "none",
                    "replay_policy": "instant",
                    "max_deliver": 1,
                    "flow_control": true,
                    "idle_heartbeat": nanos(HEARTBEAT),
                    "inactive_threshold": nanos(INACTIVE),
                    "num_replicas": 1,
                    "mem_storage": true,
                },
            });
            let create = subject::consumer_create(stream, &name, filter);
            let once = Instant::now() + tries.this_try(Duration::from_secs(3));
            match bus.call::<Created>(&create, request.to_string(), once).await {
                Ok(created) => {
                    // It may have begun to deliver before it answered.
                    let waiting = created.num_pending + created.delivered.consumer_seq;
                    let heard = Instant::now();
                    return Ok(Source { name, subscriber, last: 0, waiting, caught_up: false, heard });
                }
                Err(error) if !error.is_passing() => return Err(error),
                Err(error) => {
                    if !tries.again(bus).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn apply(&mut self, message: async_nats::Message, queue: &mut VecDeque<Queued>) -> Result<(), Broken> {
        self.heard = Instant::now();
        match message.status {
            Some(StatusCode::IDLE_HEARTBEAT) => {
                if let Some(reply) = message.reply {
                    queue.push_back(Queued::FlowControl(reply));
                    return Ok(());
                }
                let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name));
                if let Some(stalled) = header("Nats-Consumer-Stalled") {
                    queue.push_back(Queued::FlowControl(stalled.as_str().into()));
                }
                let said = header("Nats-Last-Consumer").and_then(|value| value.as_str().parse().ok());
                if said.is_some_and(|said: u64| said != self.last) {
                    return Err(Broken);
                }
                // Idle and nothing missing: what was still counted as waiting has been deleted since.
                self.catch_up(queue);
                Ok(())
            }
            Some(StatusCode::OK) | None => {
                let origin = message.reply.as_deref().and_then(Origin::parse).ok_or(Broken)?;
                if origin.consumer_sequence != self.last + 1 {
                    return Err(Broken);
                }
                self.last = origin.consumer_sequence;
                queue.push_back(Queued::Event(Event::Item(Item {
                    subject: message.subject.into_string(),
                    payload: message.payload,
                    headers: message.headers,
                    sequence: origin.stream_sequence,
                    at: origin.at,
                })));
                if origin.pending == 0 {
                    self.catch_up(queue);
                }
                Ok(())
            }
            Some(_) => Err(Broken),
        }
    }

    fn catch_up(&mut self, queue: &mut VecDeque<Queued>) {
        if !self.caught_up {
            self.caught_up = true;
            queue.push_back(Queued::Event(Event::CaughtUp));
        }
    }

    /// Best effort: unheard, the server deletes it by itself after [`INACTIVE`].
    async fn delete(&self, bus: &Bus, stream: &Stream) {
        let delete = bus.inner.client.publish(subject::consumer_delete(stream, &self.name), Bytes::new());
        let _ = tokio::time::timeout(Duration::from_millis(100), delete).await;
    }
}

/// What a delivered message's reply subject tells:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, on newer servers with
/// `<domain>.<account>` after `ACK` and a token at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// 1 at the first delivery.
    pub attempt: u64,
    pub stream_sequence: u64,
    pub consumer_sequence: u64,
    pub at: Millis,
    /// Messages of the consumer behind this one.
    pub pending: u64,
}

impl Origin {
    pub(crate) fn parse(reply: &str) -> Option<Origin> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let tokens = rest.split('.').count();
        let skip = if tokens == 7 { 2 } else { 4 };
        let mut numbers = rest.split('.').skip(skip).map(|token| token.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Origin {
            attempt: next()?,
            stream_sequence: next()?,
            consumer_sequence: next()?,
            at: next()? / 1_000_000,
            pending: next()?,
        })
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_a_reply_subject() {
        let short = "$JS.ACK.LOGIN.p7.1.42.9.1795234567891000000.3";
        let long = "$JS.ACK._.ACCHASH.LOGIN.p7.1.42.9.1795234567891000000.3.token";
        let origin =
            Origin { attempt: 1, stream_sequence: 42, consumer_sequence: 9, at: 1_795_234_567_891, pending: 3 };
        assert_eq!(Origin::parse(short), Some(origin));
        assert_eq!(Origin::parse(long), Some(origin));
        assert_eq!(Origin::parse("_INBOX.x"), None);
    }
}
