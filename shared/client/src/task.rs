//! The task that keeps a client connected: it chooses what happens next, [`Core`] applies it.

use std::{
    collections::VecDeque,
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    PushId, RoomId,
    frame::{ClientFrame, Login, Logout, Ping, RoomPosition, ServerFrame},
};
use tokio::{
    select,
    sync::mpsc::{self, error::TrySendError},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Address,
    backoff::Backoff,
    client::AskError,
    core::{Ask, Asker, Core, Parting, Step},
    event::{End, Event},
    heartbeat::{Due, Heartbeat},
    options::Options,
    wire::{Wire, WireError},
};

/// Most frames that are read before acknowledgements go out.
const READ_BATCH: usize = 256;
/// How long api may take to say where to connect.
const WHERE_WITHIN: Duration = Duration::from_secs(3);
/// How long the last acknowledgements may take to be written at a close.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
/// How long a comet may take to close after LOGOUT.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a [`Client`](crate::Client) asks of its task.
pub(crate) enum Command {
    Ack(Vec<PushId>),
    Ask(Ask, Asker),
    Join(RoomId, Option<RoomPosition>),
    Leave(RoomId),
    /// Gives up the connection and makes a new one.
    Reconnect,
    Logout,
}

pub(crate) struct Task {
    pub options: Options,
    pub core: Core,
    pub commands: mpsc::Receiver<Command>,
    /// No handle is left; the task goes on for who reads the events.
    pub unattended: bool,
    pub events: mpsc::Sender<Event>,
    pub stop: CancellationToken,
    pub token: Option<Arc<str>>,
    /// Where to try next, before api is asked again.
    pub candidates: VecDeque<Address>,
}

/// What may happen on a connection.
enum Happening<'a> {
    Stop,
    Room(mpsc::Permit<'a, Event>),
    Command(Option<Command>),
    Frame(Result<ServerFrame, WireError>),
    Tick,
}

