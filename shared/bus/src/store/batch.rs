//! Atomic batches (one sync of the disk for all), and what happens when the server won't have one.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_nats::StatusCode;
use pushmesh_protocol::name::{Stream, header};
use tokio::{sync::SemaphorePermit, time::Instant};

use super::{Outgoing, PubAck, StoreError, Stored, group::Publish, refusal};
use crate::{
    Bus,
    api::{self, CallError},
    backoff::random_token,
    connection::Inner,
    replies::Lost,
    suspicion::Answered,
};

/// Most messages of one batch; the server's limit is 1,000.
const BATCH_MAX: usize = 500;
/// Most bytes of one batch: far below what a server lets one client have pending.
const BATCH_MAX_BYTES: usize = 4 << 20;
/// How long a batch waits for its place. Where the server may still hold those of others, waiting for it to give them up
/// would take longer than going singly.
const PLACE_WITHIN: Duration = Duration::from_millis(250);
/// So long after its last message the server gives a batch up that was not committed.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

type Outcome = Result<Stored, StoreError>;

impl Bus {
    pub(super) async fn store_in_batches(
        &self,
        stream: &Stream,
        messages: Vec<Outgoing>,
        ttl: Option<Duration>,
    ) -> Vec<Outcome> {
        let begun = Instant::now();
        let deadline = begun + self.inner.config.outage_hold;
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            outcomes.extend(self.store_chunk(stream, chunk, ttl, begun, deadline).await);
            rest = later;
            // What was not stored may be said again; nothing of it is overtaken.
            if let Some(outage) = outage(&outcomes) {
                outcomes.extend(rest.iter().map(|_| Err(outage.clone())));
                break;
            }
        }
        for outcome in &outcomes {
            self.count(begun, outcome);
        }
        outcomes
    }

    async fn store_chunk(
        &self,
        stream: &Stream,
        chunk: &[Outgoing],
        ttl: Option<Duration>,
        begun: Instant,
        deadline: Instant,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> =
            chunk.iter().map(|message| self.check_size(message).err().map(Err)).collect();
        let bytes = chunk.iter().map(Outgoing::bytes).sum();
        let limit = self.inner.held.limit();
        let Some(_held) = self.inner.held.take(bytes) else {
            return chunk.iter().map(|_| Err(StoreError::HoldFull { limit })).collect();
        };
        let Ok(Ok(_slots)) =
            tokio::time::timeout_at(deadline, self.inner.window.acquire_many(self.slots(chunk.len()))).await
        else {
            let outage = StoreError::Outage { held: begun.elapsed(), reason: "the window is full".into() };
            return chunk.iter().map(|_| Err(outage.clone())).collect();
        };
        let open = (0..chunk.len()).filter(|index| outcomes[*index].is_none());
        let (mut open, mut group): (Vec<usize>, Vec<Publish>) =
            open.map(|index| (index, chunk[index].publish(ttl))).unzip();
        if group.len() >= 2 {
            match self.publish_batch(&group).await {
                Ok(sequences) => {
                    self.inner.metrics.batches.increment(1);
                    for (index, sequence) in open.drain(..).zip(sequences) {
                        outcomes[index] = Some(Ok(Stored { sequence, duplicate: false }));
                    }
                    group.clear();
                }
                Err(error) => {
                    tracing::debug!(%stream, messages = group.len(), %error, "an atomic batch is published singly");
                    self.inner.metrics.batch_fallbacks.increment(1);
                }
            }
        }
        for (index, answer) in open.into_iter().zip(self.publish_group(&group, deadline).await) {
            outcomes[index] = Some(answer.map(Stored::from).map_err(|error| refusal(error, begun)));
        }
        outcomes.into_iter().map(|outcome| outcome.expect("the group is all that was open")).collect()
    }

    /// A batch never asks for more places than there are.
    fn slots(&self, messages: usize) -> u32 {
        messages.min(self.inner.config.in_flight_max) as u32
    }

    /// Publishes all or nothing; the sequences of the stored messages.
    pub(super) async fn publish_batch(&self, batch: &[Publish]) -> Result<Vec<u64>, CallError> {
        if !self.inner.health.borrow().connected {
            return Err(CallError::Lost);
        }
        let patience: Duration = self.inner.config.ack_timeout;
        let place = tokio::time::timeout(PLACE_WITHIN, self.inner.batches.acquire()).await;
        let place = place.map_err(|_| CallError::Timeout)?.map_err(|_| CallError::Lost)?;
        let mut open = OpenBatch::new(place, self);
        let id = random_token();
        let asked = Instant::now();
        let ack = match tokio::time::timeout(patience, self.say_batch(batch, &id, &mut open)).await {
            Ok(answer) => answer?,
            Err(_) => {
                self.note_answer(Answered::No { asked });
                return Err(CallError::Timeout);
            }
        };
        self.note_answer(Answered::Yes);
        let count = batch.len() as u64;
        if ack.batch.as_deref() != Some(&id) || ack.count != Some(count) {
            return Err(CallError::Unreadable(format!("{ack:?} does not commit {count} messages")));
        }
        Ok((ack.seq + 1 - count..=ack.seq).collect())
    }

    /// Says a batch, and awaits the server's word on its first message and on its last.
    async fn say_batch(&self, batch: &[Publish], id: &str, open: &mut OpenBatch<'_>) -> Result<PubAck, CallError> {
        let client = &self.inner.client;
        let (mut first, mut commit) = (self.inner.replies.expect(), self.inner.replies.expect());
        for (index, publish) in batch.iter().enumerate() {
            let mut headers = publish.headers.clone();
            headers.insert(header::BATCH_ID, id);
            headers.insert(header::BATCH_SEQUENCE, (index + 1).to_string());
            let subject = publish.subject.clone();
            let last = index + 1 == batch.len();
            if last {
                headers.insert(header::BATCH_COMMIT, "1");
            }
            let reply = if index == 0 {
                Some(first.subject())
            } else if last {
                Some(commit.subject())
            } else {
                None
            };
            let payload = publish.payload.clone();
            let said = match reply {
                Some(reply) => {
                    let reply = reply.as_str().to_owned();
                    client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                }
                None => client.publish_with_headers(subject, headers, payload).await,
            };
            said.map_err(|_| CallError::Lost)?;
        }
        // The first answer is empty where the server takes the batch, and an error (or a plain ack of a server that
        // knows no batches) where it does not.
        let opened = first.answer().await.map_err(|Lost| CallError::Lost)?;
        if opened.status == Some(StatusCode::NO_RESPONDERS) {
            open.is_over();
            return Err(CallError::NoResponders);
        }
        if !opened.payload.is_empty() {
            open.is_over();
            api::read::<PubAck>(&opened.payload)?;
            return Err(CallError::Unreadable("the server knows no atomic batches".to_owned()));
        }
        let committed = commit.answer().await.map_err(|Lost| CallError::Lost)?;
        open.is_over();
        api::read::<PubAck>(&committed.payload)
    }
}

