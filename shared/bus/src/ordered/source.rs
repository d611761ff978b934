//! One ephemeral consumer, and what its messages' reply subjects tell.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::{StatusCode, Subscriber};
use bytes::Bytes;
use pushmesh_protocol::{message::Millis, name::Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{Begin, Event, HEARTBEAT, Item, Queued};
use crate::{
    Bus,
    api::{CallError, SequencePair, subject},
    backoff::random_token,
};

/// The server deletes a consumer that nobody listens to after this.
const INACTIVE: Duration = Duration::from_secs(30);

/// How long queueing its subscription may take.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(2);
/// How long saying that a consumer is no longer needed may take.
const DELETE_WITHIN: Duration = Duration::from_millis(100);

/// One ephemeral consumer and its subscription.
pub(super) struct Source {
    name: String,
    pub subscriber: Subscriber,
    /// Of its numbers, the last received.
    last: u64,
    /// Of the stream's sequences, the last received, or the one it began behind.
    pub sequence: u64,
    /// It began behind a sequence: how far it has looked matters.
    is_behind_sequence: bool,
    /// Messages that were stored when it was made.
    pub waiting: u64,
    pub caught_up: bool,
    pub heard: Instant,
}

/// A consumer that nobody reads yet: dropped once it was asked for, it is deleted.
struct Unclaimed<'a> {
    bus: &'a Bus,
    stream: &'a Stream,
    name: String,
    asked: AtomicBool,
}

impl Unclaimed<'_> {
    fn claim(mut self) -> String {
        std::mem::take(&mut self.name)
    }
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.name.is_empty() || !*self.asked.get_mut() {
            return;
        }
        let (client, delete) = (self.bus.inner.client.clone(), subject::consumer_delete(self.stream, &self.name));
        // Best effort, as with one that was read.
        runtime.spawn(async move {
            let _ = tokio::time::timeout(DELETE_WITHIN, client.publish(delete, Bytes::new())).await;
        });
    }
}

/// The consumer's numbers have a gap, or it is gone.
pub(super) struct Broken;

impl Source {
    pub async fn create(
        bus: &Bus,
        stream: &Stream,
        filter: &str,
        begin: Begin,
        deadline: Instant,
    ) -> Result<Source, CallError> {
        #[derive(Deserialize)]
        struct Created {
            num_pending: u64,
            delivered: SequencePair,
        }
        let deliver_to = bus.inner.replies.own_subject();
        let subscribe = bus.inner.client.subscribe(deliver_to.as_str().to_owned());
        let subscribed = tokio::time::timeout(SUBSCRIBE_WITHIN, subscribe).await;
        let subscriber = subscribed.map_err(|_| CallError::Timeout)?.map_err(|_| CallError::Lost)?;
        // A try that was not answered in time may have made it, or be about to: the next one finds it there, and all that it
        // sends goes to the same place. If some of that was lost with a connection, the numbers have a gap.
        let unclaimed = Unclaimed { bus, stream, name: random_token(), asked: AtomicBool::new(false) };
        let name = unclaimed.name.as_str();
        let request = json!({
            "stream_name": stream.as_str(),
            "action": "create",
            "config": config(name, deliver_to.as_str(), filter, begin),
        });
        let request = Bytes::from(request.to_string());
        let say = || {
            unclaimed.asked.store(true, Ordering::Relaxed);
            request.clone()
        };
        let create = subject::consumer_create(stream, name, filter);
        let created: Created = bus.call_in_turn(&create, say, deadline).await?;
        let (is_behind_sequence, sequence) = match begin {
            Begin::LastPerSubject => (false, 0),
            Begin::After(sequence) => (true, sequence),
        };
        Ok(Source {
            name: unclaimed.claim(),
            subscriber,
            last: 0,
            sequence,
            is_behind_sequence,
            // It may have begun to deliver before it answered.
            waiting: created.num_pending + created.delivered.consumer_seq,
            caught_up: false,
            heard: Instant::now(),
        })
    }

    pub fn apply(&mut self, message: async_nats::Message, queue: &mut VecDeque<Queued>) -> Result<(), Broken> {
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
                // The server has looked so far, and found nothing else of the filter.
                let looked = header("Nats-Last-Stream").and_then(|value| value.as_str().parse().ok());
                if let Some(sequence) = looked.filter(|sequence| self.is_behind_sequence && *sequence > self.sequence) {
                    self.sequence = sequence;
                    queue.push_back(Queued::Event(Event::Reached(sequence)));
                }
                Ok(())
            }
            Some(StatusCode::OK) | None => {
                let origin = message.reply.as_deref().and_then(Origin::parse).ok_or(Broken)?;
                if origin.consumer_sequence != self.last + 1 {
                    return Err(Broken);
                }
                self.last = origin.consumer_sequence;
                self.sequence = origin.stream_sequence;
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

    pub fn catch_up(&mut self, queue: &mut VecDeque<Queued>) {
        if !self.caught_up {
            self.caught_up = true;
            queue.push_back(Queued::Event(Event::CaughtUp));
        }
    }

    /// Best effort: unheard, the server deletes it by itself after [`INACTIVE`].
    pub async fn delete(&self, bus: &Bus, stream: &Stream) {
        let delete = bus.inner.client.publish(subject::consumer_delete(stream, &self.name), Bytes::new());
        let _ = tokio::time::timeout(DELETE_WITHIN, delete).await;
    }
}

fn config(name: &str, deliver_to: &str, filter: &str, begin: Begin) -> serde_json::Value {
    let mut config = json!({
        "name": name,
        "deliver_subject": deliver_to,
        "filter_subject": filter,
        "ack_policy": "none",
        "replay_policy": "instant",
        "max_deliver": 1,
        "flow_control": true,
        "idle_heartbeat": nanos(HEARTBEAT),
        "inactive_threshold": nanos(INACTIVE),
        "num_replicas": 1,
        "mem_storage": true,
    });
    match begin {
        Begin::LastPerSubject => config["deliver_policy"] = "last_per_subject".into(),
        Begin::After(sequence) => {
            config["deliver_policy"] = "by_start_sequence".into();
            config["opt_start_seq"] = sequence.saturating_add(1).into();
        }
    }
    config
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
