//! What the operations that only ask work with: the connection, sessions, comets as they were heard.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pushmesh_bus::{Kv, KvError, RequestError, Subscription};
use pushmesh_protocol::{
    Kind, RoomId,
    name::{Subject, parse},
    room::{CometStatus, RoomAnswer, RoomAsk},
    wire,
};
use tokio::time::Instant as Moment;

use crate::{api::Api, comets::Comets, metrics::Metrics, refusal::Refusal};

/// A room's owner is asked for so long, over a take-over; then 503.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// One question waits so long for its answer.
const ASK_ONCE: Duration = Duration::from_secs(1);
const ASK_PAUSE: Duration = Duration::from_millis(100);

pub struct Reads {
    pub kinds: Vec<Kind>,
    /// The bucket of sessions.
    pub sessions: Kv,
    pub comets: Roll,
}

/// Comets as this instance hears them: one task writes, requests read.
#[derive(Clone, Default)]
pub struct Roll(Arc<Mutex<Comets>>);

impl Roll {
    // A panic while it was held has left every entry whole.
    pub fn lock(&self) -> MutexGuard<'_, Comets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears comets until the connection is closed.
    pub async fn listen(self, mut statuses: Subscription, metrics: Arc<Metrics>) {
        while let Some(message) = statuses.next().await {
            match (parse::comet_status(&message.subject), wire::decode::<CometStatus>(&message.payload)) {
                (Some(comet), Ok(status)) => self.lock().hear(comet, status, Instant::now()),
                (_, status) => {
                    let error = status.err();
                    tracing::warn!(subject = message.subject, ?error, "a comet's status can't be read");
                    metrics.malformed.increment(1);
                }
            }
        }
    }
}

impl Api {
    /// Asks the owner of the room's partition; over a take-over again, for 2 s.
    pub async fn ask(&self, room: &RoomId, ask: &RoomAsk) -> Result<RoomAnswer, Refusal> {
        let subject = Subject::room_ask(self.partitions.of_room(room));
        let payload: bytes::Bytes = wire::encode(ask).into();
        let deadline = Moment::now() + ASK_WITHIN;
        loop {
            let once = ASK_ONCE.min(deadline.saturating_duration_since(Moment::now()));
            let away = match self.bus.request(subject.clone(), payload.clone(), once).await {
                Ok(answer) => match wire::decode(&answer) {
                    Ok(RoomAnswer::NotReady) => "the owner of the room is taking over",
                    Ok(answer) => return Ok(answer),
                    Err(error) => return Err(misunderstood(&error)),
                },
                Err(RequestError::NoResponders) => "the room has no owner now",
                Err(RequestError::Timeout(_)) => "the owner of the room did not answer in time",
                Err(RequestError::Disconnected) => "the broker is away",
                Err(error @ RequestError::TooLarge { .. }) => return Err(misunderstood(&error)),
            };
            if Moment::now() + ASK_PAUSE >= deadline {
                return Err(Refusal::unavailable(away, self.config.retry_after));
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    pub fn unread(&self, error: &KvError) -> Refusal {
        match error {
            KvError::Outage(_) => Refusal::unavailable("the broker is away", self.config.retry_after),
            error => {
                tracing::error!(%error, "a bucket can't be read");
                Refusal::internal("the broker refused it")
            }
        }
    }
}

/// An answer that does not fit the question.
pub fn misunderstood(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "the owner of a room and this service do not understand each other");
    Refusal::internal("the owner of the room answered nonsense")
}