impl Task {
    pub async fn run(mut self) {
        let end = self.until_the_end().await;
        tracing::debug!(?end, "client ended");
        let Self { mut core, commands, events, .. } = self;
        // Who waits for the end learns of it before the application has read everything.
        drop(commands);
        core.events.push_back(Event::Ended(end));
        for event in core.events {
            // Nobody reads: nothing is left to do.
            if events.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn until_the_end(&mut self) -> End {
        let mut backoff = Backoff::new(self.options.backoff.first, self.options.backoff.cap);
        let mut said: Option<Address> = None;
        let mut spent: Option<(Arc<str>, End)> = None;
        loop {
            let address = match said.take() {
                Some(address) => address,
                None => match self.candidate().await {
                    Ok(address) => address,
                    Err(end) => return end,
                },
            };
            let (parting, lived) = self.connection(&address, spent.take()).await;
            if lived > Duration::ZERO {
                self.candidates.clear();
            }
            if lived >= self.options.backoff.cap {
                backoff.reset();
            }
            let again = match self.core.part(parting, &mut backoff, random()) {
                Ok(again) => again,
                Err(end) => return end,
            };
            said = again.address.as_deref().and_then(|said| self.instead(said));
            if again.token_spent {
                spent = self.token.take().zip(again.else_end);
            }
            self.core.events.push_back(Event::Disconnected { reason: again.reason, again_in: again.after });
            if let Err(end) = self.pause(again.after).await {
                return end;
            }
        }
    }

    /// Where to try next: api's candidates in their order, then the usual address.
    async fn candidate(&mut self) -> Result<Address, End> {
        let usual = self.options.address.clone();
        let Some(api) = self.options.api.clone() else { return Ok(usual) };
        if let Some(next) = self.candidates.pop_front() {
            return Ok(next);
        }
        let asked = timeout(WHERE_WITHIN, api.comets(usual.transport()));
        match self.offline(asked).await? {
            Ok(Ok(comets)) => self.candidates = comets.iter().filter_map(|comet| self.instead(comet)).collect(),
            Ok(Err(error)) => tracing::debug!(%error, "api does not say where to connect"),
            Err(_) => tracing::debug!("api does not say where to connect within {WHERE_WITHIN:?}"),
        }
        self.candidates.push_back(usual.clone());
        Ok(self.candidates.pop_front().unwrap_or(usual))
    }

    fn instead(&self, said: &str) -> Option<Address> {
        let address = self.options.address.instead(said);
        address.inspect_err(|error| tracing::warn!(%error, "told of an address that is none")).ok()
    }

    /// One connection from its beginning to its end, and how long it was logged in.
    async fn connection(&mut self, address: &Address, spent: Option<(Arc<str>, End)>) -> (Parting, Duration) {
        let token = match self.fresh_token(spent).await {
            Ok(token) => token,
            Err(parting) => return (parting, Duration::ZERO),
        };
        let login = Login {
            token: token.as_ref().to_owned(),
            device: self.options.device.clone(),
            resume: self.core.resume.clone(),
            heartbeat: self.options.heartbeat,
        };
        let (encoding, within) = (self.options.encoding, self.options.connect_timeout);
        let greeting = async {
            let mut wire = Wire::open(address, encoding).await?;
            wire.send(&[ClientFrame::Login(login)]).await?;
            let mut early = Vec::new();
            loop {
                match wire.next().await? {
                    answer @ (ServerFrame::LoginOk(_)
                    | ServerFrame::Error(_)
                    | ServerFrame::Kick(_)
                    | ServerFrame::Reconnect(_)) => return Ok::<_, WireError>((wire, answer, early)),
                    // A push may be faster than the answer to LOGIN; what doesn't fit here is sent again.
                    frame if early.len() < READ_BATCH => early.push(frame),
                    _ => {}
                }
            }
        };
        let (mut wire, answer, early) = match self.offline(timeout(within, greeting)).await {
            Ok(Ok(Ok(greeted))) => greeted,
            Ok(Ok(Err(error))) => return (Parting::Lost(error.to_string()), Duration::ZERO),
            Ok(Err(_)) => return (Parting::Lost(format!("no answer to LOGIN within {within:?}")), Duration::ZERO),
            Err(end) => return (Parting::Ended(end), Duration::ZERO),
        };
        let heartbeat = match self.core.apply(answer, Instant::now()) {
            Step::LoggedIn(heartbeat) => heartbeat,
            Step::Part(parting) => return (parting, Duration::ZERO),
            Step::Go => return (Parting::Lost("LOGIN was not answered".into()), Duration::ZERO),
        };
        for frame in early {
            self.core.apply(frame, Instant::now());
        }
        let since = Instant::now();
        let parting = self.serve(&mut wire, Heartbeat::new(heartbeat, since)).await;
        (parting, since.elapsed())
    }

    /// The token in use, or another one than the one that was refused.
    async fn fresh_token(&mut self, spent: Option<(Arc<str>, End)>) -> Result<Arc<str>, Parting> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let source = self.options.token.clone();
        let token = match self.offline(source.token()).await {
            Ok(Ok(token)) => token,
            // Asked again after a while; what was refused stays refused.
            Ok(Err(error)) => return Err(Parting::Lost(error.to_string())),
            Err(end) => return Err(Parting::Ended(end)),
        };
        match spent {
            Some((old, end)) if old == token => Err(Parting::Ended(end)),
            _ => {
                self.token = Some(token.clone());
                Ok(token)
            }
        }
    }

    /// Waits, and until the application has read why.
    async fn pause(&mut self, delay: Duration) -> Result<(), End> {
        self.offline(sleep(delay)).await?;
        while self.core.blocked() {
            let events = self.events.clone();
            let room = self.offline_without_events(events.reserve()).await?;
            match (room, self.core.events.pop_front()) {
                (Ok(permit), Some(event)) => permit.send(event),
                _ => return Err(End::Closed),
            }
        }
        Ok(())
    }

    /// Does `work` without a connection, handing out events meanwhile as far as there is room.
    async fn offline<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        self.hand_out()?;
        self.offline_without_events(work).await
    }

