//! The task that pulls a partition's messages and keeps its pin.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_nats::{StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use pushmesh_protocol::{
    name::{Consumer, Stream, Subject},
    topology::PIN_GROUP,
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Delivered,
    ledger::{Ledger, Seen},
};
use crate::{
    Acker, Bus,
    api::{CallError, subject},
    backoff::{Backoff, jitter},
    core::trace_of,
    ordered::{Origin, nanos},
};

/// A pull request lives this long: well below the time after which a silent client loses its pin.
const EXPIRES: Duration = Duration::from_secs(8);
/// A request older than this is counted on no more, and followed by another: the server says that one expired only with
/// its next heartbeat, and a message that came in between would wait for it.
const FRESH: Duration = Duration::from_secs(4);
/// While a pull request waits, the server says so this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// So long without a word although a request waits, and it is taken for lost.
const SILENCE: Duration = Duration::from_millis(2500);
/// Messages handed on and not yet taken by the owner.
const HANDED_ON_MAX: usize = 64;
/// Messages read in one turn beside the first.
const TURN_MAX: usize = 255;

pub(super) async fn start(
    bus: &Bus,
    stream: Arc<Stream>,
    consumer: Consumer,
    release: CancellationToken,
    abandon: CancellationToken,
) -> Result<mpsc::Receiver<Delivered>, CallError> {
    let (inbox, subscriber) = new_inbox(bus).await?;
    let (handed_on, messages) = mpsc::channel(HANDED_ON_MAX);
    let puller = Puller {
        next: subject::consumer_next(&stream, &consumer),
        prefetch: bus.inner.config.prefetch,
        connections: bus.inner.health.borrow().connections,
        bus: bus.clone(),
        stream,
        consumer,
        inbox,
        handed_on,
        pulls: Pulls::new(Instant::now()),
        queue: VecDeque::new(),
        backoff: Backoff::new(Duration::from_secs(1)),
        ledger: Arc::default(),
        last: None,
    };
    tokio::spawn(async move { abandon.run_until_cancelled(puller.run(subscriber, release)).await });
    Ok(messages)
}

async fn new_inbox(bus: &Bus) -> Result<(Subject, Subscriber), CallError> {
    let inbox = bus.inner.replies.own_subject();
    let subscribe = bus.inner.client.subscribe(inbox.as_str().to_owned());
    let subscribed = tokio::time::timeout(Duration::from_secs(2), subscribe).await.map_err(|_| CallError::Timeout)?;
    Ok((inbox, subscribed.map_err(|_| CallError::Lost)?))
}

struct Puller {
    bus: Bus,
    stream: Arc<Stream>,
    consumer: Consumer,
    next: String,
    inbox: Subject,
    prefetch: usize,
    connections: u64,
    handed_on: mpsc::Sender<Delivered>,
    pulls: Pulls,
    /// Fetched and not handed on. The consumer's `max_ack_pending` bounds it.
    queue: VecDeque<Delivered>,
    backoff: Backoff,
    ledger: Arc<Ledger>,
    /// The consumer's number of the last delivery; `None` after a reset.
    last: Option<u64>,
}

/// What is asked of the server, as far as this side knows. Pure.
#[derive(Debug)]
struct Pulls {
    /// What was asked for and is not delivered, the oldest first: the server serves it so.
    requests: VecDeque<Request>,
    pin: Option<String>,
    heard: Instant,
    /// When the pin is to be renewed, whatever else happens.
    renew: Instant,
    /// Nothing is asked before.
    not_before: Instant,
}

/// A pull request under way.
#[derive(Debug)]
struct Request {
    left: usize,
    fresh_until: Instant,
}

enum Event {
    Message(Option<async_nats::Message>),
    Room,
    Tick,
    Connection,
    Release,
    Nobody,
}

