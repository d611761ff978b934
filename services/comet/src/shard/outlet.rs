//! What shards ask of the rest of the comet, which talks to the mesh on a runtime of its own.

use pushmesh_protocol::{
    ConnId, DeviceId, LoginId, Partition, Payload, PushId, RoomId, TraceContext, UserId,
    frame::{self, Login, RoomPosition},
    message::{AckOutcome, Epoch, Millis},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    address::Address,
    close::CloseReason,
    limit::Seat,
    queue::{self, Weigh, queue},
    room::Tally,
};

/// Acknowledgements that wait to be batched, and their bytes; more are dropped and counted: their pushes are sent again.
const ACKS: (usize, u32) = (65_536, 32 << 20);
/// Questions that wait, and their bytes; more are answered ERROR unavailable.
const QUESTIONS: (usize, u32) = (8_192, 64 << 20);
/// News of rooms that wait, and their bytes. Of more a JOIN is answered ERROR unavailable, and a tally said again.
const ROOMS: (usize, u32) = (32_768, 32 << 20);
/// What an entry costs besides what it carries, roughly.
const ENTRY_BYTES: usize = 256;

/// The sending ends, one set for each shard.
#[derive(Debug, Clone)]
pub struct Outlets {
    pub logins: mpsc::Sender<LoginRequest>,
    pub acks: queue::Sender<AckEvent>,
    pub questions: queue::Sender<Question>,
    pub rooms: queue::Sender<RoomNews>,
    /// As long as the number of connections: each holds its place until the end of its session is written,
    /// so that this one is never full.
    pub endings: mpsc::Sender<Ending>,
}

/// The receiving ends.
#[derive(Debug)]
pub struct Intake {
    pub logins: mpsc::Receiver<LoginRequest>,
    pub acks: queue::Receiver<AckEvent>,
    pub questions: queue::Receiver<Question>,
    pub rooms: queue::Receiver<RoomNews>,
    pub endings: mpsc::Receiver<Ending>,
}

/// `connections` and `before_login` are the most there can be at once.
pub fn outlets(connections: usize, before_login: usize) -> (Outlets, Intake) {
    let (logins, logins_rx) = mpsc::channel(before_login);
    let (acks, acks_rx) = queue(ACKS.0, ACKS.1);
    let (questions, questions_rx) = queue(QUESTIONS.0, QUESTIONS.1);
    let (rooms, rooms_rx) = queue(ROOMS.0, ROOMS.1);
    let (endings, endings_rx) = mpsc::channel(connections);
    (
        Outlets { logins, acks, questions, rooms, endings },
        Intake { logins: logins_rx, acks: acks_rx, questions: questions_rx, rooms: rooms_rx, endings: endings_rx },
    )
}

/// May this connection log in?
#[derive(Debug)]
pub struct LoginRequest {
    /// It can be reached there already: a push that comes before LOGIN_OK waits for it.
    pub address: Address,
    pub login: Login,
    pub answer: oneshot::Sender<Result<Admitted, Refused>>,
}

/// It may: its session stands, its login is stored.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub session: SessionNote,
    /// The end of the token's life.
    pub expires: Millis,
    pub resumed: bool,
}

/// It may not.
#[derive(Debug, Clone)]
pub struct Refused {
    pub error: frame::Error,
    pub reason: CloseReason,
}

/// What a comet knows of a session it has put.
#[derive(Debug, Clone)]
pub struct SessionNote {
    pub address: Address,
    pub partition: Partition,
    pub user: UserId,
    pub device: DeviceId,
    pub login_id: LoginId,
    pub since: Millis,
    /// Of its key: a key that was purged or taken over meanwhile is not written over.
    pub revision: u64,
    pub comet_epoch: Epoch,
}

/// A connection is gone.
#[derive(Debug)]
pub struct Ending {
    pub session: SessionNote,
    pub at: Millis,
    pub how: EndingKind,
    pub seat: Seat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndingKind {
    /// Its login goes on for a while.
    Left,
    /// Its login ended.
    Logout,
}

/// To the owners of pushes.
#[derive(Debug)]
pub enum AckEvent {
    /// A client has these.
    Acked { partition: Partition, user: UserId, from: Address, pushes: Vec<PushId> },
    /// This one reached nobody, for this reason.
    Undelivered { partition: Partition, user: UserId, conn: ConnId, push: PushId, outcome: AckOutcome },
    /// A sampled delivery began: its acknowledgement carries this context.
    Sampled { push: PushId, trace: TraceContext },
}

/// A client wants to know.
#[derive(Debug)]
pub struct Question {
    pub from: Address,
    pub partition: Partition,
    pub user: UserId,
    pub device: DeviceId,
    pub login_id: LoginId,
    pub what: Asked,
}

#[derive(Debug)]
pub enum Asked {
    Calls { re: u32 },
    App { code: u16, re: Option<u32>, data: Payload },
}

/// What shards say of rooms, in order.
#[derive(Debug)]
pub enum RoomNews {
    /// A connection wants to be in a room. It is among its members already, and what comes is held for it.
    Join(Box<JoinRequest>),
    /// How rooms are now at one shard.
    Tallies { shard: u16, rooms: Vec<Tally> },
}

#[derive(Debug, Clone)]
pub struct JoinRequest {
    pub from: Address,
    /// Said again in the answer.
    pub attempt: u32,
    pub room: RoomId,
    pub user: UserId,
    pub resume: Option<RoomPosition>,
}

impl Weigh for AckEvent {
    fn weight(&self) -> usize {
        match self {
            Self::Acked { pushes, .. } => ENTRY_BYTES + size_of_val(pushes.as_slice()),
            Self::Undelivered { .. } | Self::Sampled { .. } => ENTRY_BYTES,
        }
    }
}

impl Weigh for Question {
    fn weight(&self) -> usize {
        match &self.what {
            Asked::App { data, .. } => ENTRY_BYTES + data.0.len(),
            Asked::Calls { .. } => ENTRY_BYTES,
        }
    }
}

impl Weigh for RoomNews {
    fn weight(&self) -> usize {
        match self {
            Self::Join(_) => ENTRY_BYTES,
            Self::Tallies { rooms, .. } => {
                let names: usize = rooms.iter().map(|tally| tally.came.len() + tally.went.len()).sum();
                ENTRY_BYTES * (1 + rooms.len()) + names * ENTRY_BYTES / 4
            }
        }
    }
}