    async fn offline_without_events<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            let command = select! {
                biased;
                () = self.stop.cancelled() => return Err(End::Closed),
                () = self.events.closed() => return Err(End::Closed),
                command = self.commands.recv(), if !self.unattended => command,
                done = &mut work => return Ok(done),
            };
            match command {
                Some(Command::Ack(ids)) => ids.into_iter().for_each(|id| self.core.ack(id)),
                Some(Command::Ask(_, asker)) => asker.fail(AskError::NotConnected),
                Some(Command::Join(room, from)) => self.core.join(room, from, Instant::now()),
                Some(Command::Leave(room)) => self.core.leave(&room, Instant::now()),
                Some(Command::Reconnect) => {}
                Some(Command::Logout) => return Err(End::LoggedOut),
                None => self.unattended = true,
            }
        }
    }

    async fn serve(&mut self, wire: &mut Wire, mut heartbeat: Heartbeat) -> Parting {
        let mut leaving: Option<Instant> = None;
        let events = self.events.clone();
        loop {
            if let Err(parting) = self.flush(wire).await {
                return if leaving.is_some() { Parting::Ended(End::LoggedOut) } else { parting };
            }
            let blocked = self.core.blocked();
            let due = self.core.next_due().filter(|_| !blocked);
            let wake =
                [Some(heartbeat.next()), leaving, due].into_iter().flatten().min().expect("there is a heartbeat");
            let happening = select! {
                () = self.stop.cancelled() => Happening::Stop,
                // While events wait for room the socket is not read: backpressure towards the comet.
                room = events.reserve(), if blocked => room.map_or(Happening::Stop, Happening::Room),
                () = events.closed(), if !blocked => Happening::Stop,
                command = self.commands.recv(), if !self.unattended => Happening::Command(command),
                frame = wire.next(), if !blocked => Happening::Frame(frame),
                () = sleep_until(wake.into()) => Happening::Tick,
            };
            let now = Instant::now();
            match happening {
                Happening::Stop => {
                    self.acknowledge_the_last(wire).await;
                    return Parting::Ended(End::Closed);
                }
                Happening::Room(permit) => {
                    permit.send(self.core.events.pop_front().expect("blocked means that an event waits"));
                    heartbeat.heard(now);
                    self.core.unread_until(now);
                }
                Happening::Command(None) => self.unattended = true,
                Happening::Command(Some(Command::Ack(ids))) => ids.into_iter().for_each(|id| self.core.ack(id)),
                Happening::Command(Some(Command::Ask(ask, asker))) => self.core.ask(ask, asker),
                Happening::Command(Some(Command::Join(room, from))) => self.core.join(room, from, now),
                Happening::Command(Some(Command::Leave(room))) => self.core.leave(&room, now),
                Happening::Command(Some(Command::Reconnect)) => {
                    return Parting::Reconnect { after: Duration::ZERO, address: None };
                }
                Happening::Command(Some(Command::Logout)) => {
                    self.core.frames.push(ClientFrame::Logout(Logout {}));
                    leaving = Some(now + LOGOUT_TIMEOUT);
                }
                Happening::Frame(Ok(frame)) => {
                    heartbeat.heard(now);
                    if let Err(parting) = self.read(wire, frame, now) {
                        // What was read with the last word is acknowledged, if the socket still takes it.
                        let _closing = self.flush(wire).await;
                        return if leaving.is_some() { Parting::Ended(End::LoggedOut) } else { parting };
                    }
                }
                Happening::Frame(Err(_)) if leaving.is_some() => return Parting::Ended(End::LoggedOut),
                Happening::Frame(Err(error)) => return Parting::Lost(error.to_string()),
                Happening::Tick => {
                    if leaving.is_some_and(|deadline| now >= deadline) {
                        return Parting::Ended(End::LoggedOut);
                    }
                    if blocked {
                        heartbeat.heard(now);
                    }
                    match heartbeat.due(now) {
                        Due::Nothing => {}
                        Due::Ping => self.core.frames.push(ClientFrame::Ping(Ping {})),
                        Due::Dead => return Parting::Lost("silent for too long".into()),
                    }
                }
            }
            if !self.core.blocked() {
                self.core.due(now);
            }
        }
    }

    /// What the application acknowledged before it closed goes out: else the device's next connection is told it again.
    async fn acknowledge_the_last(&mut self, wire: &mut Wire) {
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Ack(ids) = command {
                ids.into_iter().for_each(|id| self.core.ack(id));
            }
        }
        // A comet that does not read learns nothing; it sends again.
        let _unwritten = timeout(CLOSE_WITHIN, wire.send(&self.core.take_frames())).await;
    }

    /// Applies a frame and all that are here already, up to a batch.
    fn read(&mut self, wire: &mut Wire, first: ServerFrame, now: Instant) -> Result<(), Parting> {
        let mut frame = first;
        for _ in 1..READ_BATCH {
            if let Step::Part(parting) = self.core.apply(frame, now) {
                return Err(parting);
            }
            // A full channel ends the batch: at most one frame's events wait beyond it.
            if self.hand_out().is_err() || self.core.blocked() {
                return Ok(());
            }
            frame = match wire.ready() {
                None => return Ok(()),
                Some(Ok(next)) => next,
                Some(Err(error)) => return Err(Parting::Lost(error.to_string())),
            };
        }
        match self.core.apply(frame, now) {
            Step::Part(parting) => Err(parting),
            Step::Go | Step::LoggedIn(_) => Ok(()),
        }
    }

    /// Gives the application what there is room for.
    fn hand_out(&mut self) -> Result<(), End> {
        while let Some(event) = self.core.events.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.core.events.push_front(event);
                    return Ok(());
                }
                Err(TrySendError::Closed(_)) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    async fn flush(&mut self, wire: &mut Wire) -> Result<(), Parting> {
        self.hand_out().map_err(Parting::Ended)?;
        let frames = self.core.take_frames();
        wire.send(&frames).await.map_err(|error| Parting::Lost(error.to_string()))
    }
}

/// 0 to 1, different in every process and call: enough for jitter, and no dependency.
pub(crate) fn random() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1u64 << 53) as f64
}
