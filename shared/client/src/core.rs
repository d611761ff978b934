//! What a client knows and decides, over all its connections: no I/O, no clock, no randomness.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    Payload, PushId, RoomId,
    frame::{
        ACK_MAX_IDS, Ack, App, AppBody, CallEnded, Calls, CallsQuery, ClientFrame, Error, ErrorCode, Heartbeat, Kick,
        KickReason, LoginOk, Pong, Push, PushBody, Resume, RoomPosition, ServerFrame,
    },
};
use tokio::sync::oneshot;

use crate::{
    backoff::Backoff,
    client::{AskError, Counts},
    event::{End, Event, LoggedIn},
    memory::Memory,
    rooms::{Out, Rooms},
    seen::{SEEN_MAX, Sight},
};

/// Most questions that may wait for their answers.
const QUESTIONS_MAX: usize = 256;

pub(crate) struct Core {
    auto_ack: bool,
    counts: Arc<Counts>,
    memory: Memory,
    /// What the next LOGIN resumes from.
    pub resume: Option<Resume>,
    /// Set between LOGIN_OK and the connection's end.
    logged_in: bool,
    /// What the application has not been given yet. While there is something, nothing is read.
    pub events: VecDeque<Event>,
    /// Frames decided on and not written yet.
    pub frames: Vec<ClientFrame>,
    /// Acknowledged in the next frame, once all events are handed out.
    acks: Vec<PushId>,
    questions: Vec<Question>,
    last_re: u32,
    rooms: Rooms,
    /// The last ERROR that named a time or place: meant for the connection that follows.
    hint: Option<Error>,
}

struct Question {
    re: u32,
    asker: Asker,
}

pub(crate) enum Asker {
    Calls(oneshot::Sender<Result<Calls, AskError>>),
    App(oneshot::Sender<Result<Payload, AskError>>),
}

impl Asker {
    pub fn fail(self, error: AskError) {
        // Who no longer waits has gone: nothing is lost.
        match self {
            Self::Calls(asker) => drop(asker.send(Err(error))),
            Self::App(asker) => drop(asker.send(Err(error))),
        }
    }

    fn gone(&self) -> bool {
        match self {
            Self::Calls(asker) => asker.is_closed(),
            Self::App(asker) => asker.is_closed(),
        }
    }
}

/// What is asked.
pub(crate) enum Ask {
    Calls,
    App { code: u16, data: Payload },
}

/// What a frame means for the connection.
#[derive(Debug)]
pub(crate) enum Step {
    Go,
    LoggedIn(Heartbeat),
    Part(Parting),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parting {
    /// A broken socket, a failed attempt, silence.
    Lost(String),
    /// The comet goes.
    Reconnect {
        after: Duration,
        address: Option<String>,
    },
    /// An ERROR instead of LOGIN_OK.
    Refused(Error),
    Kicked(KickReason),
    Ended(End),
}

/// How it goes on.
#[derive(Debug, PartialEq)]
pub(crate) struct Again {
    pub after: Duration,
    /// Instead of the usual one, for one attempt.
    pub address: Option<String>,
    /// The token is of no use: the source is asked for another.
    pub token_spent: bool,
    pub reason: String,
    /// If the source has no other token.
    pub else_end: Option<End>,
}

impl Core {
    /// `seed` makes the waits before recoveries differ from those of other clients.
    pub fn new(auto_ack: bool, resume: Option<Resume>, memory: Memory, counts: Arc<Counts>, seed: u64) -> Self {
        Self {
            auto_ack,
            counts,
            memory,
            resume,
            logged_in: false,
            events: VecDeque::new(),
            frames: Vec::new(),
            acks: Vec::new(),
            questions: Vec::new(),
            last_re: 0,
            rooms: Rooms::new(seed),
            hint: None,
        }
    }

    /// Whether events wait for the application: the socket is not read meanwhile.
    pub fn blocked(&self) -> bool {
        !self.events.is_empty()
    }

