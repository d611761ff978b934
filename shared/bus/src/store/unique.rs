//! Pairs of a marker and a message: the marker's subject takes one message for as long as the marker lives, and who comes
//! later learns what stands in the marker. So the message has one effect, whoever says it, however often, at whichever
//! instance.
//!
//! Both go in one atomic batch, and many pairs share it. The server rejects a batch whole; then the markers tell which of
//! its pairs were there, and the others go again.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use pushmesh_protocol::name::{Stream, Subject, header};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{Outgoing, StoreError, Stored, group::Publish, refusal};
use crate::{
    Bus,
    api::{CallError, Tries, code, subject},
    kv::time::base64,
};

/// Most pairs of one batch: the server takes 1,000 messages.
const PAIRS_MAX: usize = 250;
/// Most bytes of one batch.
const BATCH_MAX_BYTES: usize = 4 << 20;
/// Markers that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 64;

/// A message that is stored once for its marker.
#[derive(Debug, Clone)]
pub struct Unique {
    /// Its subject is what may be used once; the payload is what later comers are told.
    pub marker: Outgoing,
    /// How long the marker stays: whole seconds, rounded up.
    pub marker_ttl: Duration,
    /// Has the sequence behind the marker's.
    pub message: Outgoing,
}

/// What became of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueOutcome {
    /// Now, by this call.
    Stored { sequence: u64 },
    /// Before, by another: what its marker says, and where its message stands.
    Taken { marker: Bytes, sequence: u64 },
}

type Outcome = Result<UniqueOutcome, StoreError>;

/// Pairs that go together, by their places.
struct Group {
    places: Vec<usize>,
    /// It was said, and nobody knows what became of it.
    is_unsure: bool,
}

/// What a marker's subject holds.
struct Found {
    payload: Bytes,
    sequence: u64,
}

impl Bus {
    /// Stores each message under its marker, or tells what was stored there before; in their order, as far as they are new.
    /// Tried over an outage for `outage_hold`: an error that [is an outage](StoreError::is_outage) leaves open whether the
    /// pair was stored, and the same pair may be said again.
    pub async fn store_unique(&self, stream: &Stream, pairs: Vec<Unique>) -> Vec<Outcome> {
        let begun = Instant::now();
        let deadline = begun + self.inner.config.outage_hold;
        let first = first_of_each(&pairs);
        let mut outcomes: Vec<Option<Outcome>> = pairs.iter().map(|pair| self.too_large(pair).map(Err)).collect();
        let own: Vec<usize> =
            (0..pairs.len()).filter(|place| first[*place] == *place && outcomes[*place].is_none()).collect();
        let mut rest = &own[..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(fitting(&pairs, rest));
            self.store_pairs(stream, &pairs, chunk, begun, deadline, &mut outcomes).await;
            rest = later;
        }
        let outcomes: Vec<_> = first
            .into_iter()
            .enumerate()
            .map(|(place, first)| {
                let outcome = outcomes[first].clone().expect("every first of its marker has its outcome");
                if first == place { outcome } else { repeated(outcome, &pairs[first]) }
            })
            .collect();
        for outcome in &outcomes {
            self.count(begun, &counted(outcome));
        }
        outcomes
    }

    /// The marker of a subject, if one stands there: what it says, and where its message stands. Tried for
    /// `nats.kv_timeout`.
    pub async fn find_unique(&self, stream: &Stream, marker: &Subject) -> Result<Option<UniqueOutcome>, StoreError> {
        let begun = Instant::now();
        let deadline = begun + self.inner.config.kv_timeout;
        let found = self.last_of(stream, marker.as_str(), deadline).await.map_err(|error| refusal(error, begun))?;
        Ok(found.map(|Found { payload, sequence }| UniqueOutcome::Taken { marker: payload, sequence: sequence + 1 }))
    }