impl Puller {
    async fn run(mut self, mut subscriber: Subscriber, release: CancellationToken) {
        let mut health = self.bus.health();
        loop {
            let now = Instant::now();
            let connected = self.bus.inner.health.borrow().connected;
            if let Some(batch) = self.pulls.wanted(now, self.queue.len(), self.prefetch).filter(|_| connected) {
                self.pull(batch).await;
            }
            let wake = self.pulls.wake(self.queue.len() < self.prefetch);
            let event = tokio::select! {
                () = release.cancelled() => Event::Release,
                message = subscriber.next() => Event::Message(message),
                room = self.handed_on.reserve(), if !self.queue.is_empty() => match room {
                    Ok(_) => Event::Room,
                    Err(_) => Event::Nobody,
                },
                () = self.handed_on.closed(), if self.queue.is_empty() => Event::Nobody,
                _ = health.changed() => Event::Connection,
                // Disconnected there is nothing to ask: the connection's return wakes it.
                () = tokio::time::sleep_until(wake), if connected => Event::Tick,
            };
            match event {
                Event::Message(Some(message)) => {
                    if self.received_all(message, &mut subscriber).is_err() {
                        release.run_until_cancelled(self.begin_anew(&mut subscriber)).await;
                    }
                    self.hand_on();
                }
                Event::Room => self.hand_on(),
                Event::Tick => {}
                Event::Connection => {
                    let health = health.borrow_and_update().clone();
                    if health.closed {
                        return;
                    }
                    if health.connected && health.connections != self.connections {
                        release.run_until_cancelled(self.begin_anew(&mut subscriber)).await;
                    }
                }
                Event::Release => {
                    // Without interest the server sends nothing more to this inbox.
                    let _ = tokio::time::timeout(Duration::from_secs(1), subscriber.unsubscribe()).await;
                    while let Some(Some(message)) = subscriber.next().now_or_never() {
                        let _ = self.received(message);
                    }
                    for left in self.queue.drain(..) {
                        left.acker.retry_after(Duration::ZERO);
                    }
                    return;
                }
                Event::Message(None) | Event::Nobody => return,
            }
        }
    }

    /// Deliveries were lost, with a connection or otherwise: sets the consumer back, so that they come at once and in
    /// order. Unless another client has the partition now: then this one only waits in standby.
    async fn begin_anew(&mut self, subscriber: &mut Subscriber) {
        loop {
            self.connections = self.bus.inner.health.borrow().connections;
            // What was asked for before goes to an inbox that nobody reads any more.
            match new_inbox(&self.bus).await {
                Ok((inbox, anew)) => (self.inbox, *subscriber) = (inbox, anew),
                Err(_) => {
                    if self.bus.inner.health.borrow().closed {
                        return;
                    }
                    tokio::time::sleep(self.backoff.pause()).await;
                    continue;
                }
            }
            self.queue.clear();
            self.last = None;
            self.pulls.forget(Instant::now());
            match self.set_back().await {
                Ok(()) => return self.backoff.reset(),
                Err(error) => {
                    tracing::warn!(stream = %self.stream, consumer = %self.consumer, %error, "a partition can't go on; trying again");
                    tokio::time::sleep(self.backoff.pause()).await;
                }
            }
        }
    }

