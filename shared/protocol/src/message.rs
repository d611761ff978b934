//! What services say to each other, and what they keep in streams and buckets, by [`crate::wire`].
//!
//! Times are milliseconds since 1970 (UTC). New fields go to the end of a struct, with `#[serde(default)]`;
//! new variants to the end of an enum.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    frame::{ActiveCall, Call, CallEnded, Kick, Message, Push},
    id::{CallId, ConnId, DeviceId, Instance, Kind, LoginId, PushId, Token, Unit, UserId},
    partition::{Partition, Partitions},
    payload::Payload,
    trace::TraceContext,
};

/// Milliseconds since 1970 (UTC).
pub type Millis = u64;
/// A lease's revision: who holds a partition now has the highest.
pub type Epoch = u64;

// ---- logins

/// Somebody came or went: what the stream LOGIN holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginRecord {
    pub user: UserId,
    pub event: LoginEvent,
    pub at: Millis,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LoginEvent {
    Online {
        login_id: LoginId,
        device: DeviceId,
    },
    /// Without a login id it ends the user's logins (of `device`, if named) begun before the record's `at`.
    Offline {
        login_id: Option<LoginId>,
        device: Option<DeviceId>,
        cause: OfflineCause,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OfflineCause {
    /// A login system said so.
    Reported,
    /// The client logged out.
    Logout,
    /// Its session was left for too long: ends nothing that has a live session again.
    Timeout,
}

/// What a door hands to login-ingest: a record whose login id may still have to be minted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginReport {
    pub user: UserId,
    /// `None` counts as the device `default`.
    pub device: Option<DeviceId>,
    pub login_id: Option<LoginId>,
    pub event: ReportedEvent,
    pub at: Millis,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportedEvent {
    Online,
    Offline(OfflineCause),
}

/// A comet's request to login-ingest; the answer is a [`LoginAnswers`] of the same length and order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginReports(pub Vec<LoginReport>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginAnswers(pub Vec<LoginAnswer>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginAnswer {
    /// Stored. For an `online`, its login id.
    Accepted { login_id: Option<LoginId> },
    /// Not stored, and never will be as it is.
    Refused { field: String, reason: String },
    /// An outage: it may have been stored. Say it again, with the same login id.
    Unknown { reason: String, retry_after_ms: u32 },
}

// ---- sessions

/// A connection that is logged in: value in the bucket `sess`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub login_id: LoginId,
    pub device: DeviceId,
    pub comet: Instance,
    pub comet_epoch: Epoch,
    pub since: Millis,
    /// When its socket broke, if it did.
    pub left: Option<Millis>,
}

/// What has become of the login that a session began with, where something has: value in the bucket `sess`, beside the
/// session. So a push kind's next owner knows what the last one was told by LOGIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLogin {
    /// The session's own.
    pub began: LoginId,
    pub device: DeviceId,
    /// The session's: of two sessions of a device the later one counts.
    pub since: Millis,
    /// The newest record that says so.
    pub by: EndedBy,
}

/// A record of LOGIN that ended a login for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// Its place in LOGIN: of two records of a device the later one counts, whatever the clocks say.
    pub sequence: u64,
    /// The login that it began in the other's place; an `offline` begins none.
    pub successor: Option<Successor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    pub login_id: LoginId,
    pub at: Millis,
}

impl EndedBy {
    /// The login that stands now.
    pub fn current(&self) -> Option<&LoginId> {
        self.successor.as_ref().map(|successor| &successor.login_id)
    }
}

// ---- distributor → push services

/// Request to the instance that owns the partitions in a kind; answered by an [`OnlineAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineBatch {
    pub from: Instance,
    pub entries: Vec<OnlineEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineEntry {
    pub partition: Partition,
    /// The distributor's lease of the partition: receivers refuse older ones.
    pub epoch: Epoch,
    /// The record's sequence in LOGIN: the order of a user's records, whichever way they came.
    pub sequence: u64,
    pub record: LoginRecord,
}

/// As many results as there were entries, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineAnswer {
    pub results: Vec<OnlineResult>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnlineResult {
    /// Evaluated, and its pushes are stored.
    Done { pushes: u32 },
    /// Another instance owns the partition: look it up again.
    NotMine,
    /// The sender's epoch is older than one already seen: it owns the partition no more.
    Fenced { current: Epoch },
    /// Not stored now: say it again.
    Failed { reason: String },
}

/// What `LATE_<kind>` holds: a record that its kind could not take in time.
pub type LateRecord = OnlineEntry;

// ---- pushes

/// What the stream PUSH holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PushOrder {
    Deliver(Delivery),
    Withdraw(Withdrawal),
    LoginEnded(LoginEnded),
}

impl PushOrder {
    pub fn user(&self) -> &UserId {
        match self {
            Self::Deliver(delivery) => &delivery.user,
            Self::Withdraw(withdrawal) => &withdrawal.user,
            Self::LoginEnded(ended) => &ended.user,
        }
    }
}

/// Somebody is to be told something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: PushId,
    pub user: UserId,
    pub target: Target,
    pub body: Body,
    pub policy: Policy,
    pub at: Millis,
    /// Who made it: ack-retry tells an older epoch's push.
    pub source: Option<Source>,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// One login: goes to the newest session of its user and device.
    Login { login_id: LoginId, device: DeviceId },
    /// All the user's devices; the first acknowledgement settles it.
    User,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    Call(Call),
    Message(Message),
}