    /// The chunk's outcomes; within the bounds of what may be held and be on its way.
    async fn store_pairs(
        &self,
        stream: &Stream,
        pairs: &[Unique],
        chunk: &[usize],
        begun: Instant,
        deadline: Instant,
        outcomes: &mut [Option<Outcome>],
    ) {
        let limit = self.inner.held.limit();
        let Some(_held) = self.inner.held.take(chunk.iter().map(|place| bytes(&pairs[*place])).sum()) else {
            return refuse(outcomes, chunk, &StoreError::HoldFull { limit });
        };
        let slots = (2 * chunk.len()).min(self.inner.config.in_flight_max) as u32;
        let Ok(Ok(_slots)) = tokio::time::timeout_at(deadline, self.inner.window.acquire_many(slots)).await else {
            let outage = StoreError::Outage { held: begun.elapsed(), reason: "the window is full".into() };
            return refuse(outcomes, chunk, &outage);
        };
        let mut tries = Tries::until(deadline);
        let mut groups = VecDeque::from([Group { places: chunk.to_vec(), is_unsure: false }]);
        while let Some(mut group) = groups.pop_front() {
            let error = match self.store_group(stream, pairs, &mut group, deadline, outcomes).await {
                Ok(left) => {
                    left.into_iter().rev().for_each(|group| groups.push_front(group));
                    continue;
                }
                Err(error) => error,
            };
            let passing = is_passing(&error);
            if passing && tries.again(self).await {
                self.inner.metrics.store_retries.increment(group.places.len() as u64);
                groups.push_front(group);
                continue;
            }
            if passing {
                // The others would wait for nothing.
                group.places.extend(groups.drain(..).flat_map(|group| group.places));
                let outage = StoreError::Outage { held: begun.elapsed(), reason: error.to_string() };
                refuse(outcomes, &group.places, &outage);
            } else {
                refuse(outcomes, &group.places, &refusal(error, begun));
            }
        }
    }