/// A batch's place among those that may be open at once. One whose end the server has not told keeps it until the server
/// gives the batch up, whoever stopped waiting for it: nothing on the wire ends an open batch.
struct OpenBatch<'a> {
    place: Option<SemaphorePermit<'a>>,
    bus: Weak<Inner>,
}

impl<'a> OpenBatch<'a> {
    fn new(place: SemaphorePermit<'a>, bus: &Bus) -> Self {
        Self { place: Some(place), bus: Arc::downgrade(&bus.inner) }
    }

    /// The server has answered: it holds the batch no more.
    fn is_over(&mut self) {
        self.place = None;
    }
}

impl Drop for OpenBatch<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        // Without a runtime the process ends, and nobody opens another batch.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        place.forget();
        let bus = self.bus.clone();
        runtime.spawn(async move {
            tokio::time::sleep(GIVEN_UP_AFTER).await;
            if let Some(inner) = bus.upgrade() {
                inner.batches.add_permits(1);
            }
        });
    }
}

fn outage(outcomes: &[Outcome]) -> Option<StoreError> {
    outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(|error| error.is_outage()).cloned()
}

/// How many of the messages go into the next batch.
fn chunk_len(messages: &[Outgoing]) -> usize {
    let mut bytes = 0;
    let fitting = messages.iter().take(BATCH_MAX).take_while(|message| {
        bytes += message.bytes();
        bytes <= BATCH_MAX_BYTES
    });
    fitting.count().max(1)
}