/// What becomes of a push that nobody acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub at_end: AtEnd,
    /// After this long it expires, wherever it is.
    pub lifetime_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AtEnd {
    /// Kept for the user's next login.
    Inbox,
    /// Dead letter and alarm after the third transmission; expires silently with its login.
    Dead,
    /// Dropped and counted: worth nothing later.
    Drop,
}

/// The lease under which a push was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub service: Token,
    pub epoch: Epoch,
}

/// A call ended: settles `push` even before it arrives, and becomes a push of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// [`PushId::withdrawal`] of `push`.
    pub id: PushId,
    pub push: PushId,
    pub user: UserId,
    pub login_id: LoginId,
    pub device: DeviceId,
    pub kind: Kind,
    pub call_id: CallId,
    pub at: Millis,
    pub source: Option<Source>,
    pub trace: Option<TraceContext>,
}

/// A login ended in one kind: its calls expire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoginEnded {
    pub user: UserId,
    pub login_id: LoginId,
    pub kind: Kind,
    pub at: Millis,
    /// The record that ended it for good; `None` where its sessions tell everybody all there is to know: it timed out (and
    /// a session that is heard again undoes that), logged out, or gave way to a newer session.
    #[serde(default)]
    pub by: Option<EndedBy>,
}

// ---- ack-retry ↔ comet

/// To a comet's inbox: frames for its connections, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CometBatch {
    pub items: Vec<CometItem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CometItem {
    pub partition: Partition,
    /// The sender's lease of the partition: a comet drops older ones, and says so.
    pub epoch: Epoch,
    pub user: UserId,
    pub conn_id: ConnId,
    pub order: CometOrder,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CometOrder {
    Push(Push),
    CallEnded(CallEnded),
    Kick(Kick),
}

/// From a comet to the owner of a partition, on its ack subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AckBatch {
    pub comet: Instance,
    pub comet_epoch: Epoch,
    pub items: Vec<AckItem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AckItem {
    pub user: UserId,
    pub conn_id: ConnId,
    pub push: PushId,
    pub outcome: AckOutcome,
    /// The comet's delivery span, for the settling one.
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckOutcome {
    /// The client has it.
    Acked,
    /// The comet has no such connection: the transmission does not count.
    Gone,
    /// The comet has seen a newer epoch of the partition.
    Fenced,
}

/// A push that was not acknowledged in its first 2 s: value in the bucket `pending`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    pub order: PushOrder,
    /// The per-user sequence its frame carries: the sequence in PUSH.
    pub seq: u64,
    /// Transmissions begun.
    pub tries: u8,
    pub state: PendingState,
    /// When the last transmission began, or it went into the inbox.
    pub at: Millis,
    /// Logins that have had their tries: an inbox waits for another one. At most 32, the latest.
    #[serde(default)]
    pub logins: Vec<LoginId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PendingState {
    Trying,
    Inbox,
}

/// Where the owners of a partition of PUSH stopped, noted by the last one when it handed over and by the next when it took
/// over: value of its key in the bucket `pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Up to this one everything may have been sent once.
    pub sequence: u64,
    /// Its writer has let go: nothing after `sequence` has been looked at, though it may have been delivered. Otherwise
    /// its writer has only begun there.
    #[serde(default)]
    pub handed_over: bool,
}

/// What DEAD holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub service: Token,
    pub reason: DeadReason,
    /// For people.
    pub detail: String,
    pub at: Millis,
    pub subject: String,
    pub payload: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadReason {
    /// Three transmissions, no acknowledgement.
    Unacknowledged,
    /// Nobody could read it.
    Malformed,
    /// Its handler refused it.
    Rejected,
    /// The inbox was full of newer ones.
    InboxFull,
}

impl DeadReason {
    pub fn token(self) -> &'static str {
        match self {
            Self::Unacknowledged => "unacknowledged",
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::InboxFull => "inbox_full",
        }
    }
}

// ---- directories and calls

/// A membership: payload in `DIR_<kind>`; an empty payload is a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub role: Option<Token>,
    pub at: Millis,
}

/// A call: value in the bucket `call_<kind>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub unit: Unit,
    pub started_at: Millis,
    /// Set when it ended; the key is purged 10 min later.
    pub ended_at: Option<Millis>,
    pub data: Option<Payload>,
    pub trace: Option<TraceContext>,
}

/// A client's CALLS question to the owner of its partition in one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallsRequest {
    pub user: UserId,
    pub login_id: LoginId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallsAnswer {
    pub calls: Vec<ActiveCall>,
}

// ---- applications

/// An application's frame on its way to a backend; the answer is an [`AppAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRequest {
    pub code: u16,
    pub user: UserId,
    pub device: DeviceId,
    pub login_id: LoginId,
    pub data: Payload,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AppAnswer {
    Data(Payload),
    Error(String),
}

// ---- membership

/// What the mesh was provisioned with: value of the key `info` in the bucket `mesh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshInfo {
    pub partitions: Partitions,
    pub kinds: Vec<Kind>,
}

/// Value of a member's key in the bucket `mesh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// 1 to 100.
    pub weight: u16,
    /// The revision of the first put: grows with every start.
    pub epoch: Epoch,
    /// Where clients or people reach it; may be empty.
    pub address: String,
    pub draining: bool,
    /// It takes partitions: only such members stand in the ring of their service.
    #[serde(default)]
    pub owning: bool,
}

/// Value of a lease's key in the bucket `mesh`; the key's revision is the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub owner: Instance,
    pub owner_epoch: Epoch,
}

/// Every 250 ms from every member, on core NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub epoch: Epoch,
    pub seq: u64,
}