    /// One batch: what of the group has to go again, in its order.
    async fn store_group(
        &self,
        stream: &Stream,
        pairs: &[Unique],
        group: &mut Group,
        deadline: Instant,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<Vec<Group>, CallError> {
        let batch: Vec<Publish> = group.places.iter().flat_map(|place| pairs[*place].publishes()).collect();
        match self.publish_batch(&batch).await {
            Ok(sequences) => {
                self.inner.metrics.batches.increment(1);
                for (place, pair) in group.places.iter().zip(sequences.chunks_exact(2)) {
                    outcomes[*place] = Some(Ok(UniqueOutcome::Stored { sequence: pair[1] }));
                }
                return Ok(vec![]);
            }
            Err(error) if is_taken(&error) => {}
            Err(error) => {
                group.is_unsure |= is_passing(&error);
                return Err(error);
            }
        }
        let is_unsure = group.is_unsure;
        let found = self.markers(stream, pairs, &group.places, deadline).await?;
        let mut left = Vec::new();
        for (place, found) in group.places.iter().zip(found) {
            let Some(Found { payload, sequence }) = found else {
                left.push(*place);
                continue;
            };
            let sequence = sequence + 1;
            // After a lost answer it may be our own.
            let is_own = is_unsure && payload == pairs[*place].marker.payload;
            outcomes[*place] = Some(Ok(match is_own {
                true => UniqueOutcome::Stored { sequence },
                false => UniqueOutcome::Taken { marker: payload, sequence },
            }));
        }
        if left.len() < group.places.len() {
            let again = Group { places: left, is_unsure };
            return Ok(if again.places.is_empty() { vec![] } else { vec![again] });
        }
        // No marker is there, and still one of them stands in the way: by halves, until it stands alone.
        if let [alone] = left[..] {
            let reason = format!("the id {} was used without its marker", pairs[alone].message.id.as_str());
            outcomes[alone] = Some(Err(StoreError::Rejected(reason)));
            return Ok(vec![]);
        }
        let second = left.split_off(left.len() / 2);
        Ok(vec![Group { places: left, is_unsure }, Group { places: second, is_unsure }])
    }

    /// What the subjects of the pairs' markers hold, as the stream's leader knows it.
    async fn markers(
        &self,
        stream: &Stream,
        pairs: &[Unique],
        places: &[usize],
        deadline: Instant,
    ) -> Result<Vec<Option<Found>>, CallError> {
        let mut found = Vec::with_capacity(places.len());
        for some in places.chunks(LOOKUPS_AT_ONCE) {
            let asked = some.iter().map(|place| self.last_of(stream, pairs[*place].marker.subject.as_str(), deadline));
            for answer in join_all(asked).await {
                found.push(answer?);
            }
        }
        Ok(found)
    }

    async fn last_of(&self, stream: &Stream, subject: &str, deadline: Instant) -> Result<Option<Found>, CallError> {
        #[derive(Deserialize)]
        struct Answer {
            message: Message,
        }
        #[derive(Deserialize)]
        struct Message {
            seq: u64,
            /// Base64.
            #[serde(default)]
            data: String,
        }
        let request = json!({ "last_by_subj": subject }).to_string();
        match self.call::<Answer>(&subject::stream_message(stream), request, deadline).await {
            Ok(Answer { message }) => Ok(Some(Found { payload: base64(&message.data).into(), sequence: message.seq })),
            Err(error) if error.has_code(code::MESSAGE_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn too_large(&self, pair: &Unique) -> Option<StoreError> {
        self.check_size(&pair.marker).and_then(|()| self.check_size(&pair.message)).err()
    }
}

impl Unique {
    fn publishes(&self) -> [Publish; 2] {
        let mut marker = self.marker.publish(Some(self.marker_ttl));
        marker.headers.insert(header::EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        [marker, self.message.publish(None)]
    }
}

fn refuse(outcomes: &mut [Option<Outcome>], places: &[usize], error: &StoreError) {
    for place in places {
        outcomes[*place] = Some(Err(error.clone()));
    }
}

/// Of each pair the place of the first with its marker.
fn first_of_each(pairs: &[Unique]) -> Vec<usize> {
    let mut known = HashMap::new();
    let subjects = pairs.iter().map(|pair| pair.marker.subject.as_str());
    subjects.enumerate().map(|(place, subject)| *known.entry(subject).or_insert(place)).collect()
}

/// How many of the pairs go into the next batch.
fn fitting(pairs: &[Unique], places: &[usize]) -> usize {
    let mut sum = 0;
    let fitting = places.iter().take(PAIRS_MAX).take_while(|place| {
        sum += bytes(&pairs[**place]);
        sum <= BATCH_MAX_BYTES
    });
    fitting.count().max(1)
}

fn bytes(pair: &Unique) -> usize {
    pair.marker.bytes() + pair.message.bytes()
}

/// What the outcome of the first pair with a marker is to a later one.
fn repeated(outcome: Outcome, first: &Unique) -> Outcome {
    outcome.map(|outcome| match outcome {
        UniqueOutcome::Stored { sequence } => UniqueOutcome::Taken { marker: first.marker.payload.clone(), sequence },
        taken => taken,
    })
}

fn counted(outcome: &Outcome) -> Result<Stored, StoreError> {
    match outcome {
        Ok(UniqueOutcome::Stored { sequence }) => Ok(Stored { sequence: *sequence, duplicate: false }),
        Ok(UniqueOutcome::Taken { sequence, .. }) => Ok(Stored { sequence: *sequence, duplicate: true }),
        Err(error) => Err(error.clone()),
    }
}

/// A marker of the batch was there, or the id of one of its messages.
fn is_taken(error: &CallError) -> bool {
    let codes = [code::WRONG_LAST_SEQUENCE, code::WRONG_LAST_SEQUENCE_CONSTANT, code::BATCH_HAS_DUPLICATE];
    codes.into_iter().any(|code| error.has_code(code))
}

/// Beside what always passes: the server lost a part of the batch, or has too many open.
fn is_passing(error: &CallError) -> bool {
    error.is_passing() || error.has_code(code::BATCH_INCOMPLETE) || error.has_code(code::BATCHES_TOO_MANY)
}