    pub fn apply(&mut self, frame: ServerFrame, now: Instant) -> Step {
        match frame {
            ServerFrame::LoginOk(ok) => return self.logged_in(ok, now),
            ServerFrame::Ping(_) => self.frames.push(ClientFrame::Pong(Pong {})),
            ServerFrame::Push(push) => self.push(push),
            ServerFrame::CallEnded(ended) => self.call_ended(ended),
            ServerFrame::Calls(calls) => self.calls(calls),
            ServerFrame::App(app) => self.app(app),
            ServerFrame::Joined(joined) => self.with_rooms(|rooms, out| rooms.joined(joined, now, out)),
            ServerFrame::Left(left) => self.with_rooms(|rooms, out| rooms.left(left, out)),
            ServerFrame::Room(room) => self.with_rooms(|rooms, out| rooms.room(room, now, out)),
            ServerFrame::Gap(gap) => {
                self.rooms.gap(&gap, now);
                self.events.push_back(Event::Gap(gap));
            }
            ServerFrame::Kick(Kick { reason }) => {
                self.events.push_back(Event::Kicked(reason));
                return Step::Part(Parting::Kicked(reason));
            }
            ServerFrame::Reconnect(to) => {
                let after = Duration::from_millis(to.after_ms.into());
                return Step::Part(Parting::Reconnect { after, address: to.address });
            }
            ServerFrame::Error(error) => return self.error(error, now),
            ServerFrame::Pong(_) => {}
        }
        Step::Go
    }

    fn logged_in(&mut self, ok: LoginOk, now: Instant) -> Step {
        self.logged_in = true;
        self.rooms.logged_in(now);
        self.hint = None;
        self.counts.logins.fetch_add(1, Relaxed);
        let told = LoggedIn { user: ok.user, login_id: ok.login_id, conn_id: ok.conn_id, resumed: ok.resumed };
        self.resume = Some(told.resume());
        self.events.push_back(Event::LoggedIn(told));
        Step::LoggedIn(ok.heartbeat)
    }

    fn push(&mut self, push: Push) {
        self.counts.transmissions.fetch_add(1, Relaxed);
        match self.memory.push(push.id) {
            Sight::First => {
                if self.auto_ack {
                    self.ack(push.id);
                }
                self.events.push_back(Event::Push(push));
            }
            Sight::Again { acked } => self.again(push.id, acked),
        }
    }

    fn call_ended(&mut self, ended: CallEnded) {
        self.counts.transmissions.fetch_add(1, Relaxed);
        match self.memory.push(ended.id) {
            Sight::Again { acked } => self.again(ended.id, acked),
            Sight::First if self.memory.end(ended.ends) => {
                if self.auto_ack {
                    self.ack(ended.id);
                }
                self.events.push_back(Event::CallEnded(ended));
            }
            // Of a call that is not shown: nothing to tell, and nobody else to acknowledge it.
            Sight::First => self.ack(ended.id),
        }
    }

    fn again(&mut self, id: PushId, acked: bool) {
        self.counts.duplicates.fetch_add(1, Relaxed);
        if self.auto_ack || acked {
            self.ack(id);
        }
    }

    /// Acknowledges with the next frames written, on this connection or the next.
    pub fn ack(&mut self, id: PushId) {
        self.memory.ack(id);
        // Beyond that the oldest is sent again by the comet, and acknowledged as a duplicate.
        if self.acks.len() == SEEN_MAX {
            self.acks.remove(0);
        }
        self.acks.push(id);
    }

    fn calls(&mut self, answer: Calls) {
        for active in &answer.calls {
            if self.memory.push(active.id) == Sight::First {
                let body = PushBody::Call(active.call.clone());
                self.events.push_back(Event::Push(Push { id: active.id, seq: 0, body, at: active.call.started_at }));
            }
        }
        match self.answered(answer.re) {
            Some(Asker::Calls(asker)) => drop(asker.send(Ok(answer))),
            Some(other) => other.fail(AskError::Mismatch),
            None => {}
        }
    }

    fn app(&mut self, app: App) {
        match app.body.re.and_then(|re| self.answered(re)) {
            Some(Asker::App(asker)) => drop(asker.send(Ok(app.body.data))),
            Some(other) => other.fail(AskError::Mismatch),
            None => self.events.push_back(Event::App(app)),
        }
    }

    fn error(&mut self, error: Error, now: Instant) -> Step {
        if let Some(asker) = error.re.and_then(|re| self.answered(re)) {
            asker.fail(AskError::Refused(error));
            return Step::Go;
        }
        if !self.logged_in {
            return Step::Part(Parting::Refused(error));
        }
        if self.with_rooms(|rooms, out| rooms.refused(&error, now, out)) {
            return Step::Go;
        }
        if error.retry_after_ms.is_some() || error.address.is_some() {
            self.hint = Some(error.clone());
        }
        self.events.push_back(Event::Refused(error));
        Step::Go
    }

    /// A room is wanted, from a position on if it is known from before.
    pub fn join(&mut self, room: RoomId, from: Option<RoomPosition>, now: Instant) {
        self.with_rooms(|rooms, out| rooms.join(room, from, now, out));
    }

    pub fn leave(&mut self, room: &RoomId, now: Instant) {
        self.with_rooms(|rooms, out| rooms.leave(room, now, out));
    }

