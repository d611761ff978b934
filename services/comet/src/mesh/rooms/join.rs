//! A JOIN: asked of the room's owner, again where nobody owns the room at the moment, within a bound.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use pushmesh_bus::{Bus, RequestError};
use pushmesh_membership::Membership;
use pushmesh_protocol::{
    Partition, Partitions, Token,
    frame::{self, Error, ErrorCode, ServerFrame},
    metric::comet as names,
    name::Subject,
    room::{JoinAnswer, JoinAsk, RoomAnswer, RoomAsk},
    wire,
};
use pushmesh_telemetry::{
    metric::counter,
    span::{self, Role},
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::table::Listening;
use crate::{
    address::Dice,
    framing::Dialect,
    mesh::fence::Fence,
    metrics,
    room::frame::framed,
    shard::{
        command::{Joined, NotJoined, Queues, Urgent},
        outlet::JoinRequest,
    },
};

/// Between two tries: doubles from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long one try may take: the owner reads what was missed from the stream.
const TRY_FOR: Duration = Duration::from_secs(2);

/// Asks owners.
pub struct Joiner {
    pub bus: Bus,
    pub partitions: Partitions,
    pub membership: Membership,
    /// The service that owns rooms.
    pub owners: Token,
    pub fence: Arc<Fence>,
    pub shards: Vec<Queues>,
    pub within: Duration,
    /// So many at once.
    pub places: Semaphore,
    /// Most of the random part of a retry_after_ms.
    pub jitter: Duration,
    pub dice: Mutex<Dice>,
}

/// Why there is no answer, so far.
enum Why {
    Nobody,
    Other(String),
}

impl Joiner {
    /// Answers one JOIN, once the room's frames come.
    pub async fn serve(self: Arc<Self>, request: JoinRequest, listening: watch::Receiver<Listening>) {
        let (to, deadline) = (request.from, Instant::now() + self.within);
        // Until the answer is handed over: what was missed is a quarter of a megabyte each.
        let place = timeout_at(deadline, self.places.acquire()).await;
        let answer = match place.is_ok() {
            true => self.decide(&request, listening, deadline).await,
            false => Err(self.refusal(&request, ErrorCode::Unavailable, "too many JOINs wait".to_owned())),
        };
        let answer = match answer {
            Ok(answer) => {
                metrics::join(if answer.joined.recovered { "joined" } else { "not_recovered" });
                Urgent::Joined(Box::new(joined(request, answer)))
            }
            Err(error) => {
                metrics::join(match error.error {
                    ErrorCode::Forbidden => "forbidden",
                    ErrorCode::NotServed => "not_served",
                    _ => "unavailable",
                });
                let JoinRequest { room, attempt, .. } = request;
                Urgent::NotJoined(Box::new(NotJoined { to, room, attempt, error }))
            }
        };
        if let Some(queues) = self.shards.get(usize::from(to.shard)) {
            // Waits for a place: this task is one of a bounded number. Closed: the connection is going too.
            let _ = queues.urgent.send(answer).await;
        }
        drop(place);
    }

    async fn decide(
        &self,
        request: &JoinRequest,
        mut listening: watch::Receiver<Listening>,
        deadline: Instant,
    ) -> Result<JoinAnswer, Error> {
        let unavailable = |message: &str| self.refusal(request, ErrorCode::Unavailable, message.to_owned());
        let settled = timeout_at(deadline, listening.wait_for(|state| *state != Listening::NotYet)).await;
        match settled.ok().and_then(Result::ok).as_deref() {
            Some(Listening::Yes) => {}
            Some(Listening::Failed(reason)) => return Err(unavailable(reason)),
            Some(Listening::NotYet) | None => return Err(unavailable("the room can't be listened to")),
        }
        let span = span::root_or_child("join a room", Role::Server, None);
        let ask = RoomAsk::Join(JoinAsk {
            room: request.room.clone(),
            user: request.user.clone(),
            resume: request.resume,
            trace: span::context(&span),
        });
        let (payload, partition): (Bytes, _) = (wire::encode(&ask).into(), self.partitions.of_room(&request.room));
        let mut pause = PAUSES.0;
        loop {
            let why = match self.ask(partition, payload.clone(), deadline).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {
                    return Err(self.refusal(request, ErrorCode::Forbidden, "the room is closed".to_owned()));
                }
                Err(why) => why,
            };
            if Instant::now() + pause >= deadline {
                let (error, message) = self.give_up(why);
                span::fail(&span, &message);
                return Err(self.refusal(request, error, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    // `None`: the room takes nobody.
    async fn ask(&self, partition: Partition, payload: Bytes, deadline: Instant) -> Result<Option<JoinAnswer>, Why> {
        let within = deadline.saturating_duration_since(Instant::now()).min(TRY_FOR);
        let answer = match self.bus.request(Subject::room_ask(partition), payload, within).await {
            Ok(answer) => answer,
            Err(RequestError::NoResponders) => return Err(Why::Nobody),
            Err(error) => return Err(Why::Other(format!("the room's owner: {error}"))),
        };
        match wire::decode::<RoomAnswer>(&answer) {
            Ok(RoomAnswer::Joined(answer)) if self.fence.passes(partition, answer.epoch) => Ok(Some(*answer)),
            Ok(RoomAnswer::Joined(_)) => {
                counter(&names::ROOM_FENCED).increment(1);
                Err(Why::Other("the room has another owner by now".to_owned()))
            }
            Ok(RoomAnswer::Closed) => Ok(None),
            Ok(RoomAnswer::NotReady) => Err(Why::Other("the room is being taken over".to_owned())),
            Ok(RoomAnswer::Info(_) | RoomAnswer::Ranking { .. } | RoomAnswer::Skipped { .. }) | Err(_) => {
                counter(&names::MALFORMED).increment(1);
                Err(Why::Other("the room's owner answered nonsense".to_owned()))
            }
        }
    }

    fn give_up(&self, why: Why) -> (ErrorCode, String) {
        match why {
            Why::Nobody if self.membership.view().borrow().members_of(&self.owners).next().is_none() => {
                (ErrorCode::NotServed, "rooms are not served by this mesh".to_owned())
            }
            Why::Nobody => (ErrorCode::Unavailable, "nobody owns the room now".to_owned()),
            Why::Other(message) => (ErrorCode::Unavailable, message),
        }
    }

    fn refusal(&self, request: &JoinRequest, error: ErrorCode, message: String) -> Error {
        let retry_after_ms = (error == ErrorCode::Unavailable).then(|| {
            500 + self.dice.lock().expect("nothing panics under this lock").up_to(self.jitter.as_millis() as u32)
        });
        let (field, room) = (Some("JOIN.room".to_owned()), Some(request.room.clone()));
        Error { error, field, message, retry_after_ms, address: None, re: None, room }
    }
}

fn joined(request: JoinRequest, answer: JoinAnswer) -> Joined {
    let JoinRequest { from, attempt, room, .. } = request;
    let JoinAnswer { joined, overseer, missed, .. } = answer;
    let dialect: Dialect = from.dialect;
    let first = dialect.encode(&ServerFrame::Joined(joined.clone()));
    let instead = if missed.is_empty() {
        first.clone()
    } else {
        dialect.encode(&ServerFrame::Joined(frame::Joined { recovered: false, ..joined }))
    };
    let missed = missed.iter().map(|frame| framed(dialect, frame)).filter(|frame| !frame.is_empty());
    let frames = std::iter::once(first).chain(missed).collect();
    Joined { to: from, room, attempt, frames, instead, overseer }
}