    async fn set_back(&mut self) -> Result<(), CallError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let info = self.bus.consumer_info(&self.stream, &self.consumer, deadline).await?;
        let others = info.pinned().is_some_and(|pin| self.pulls.pin.as_deref() != Some(pin));
        if info.num_ack_pending > 0 && !others {
            self.bus.reset(&self.stream, &self.consumer, deadline).await?;
        }
        Ok(())
    }

    async fn pull(&mut self, batch: usize) {
        let mut request = json!({
            "batch": batch,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(HEARTBEAT),
            "group": PIN_GROUP,
        });
        if let Some(pin) = &self.pulls.pin {
            request["id"] = pin.as_str().into();
        }
        let payload = Bytes::from(request.to_string());
        let publish =
            self.bus.inner.client.publish_with_reply(self.next.clone(), self.inbox.as_str().to_owned(), payload);
        let now = Instant::now();
        match tokio::time::timeout(Duration::from_secs(1), publish).await {
            Ok(Ok(())) => self.pulls.said(batch, now),
            Ok(Err(_)) | Err(_) => self.pulls.pause(now + self.backoff.pause()),
        }
    }

    /// Hands on what there is room for.
    fn hand_on(&mut self) {
        while !self.queue.is_empty() {
            let Ok(room) = self.handed_on.try_reserve() else { return };
            let Some(delivered) = self.queue.pop_front() else { return };
            room.send(delivered);
        }
    }

    /// A message, and those that are already here: one turn for many.
    fn received_all(&mut self, first: async_nats::Message, subscriber: &mut Subscriber) -> Result<(), Gap> {
        self.received(first)?;
        for _ in 0..TURN_MAX {
            match subscriber.next().now_or_never() {
                Some(Some(message)) => self.received(message)?,
                // The end, if it is one, is seen by the next turn.
                Some(None) | None => break,
            }
        }
        Ok(())
    }

    fn received(&mut self, message: async_nats::Message) -> Result<(), Gap> {
        let now = Instant::now();
        self.pulls.heard = now;
        match message.status {
            None | Some(StatusCode::OK) => {
                self.backoff.reset();
                let Some(reply) = message.reply.clone() else { return Ok(()) };
                let Some(origin) = Origin::parse(&reply) else { return Ok(()) };
                self.pulls.delivered(&message);
                let before = self.last.replace(origin.consumer_sequence);
                if before.is_some_and(|before| origin.consumer_sequence > before + 1) {
                    return Err(Gap);
                }
                let claim = match self.ledger.note(origin.stream_sequence) {
                    (Seen::New, Some(claim)) => claim,
                    (Seen::Acked, _) => {
                        self.bus.inner.acks.ack_again(reply);
                        return Ok(());
                    }
                    (Seen::Held | Seen::New, _) => return Ok(()),
                };
                self.queue.push_back(Delivered {
                    trace: trace_of(message.headers.as_ref()),
                    acker: Acker::new(reply, self.bus.inner.acks.clone(), claim),
                    subject: message.subject.into_string(),
                    payload: message.payload,
                    sequence: origin.stream_sequence,
                    attempt: origin.attempt,
                    at: origin.at,
                    pending: origin.pending,
                    stream: self.stream.clone(),
                });
            }
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(StatusCode::PIN_ID_MISMATCH) => {
                // Another client took the partition over, or the pin ran out while this process was stopped. From now
                // on this one waits in standby; whether the partition is still ours is the lease's to say.
                if self.pulls.pin.take().is_some() {
                    self.bus.inner.metrics.pins_lost.increment(1);
                    tracing::warn!(stream = %self.stream, consumer = %self.consumer, "another client is pinned to this partition");
                }
                self.pulls.forget(now);
                self.pulls.pause(now + Duration::from_millis(50) + jitter(Duration::from_millis(50)));
            }
            // A request that is counted on no more has expired.
            Some(StatusCode::TIMEOUT) => {}
            Some(StatusCode::REQUEST_TERMINATED) => {
                // Server going down, leader gone, consumer deleted, limits: asking at once would spin.
                self.pulls.forget(now);
                self.pulls.pause(now + self.backoff.pause());
            }
            Some(StatusCode::NO_RESPONDERS) => {
                self.pulls.forget(now);
                self.pulls.pause(now + self.backoff.pause());
            }
            Some(status) => {
                tracing::warn!(stream = %self.stream, consumer = %self.consumer, %status, reason = ?message.description, "unexpected status of a pull");
                self.pulls.forget(now);
                self.pulls.pause(now + self.backoff.pause());
            }
        }
        Ok(())
    }
}

/// A delivery between the last one and this one did not arrive.
struct Gap;

impl Pulls {
    fn new(now: Instant) -> Self {
        Self { requests: VecDeque::new(), pin: None, heard: now, renew: now, not_before: now }
    }