    /// Does what is due by now; not while [`blocked`](Self::blocked), when the answers can't be read.
    pub fn due(&mut self, now: Instant) {
        self.with_rooms(|rooms, out| rooms.due(now, out));
        self.counts.told(&self.rooms.counts);
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.rooms.next()
    }

    /// Nothing was read until now.
    pub fn unread_until(&mut self, now: Instant) {
        self.rooms.unread_until(now);
    }

    fn with_rooms<T>(&mut self, apply: impl FnOnce(&mut Rooms, &mut Out<'_>) -> T) -> T {
        let Self { rooms, events, frames, .. } = self;
        apply(rooms, &mut Out { events, frames })
    }

    /// Notes a question and its frame.
    pub fn ask(&mut self, ask: Ask, asker: Asker) {
        if !self.logged_in {
            return asker.fail(AskError::NotConnected);
        }
        self.questions.retain(|question| !question.asker.gone());
        if self.questions.len() == QUESTIONS_MAX {
            return asker.fail(AskError::TooMany);
        }
        self.last_re = self.last_re.wrapping_add(1);
        let re = self.last_re;
        self.frames.push(match ask {
            Ask::Calls => ClientFrame::Calls(CallsQuery { re }),
            Ask::App { code, data } => ClientFrame::App(App { code, body: AppBody { re: Some(re), data } }),
        });
        self.questions.push(Question { re, asker });
    }

    fn answered(&mut self, re: u32) -> Option<Asker> {
        let at = self.questions.iter().position(|question| question.re == re)?;
        Some(self.questions.swap_remove(at).asker)
    }

    /// The frames to write now; acknowledgements only once the application has been given what they are for.
    pub fn take_frames(&mut self) -> Vec<ClientFrame> {
        let frames = std::mem::take(&mut self.frames);
        if !self.logged_in || self.blocked() || self.acks.is_empty() {
            return frames;
        }
        // First: after a LOGOUT they would be nobody's.
        let acks = std::mem::take(&mut self.acks);
        let acks = acks.chunks(ACK_MAX_IDS).map(|ids| ClientFrame::Ack(Ack { ids: ids.to_vec() }));
        acks.chain(frames).collect()
    }

    /// The connection is no more: what waited on it fails, and the way on is decided.
    pub fn part(&mut self, parting: Parting, backoff: &mut Backoff, random: f64) -> Result<Again, End> {
        self.logged_in = false;
        self.frames.clear();
        self.with_rooms(|rooms, out| rooms.parted(out));
        for question in self.questions.drain(..) {
            question.asker.fail(AskError::NotConnected);
        }
        let hint = self.hint.take();
        let mut again =
            Again { after: Duration::ZERO, address: None, token_spent: false, reason: String::new(), else_end: None };
        match parting {
            Parting::Ended(end) => return Err(end),
            Parting::Kicked(reason @ (KickReason::Replaced | KickReason::Removed)) => return Err(End::Kicked(reason)),
            Parting::Kicked(KickReason::TokenExpired) => {
                again.reason = "the token expired".into();
                again.after = backoff.said(Duration::ZERO, random);
                again.token_spent = true;
                again.else_end = Some(End::Kicked(KickReason::TokenExpired));
            }
            Parting::Kicked(KickReason::TooSlow) => {
                again.reason = "read too slowly".into();
                again.after = backoff.next(random);
            }
            Parting::Reconnect { after, address } => {
                again.reason = "the comet goes".into();
                again.after = backoff.said(after, random);
                again.address = address;
            }
            Parting::Refused(error) => {
                let hopeless = error.retry_after_ms.is_none() && error.address.is_none();
                match error.error {
                    ErrorCode::Forbidden | ErrorCode::BadFrame if hopeless => return Err(End::Refused(error)),
                    ErrorCode::Unauthorized => {
                        again.token_spent = true;
                        again.else_end = Some(End::Refused(error.clone()));
                    }
                    _ => {}
                }
                again.reason = format!("login refused: {}", error.message);
                Self::heed(&error, &mut again, backoff, random);
            }
            Parting::Lost(reason) => {
                again.reason = reason;
                match &hint {
                    Some(error) => Self::heed(error, &mut again, backoff, random),
                    None => again.after = backoff.next(random),
                }
            }
        }
        Ok(again)
    }

    fn heed(error: &Error, again: &mut Again, backoff: &mut Backoff, random: f64) {
        again.after = match error.retry_after_ms {
            Some(after) => backoff.said(Duration::from_millis(after.into()), random),
            None => backoff.next(random),
        };
        again.address.clone_from(&error.address);
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
