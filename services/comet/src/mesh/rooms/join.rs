//! An ask: one question to a room's owner for all who wait at one position, and the answer to each of them.

use std::{
    collections::HashMap,
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
    room::{JoinedUser, JoinedView, JoinsAnswer, JoinsAsk, RoomAnswer, RoomAsk},
    wire,
};
use pushmesh_telemetry::{
    metric::counter,
    span::{self, Role},
};
use tokio::time::{Instant, timeout_at};

use super::{
    lobby::{Ask, Outcome, Waiting},
    table::Listening,
};
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

/// How long one ask may take: the owner may have to read what was missed from the stream.
const ASK_FOR: Duration = Duration::from_secs(2);

/// Asks owners.
pub struct Joiner {
    pub bus: Bus,
    pub partitions: Partitions,
    pub membership: Membership,
    /// The service that owns rooms.
    pub owners: Token,
    pub fence: Arc<Fence>,
    pub shards: Vec<Queues>,
    /// Most of the random part of a retry_after_ms.
    pub jitter: Duration,
    pub dice: Mutex<Dice>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Why {
    Nobody,
    NotReady(&'static str),
    Other(String),
}

/// What an ask is answered with.
enum Answer {
    Joined(Box<JoinsAnswer>),
    /// The room takes nobody.
    Closed,
}

impl Joiner {
    /// Asks once, when the room's frames come here, and answers all whom the owner answered.
    pub async fn serve(self: Arc<Self>, ask: Ask) -> Outcome<Why> {
        let Ask { room, resume, mut listening, waiting } = ask;
        let by = Instant::now() + ASK_FOR;
        let settled = timeout_at(by, listening.wait_for(|state| *state != Listening::NotYet)).await;
        let is_heard = match settled.ok().and_then(Result::ok).as_deref() {
            Some(Listening::Yes) => Ok(()),
            Some(Listening::Failed(reason)) => Err(reason.clone()),
            Some(Listening::NotYet) | None => Err("the room can't be listened to".to_owned()),
        };
        if let Err(reason) = is_heard {
            return Outcome::Failed(waiting, Why::Other(reason));
        }
        let span = span::root_or_child("join a room", Role::Server, None);
        let ask = RoomAsk::Joins(JoinsAsk {
            room: room.clone(),
            users: waiting.iter().map(|waiting| waiting.request.user.clone()).collect(),
            resume,
            trace: span::context(&span),
        });
        let answer = self.ask(self.partitions.of_room(&room), wire::encode(&ask).into(), waiting.len()).await;
        metrics::room_ask(match &answer {
            Ok(_) => "answered",
            Err(Why::NotReady(_)) => "not_ready",
            Err(Why::Nobody | Why::Other(_)) => "unanswered",
        });
        match answer {
            Ok(Answer::Joined(answer)) => Outcome::Answered(self.let_in(waiting, *answer).await),
            Ok(Answer::Closed) => {
                for waiting in waiting {
                    let closed = self.refusal(&waiting.request, ErrorCode::Forbidden, "the room is closed".to_owned());
                    self.turn_away(waiting, closed).await;
                }
                Outcome::Answered(Vec::new())
            }
            Err(why) => {
                if let Why::Other(message) = &why {
                    span::fail(&span, message);
                }
                Outcome::Failed(waiting, why)
            }
        }
    }

    async fn ask(&self, partition: Partition, payload: Bytes, users: usize) -> Result<Answer, Why> {
        let answer = match self.bus.request(Subject::room_ask(partition), payload, ASK_FOR).await {
            Ok(answer) => answer,
            Err(RequestError::NoResponders) => return Err(Why::Nobody),
            Err(error) => return Err(Why::Other(format!("the room's owner: {error}"))),
        };
        match wire::decode::<RoomAnswer>(&answer) {
            Ok(RoomAnswer::JoinedAll(answer)) if !self.fence.passes(partition, answer.epoch) => {
                counter(&names::ROOM_FENCED).increment(1);
                Err(Why::NotReady("the room has another owner by now"))
            }
            Ok(RoomAnswer::JoinedAll(answer)) if answer.users.len() == users => Ok(Answer::Joined(answer)),
            Ok(RoomAnswer::Closed) => Ok(Answer::Closed),
            Ok(RoomAnswer::NotReady) => Err(Why::NotReady("the room is being taken over")),
            Ok(_) | Err(_) => {
                counter(&names::MALFORMED).increment(1);
                Err(Why::Other("the room's owner answered nonsense".to_owned()))
            }
        }
    }

    /// Returns those whom the answer had no room for.
    async fn let_in(&self, waiting: Vec<Waiting>, answer: JoinsAnswer) -> Vec<Waiting> {
        let JoinsAnswer { views, users, .. } = answer;
        let (mut told, mut again) = (Told::default(), Vec::new());
        for (waiting, user) in waiting.into_iter().zip(users) {
            let view = user.view.map(usize::from).and_then(|at| Some((at, views.get(at)?)));
            let Some((at, view)) = view else {
                again.push(waiting);
                continue;
            };
            metrics::join(if view.joined.recovered { "joined" } else { "not_recovered" });
            let JoinRequest { from: to, attempt, room, .. } = waiting.request;
            let (first, missed, instead) = told.to(&user, at, view, to.dialect);
            let overseer = user.role.is_some();
            let joined = Joined { to, room, attempt, first, missed, instead, overseer };
            self.say(to.shard, Urgent::Joined(Box::new(joined))).await;
        }
        again
    }

    /// Tells those for whom it is too late why they are not let in.
    pub async fn refuse(self: Arc<Self>, late: Vec<Waiting>, why: Why) {
        let (error, message) = self.reason(why);
        for waiting in late {
            let refusal = self.refusal(&waiting.request, error, message.clone());
            self.turn_away(waiting, refusal).await;
        }
    }

    fn reason(&self, why: Why) -> (ErrorCode, String) {
        match why {
            Why::Nobody if self.membership.view().borrow().members_of(&self.owners).next().is_none() => {
                (ErrorCode::NotServed, "rooms are not served by this mesh".to_owned())
            }
            Why::Nobody => (ErrorCode::Unavailable, "nobody owns the room now".to_owned()),
            Why::NotReady(message) => (ErrorCode::Unavailable, message.to_owned()),
            Why::Other(message) => (ErrorCode::Unavailable, message),
        }
    }

    async fn turn_away(&self, waiting: Waiting, error: Error) {
        metrics::join(match error.error {
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotServed => "not_served",
            _ => "unavailable",
        });
        let JoinRequest { from: to, room, attempt, .. } = waiting.request;
        self.say(to.shard, Urgent::NotJoined(Box::new(NotJoined { to, room, attempt, error }))).await;
    }

    async fn say(&self, shard: u16, what: Urgent) {
        if let Some(queues) = self.shards.get(usize::from(shard)) {
            // Waits for a place: asks are bounded. Closed: the connection is going too.
            let _ = queues.urgent.send(what).await;
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

/// What is said to many, encoded and framed once: by view and dialect.
#[derive(Default)]
struct Told {
    missed: HashMap<(usize, Dialect), Arc<[Bytes]>>,
    /// To those without a role or mute: JOINED, and that which is said where nothing can follow.
    joined: HashMap<(usize, Dialect), (Bytes, Bytes)>,
}

impl Told {
    fn to(
        &mut self,
        user: &JoinedUser,
        at: usize,
        view: &JoinedView,
        dialect: Dialect,
    ) -> (Bytes, Arc<[Bytes]>, Bytes) {
        let missed = self.missed.entry((at, dialect)).or_insert_with(|| {
            view.missed.iter().map(|frame| framed(dialect, frame)).filter(|frame| !frame.is_empty()).collect()
        });
        let say = || {
            let joined = user.told(view);
            let first = dialect.encode(&ServerFrame::Joined(joined.clone()));
            let instead = match view.missed.is_empty() {
                true => first.clone(),
                false => dialect.encode(&ServerFrame::Joined(frame::Joined { recovered: false, ..joined })),
            };
            (first, instead)
        };
        let is_plain = user.role.is_none() && user.muted_until.is_none();
        let (first, instead) =
            if is_plain { self.joined.entry((at, dialect)).or_insert_with(say).clone() } else { say() };
        (first, missed.clone(), instead)
    }
}
