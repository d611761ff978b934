//! What every operation works with, and what several of them do.

use std::{sync::Arc, time::Duration};

use pushmesh_auth::{Door, Identity};
use pushmesh_bus::{Bus, Kv, Outgoing, Stored};
use pushmesh_protocol::{
    Partitions, RoomId, Token,
    name::{MessageId, Subject},
    room::{RoomEvent, RoomHappening},
    wire,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    caller::Caller,
    config::Config,
    likes::Tally,
    limits::Limits,
    metrics::Metrics,
    reads::Reads,
    refusal::Refusal,
    request::{Call, Publishing},
    standing::Standing,
    till::Till,
};

/// As requests share it.
pub type Shared = Arc<Api>;

pub struct Api {
    pub bus: Bus,
    pub partitions: Partitions,
    pub door: Door,
    pub config: Config,
    pub metrics: Arc<Metrics>,
    pub standing: Arc<Standing>,
    pub limits: Arc<Limits>,
    /// Where gifts are taken.
    pub till: Till,
    /// Where likes are counted.
    pub tally: Tally,
    /// The bucket of states and roles.
    pub rooms: Kv,
    /// The bucket of mutes.
    pub mutes: Kv,
    /// What operations that only ask work with.
    pub reads: Reads,
    /// How long an answer of the till is awaited.
    pub gift_within: Duration,
    /// Places of messages that wait to be stored: gifts need none.
    pub places: Semaphore,
    /// Requests under way.
    pub visits: TaskTracker,
}

impl Api {
    /// Whoever a token speaks for, if he does not ask too often.
    pub fn admit(&self, identity: Identity) -> Result<Caller, Refusal> {
        let caller = Caller::from(identity);
        match &caller {
            Caller::Client(user) => self.limits.request_of_user(user)?,
            Caller::Backend(backend) => self.limits.request_of_key(&backend.name)?,
        }
        Ok(caller)
    }

    /// Stores a message that is no gift.
    pub async fn store(&self, outgoing: Outgoing, publishing: Publishing) -> Result<Stored, Refusal> {
        let retry_after = self.config.retry_after;
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Refusal::busy("messages_waiting_max", retry_after));
        };
        self.metrics.messages_waiting.increment(1);
        let stored = self.bus.store(outgoing).await;
        self.metrics.messages_waiting.decrement(1);
        stored.map_err(|error| {
            publishing.failed(&error);
            tracing::warn!(%error, "a message could not be stored; its sender was told");
            Refusal::unstored(&error, retry_after)
        })
    }

    /// Tells a room what happened there: its sequence.
    pub async fn tell(&self, call: &Call, room: &RoomId, what: RoomHappening) -> Result<u64, Refusal> {
        self.tell_once(call, room, what, call.caller.user().cloned(), &fresh()).await
    }

    /// Like [`tell`](Self::tell), in somebody's name, and known by `id` for as long as the stream remembers it.
    pub async fn tell_once(
        &self,
        call: &Call,
        room: &RoomId,
        what: RoomHappening,
        by: Option<pushmesh_protocol::UserId>,
        id: &Token,
    ) -> Result<u64, Refusal> {
        let publishing = call.publishing("publish pm.v1.room.normal.event.{p}.{room}");
        let id = MessageId::room(room, by.as_ref(), id);
        let event = RoomEvent { room: room.clone(), by, at: call.now, what, trace: publishing.trace };
        let outgoing = Outgoing {
            subject: Subject::room_event(self.partitions.of_room(room), room),
            payload: wire::encode(&event).into(),
            id,
            trace: publishing.trace,
        };
        Ok(self.store(outgoing, publishing).await?.sequence)
    }

    /// Does something to its end, also where the caller goes: what is half done would stay so.
    pub async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.visits.spawn(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an operation panicked");
            Err(Refusal::internal("it broke off"))
        })
    }

    /// That `data` is there, and not too much.
    pub fn check_data(&self, data: &pushmesh_protocol::Payload) -> Result<(), Refusal> {
        match (data.0.len(), self.config.limits.data_max_bytes) {
            (0, most) => Err(Refusal::invalid("data", format!("is empty; it must have 1 to {most} bytes"))),
            (bytes, most) if bytes > most => Err(Refusal::too_large("data", "data_max_bytes", bytes, most)),
            _ => Ok(()),
        }
    }
}

/// An id that nobody else has.
pub fn fresh() -> Token {
    Token::new(&Uuid::now_v7().simple().to_string()).expect("hexadecimal digits are token characters")
}