    /// Messages that may come without asking for more.
    fn asked(&self) -> usize {
        self.requests.iter().map(|request| request.left).sum()
    }

    /// How many messages to ask for now, with `queued` waiting here.
    fn wanted(&mut self, now: Instant, queued: usize, prefetch: usize) -> Option<usize> {
        if now < self.not_before {
            return None;
        }
        if now >= self.heard + SILENCE {
            self.requests.clear();
        }
        while self.requests.front().is_some_and(|oldest| oldest.fresh_until <= now) {
            self.requests.pop_front();
        }
        let asked = self.asked();
        let room = prefetch.saturating_sub(asked + queued);
        if room > 0 && (asked == 0 || room >= prefetch.div_ceil(2)) {
            return Some(room);
        }
        // A slow owner must not lose its pin: one message more, whatever is here.
        (now >= self.renew).then_some(1)
    }

    /// When to look again if nothing happens.
    fn wake(&self, room: bool) -> Instant {
        let Some(oldest) = self.requests.front() else {
            return if room { self.not_before } else { self.renew.max(self.not_before) };
        };
        oldest.fresh_until.min(self.heard + SILENCE).min(self.renew).max(self.not_before)
    }

    fn said(&mut self, batch: usize, now: Instant) {
        if self.requests.is_empty() {
            self.heard = now;
        }
        self.requests.push_back(Request { left: batch, fresh_until: now + FRESH });
        self.renew = now + FRESH;
    }

    fn delivered(&mut self, message: &async_nats::Message) {
        self.one_less();
        if let Some(pin) = message.headers.as_ref().and_then(|headers| headers.get_last("Nats-Pin-Id"))
            && self.pin.as_deref() != Some(pin.as_str())
        {
            self.pin = Some(pin.as_str().to_owned());
        }
    }

    fn one_less(&mut self) {
        if let Some(oldest) = self.requests.front_mut() {
            oldest.left -= 1;
            if oldest.left == 0 {
                self.requests.pop_front();
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        self.requests.clear();
        self.renew = now;
    }

    fn pause(&mut self, until: Instant) {
        self.not_before = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_half_a_prefetch_at_a_time_and_renews_the_pin_of_a_slow_owner() {
        let start = Instant::now();
        let mut pulls = Pulls::new(start);
        assert_eq!(pulls.wanted(start, 0, 8), Some(8));
        pulls.said(8, start);
        assert_eq!(pulls.wanted(start, 0, 8), None);
        (0..3).for_each(|_| pulls.one_less());
        assert_eq!(pulls.wanted(start, 0, 8), None);
        pulls.one_less();
        assert_eq!(pulls.wanted(start, 0, 8), Some(4));
        // All delivered, nothing taken: only the pin is renewed.
        (0..4).for_each(|_| pulls.one_less());
        assert_eq!(pulls.wanted(start, 8, 8), None);
        pulls.heard = start + FRESH;
        assert_eq!(pulls.wanted(start + FRESH, 8, 8), Some(1));
    }

    #[test]
    fn asks_anew_before_the_server_lets_a_request_expire() {
        let start = Instant::now();
        let mut pulls = Pulls::new(start);
        pulls.said(8, start);
        assert_eq!(pulls.wake(true), start + SILENCE);
        // The server is heard all the time.
        pulls.heard = start + FRESH;
        assert_eq!(pulls.wake(true), start + FRESH);
        assert_eq!(pulls.wanted(start + FRESH, 0, 8), Some(8));
        assert!(FRESH < EXPIRES);
    }

    #[test]
    fn silence_means_that_the_requests_are_lost() {
        let start = Instant::now();
        let mut pulls = Pulls::new(start);
        pulls.said(8, start);
        assert_eq!(pulls.wanted(start + HEARTBEAT, 0, 8), None);
        assert_eq!(pulls.wanted(start + SILENCE, 0, 8), Some(8));
        pulls.pause(start + 2 * SILENCE);
        assert_eq!(pulls.wanted(start + SILENCE, 0, 8), None);
    }
}
