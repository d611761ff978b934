//! The handle and the events of one client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pushmesh_protocol::{
    Payload, PushId, RoomId,
    frame::{APP_CODE_MIN, Calls, Error, RoomPosition},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{Ask, Asker, Core},
    event::Event,
    memory::Memory,
    options::Options,
    rooms::RoomCounts,
    task::{Command, Task, random},
};

/// Commands that may wait; whoever gives one more waits.
const COMMANDS: usize = 64;
/// How long [`Client::logout`] waits: the 2 s that a comet has to close, and one for what is being written before.
const LOGOUT_WITHIN: Duration = Duration::from_secs(3);

/// The handle of one connected device; clones are the same client.
///
/// Dropping all handles ends nothing: [`Events`] keeps the client alive.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    memory: Memory,
    counts: Arc<Counts>,
    ask_timeout: Duration,
}

/// What happens to a client, in order. Dropping it closes the client.
pub struct Events {
    events: mpsc::Receiver<Event>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("not connected; ask again after the next login")]
    NotConnected,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("refused: {}", .0.message)]
    Refused(Error),
    #[error("256 questions wait for their answers already")]
    TooMany,
    #[error("code {0} is not an application's; the first is {APP_CODE_MIN}")]
    Code(u16),
    #[error("the answer was of another kind than the question")]
    Mismatch,
    #[error("the client has ended")]
    Ended,
}

/// How often things happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// LOGIN_OK frames.
    pub logins: u64,
    /// PUSH and CALL_ENDED frames.
    pub transmissions: u64,
    /// Those of them that had been seen before, and so were not shown.
    pub duplicates: u64,
    /// Items of rooms that were shown.
    pub room_items: u64,
    /// Items of rooms that had been seen before, and so were not shown.
    pub room_duplicates: u64,
    /// JOINs sent because something of a room was missed on a living connection.
    pub room_recoveries: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub logins: AtomicU64,
    pub transmissions: AtomicU64,
    pub duplicates: AtomicU64,
    room_items: AtomicU64,
    room_duplicates: AtomicU64,
    room_recoveries: AtomicU64,
}

impl Counts {
    pub fn told(&self, rooms: &RoomCounts) {
        self.room_items.store(rooms.items, Relaxed);
        self.room_duplicates.store(rooms.repeated, Relaxed);
        self.room_recoveries.store(rooms.recoveries, Relaxed);
    }
}

impl Client {
    /// Starts a client on the current runtime and returns at once: what becomes of it is told by its events.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn connect(options: Options) -> (Client, Events) {
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (told, events) = mpsc::channel(options.events.max(1));
        let (stop, counts) = (CancellationToken::new(), Arc::new(Counts::default()));
        let client = Client {
            commands,
            stop: stop.clone(),
            memory: options.memory.clone(),
            counts: counts.clone(),
            ask_timeout: options.ask_timeout,
        };
        let task = Task {
            core: Core::new(
                options.auto_ack,
                options.resume.clone(),
                options.memory.clone(),
                counts,
                random().to_bits(),
            ),
            options,
            commands: orders,
            unattended: false,
            candidates: Default::default(),
            events: told,
            stop,
            token: None,
        };
        tokio::spawn(task.run());
        (client, Events { events })
    }

    /// Acknowledges pushes; needed only without [`Options::auto_ack`]. While there is no connection it waits for the
    /// next one; of an ended client, for the next client with its [`memory`](Options::memory) to get the push again.
    pub async fn ack(&self, ids: &[PushId]) {
        ids.iter().for_each(|id| self.memory.ack(*id));
        // An ended client has nobody to acknowledge to.
        let _ended = self.commands.send(Command::Ack(ids.to_vec())).await;
    }

    /// The active calls of this login. Those not shown yet are told as [`Event::Push`] too, once.
    pub async fn calls(&self) -> Result<Calls, AskError> {
        self.ask(Ask::Calls, Asker::Calls).await
    }

    /// Asks the backend behind an application's code.
    pub async fn send_app(&self, code: u16, data: impl Into<Payload>) -> Result<Payload, AskError> {
        if code < APP_CODE_MIN {
            return Err(AskError::Code(code));
        }
        self.ask(Ask::App { code, data: data.into() }, Asker::App).await
    }

    /// Wants to be in a room, over all connections, until [`leave`](Self::leave): told as [`Event::Joined`], or as
    /// [`Event::Refused`] where the room takes nobody. In a room already, it is told anew how that stands.
    pub async fn join(&self, room: RoomId) {
        self.want(Command::Join(room, None)).await;
    }

    /// Like [`join`](Self::join), and gets what was missed since `position`: of another process, or of a stay before.
    pub async fn join_from(&self, room: RoomId, position: RoomPosition) {
        self.want(Command::Join(room, Some(position))).await;
    }

    /// Wants to be there no more: told as [`Event::Left`].
    pub async fn leave(&self, room: RoomId) {
        self.want(Command::Leave(room)).await;
    }

    async fn want(&self, command: Command) {
        // An ended client is in no room.
        let _ended = self.commands.send(command).await;
    }

    async fn ask<T>(
        &self,
        ask: Ask,
        asker: impl FnOnce(oneshot::Sender<Result<T, AskError>>) -> Asker,
    ) -> Result<T, AskError> {
        let (sender, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(Command::Ask(ask, asker(sender))).await.map_err(|_| AskError::Ended)?;
            answer.await.map_err(|_| AskError::Ended)?
        };
        tokio::time::timeout(self.ask_timeout, asked).await.unwrap_or(Err(AskError::Timeout(self.ask_timeout)))
    }

    /// Gives up the connection and makes a new one, as after a change of the network; the login goes on.
    pub async fn reconnect(&self) {
        // An ended client stays ended.
        let _ended = self.commands.send(Command::Reconnect).await;
    }

    /// Ends the login and the client; returns once the comet closed, after 3 s at most.
    ///
    /// A comet that reads nothing can't be told. The client then ends as by [`close`](Self::close), within the 10 s that a
    /// write may take, and the mesh ends the login by itself a minute later.
    pub async fn logout(&self) {
        let over = async {
            if self.commands.send(Command::Logout).await.is_ok() {
                self.commands.closed().await;
            }
        };
        if tokio::time::timeout(LOGOUT_WITHIN, over).await.is_err() {
            self.close();
        }
    }

    /// Ends the client and leaves the login: a connection that resumes it within a minute goes on with it. What was acknowledged
    /// before goes out, if the comet takes it within half a second.
    pub fn close(&self) {
        self.stop.cancel();
    }

    pub fn stats(&self) -> Stats {
        Stats {
            logins: self.counts.logins.load(Relaxed),
            transmissions: self.counts.transmissions.load(Relaxed),
            duplicates: self.counts.duplicates.load(Relaxed),
            room_items: self.counts.room_items.load(Relaxed),
            room_duplicates: self.counts.room_duplicates.load(Relaxed),
            room_recoveries: self.counts.room_recoveries.load(Relaxed),
        }
    }
}

impl Events {
    /// The next event; `None` after [`Event::Ended`]. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event if it is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}
