//! One push at the desk.

use std::collections::BTreeSet;

use pushmesh_protocol::{
    ConnId, DeviceId, Kind, LoginId, PushId, UserId,
    message::{AtEnd, Body, Millis, Pending, PendingState, PushOrder, Target},
};

use crate::{logins::Ended, settled::Settled, slab::Id, wheel::TimerId};

/// Most logins remembered as having had their tries.
pub const LOGINS_MAX: usize = 32;
/// What a push costs in memory beside its content.
const ENTRY_BYTES: usize = 256;

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Acked,
    /// Its call ended.
    Withdrawn,
    /// Its lifetime or its login ended.
    Expired,
    /// Three transmissions and no acknowledgement: a dead letter.
    Dead,
    /// Pushed out of an inbox by newer ones: a dead letter.
    InboxFull,
    /// Worth nothing later.
    Dropped,
}

impl Outcome {
    pub const ALL: [Outcome; 6] =
        [Self::Acked, Self::Withdrawn, Self::Expired, Self::Dead, Self::InboxFull, Self::Dropped];

    pub fn name(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::InboxFull => "inbox_full",
            Self::Dropped => "dropped",
        }
    }
}

/// What the desk knows of one user beside his sessions.
#[derive(Debug, Default)]
pub struct User {
    /// By their place in PUSH, so that one of many is found and removed at the cost of one of few.
    pub pushes: BTreeSet<(u64, Id)>,
    /// Those of them in the inbox that have not ended.
    pub inbox: BTreeSet<(u64, Id)>,
    pub settled: Settled,
    /// Logins that ended by a record.
    pub ended: Ended,
    pub touched: Millis,
}

impl User {
    /// The user's pushes, the oldest first: as they are now, whatever becomes of them.
    pub fn push_ids(&self) -> Vec<Id> {
        self.pushes.iter().map(|(_, id)| *id).collect()
    }
}

/// Whom a push is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The newest session of the login's device. With a kind, it ends with its login in that kind.
    Login { login: LoginId, device: DeviceId, kind: Option<Kind> },
    /// All devices.
    User,
}

/// What `pending` says of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    pub tries: u8,
    pub inbox: bool,
}

#[derive(Debug)]
pub struct Entry {
    pub id: PushId,
    pub user: UserId,
    pub to: To,
    pub at_end: AtEnd,
    pub made_at: Millis,
    pub expires: Millis,
    pub seq: u64,
    /// `None`: the content is in `pending` alone.
    pub order: Option<Box<PushOrder>>,
    bytes: usize,
    /// The unacknowledged message in PUSH.
    pub stream: Option<u64>,
    pub noted: Option<Noted>,
    /// An effect is on its way.
    pub busy: bool,
    pub ended: Option<Outcome>,
    pub buried: bool,
    /// A message of PUSH that waits until this push is purged.
    pub hold: Option<u64>,
    /// Transmissions that count.
    pub tries: u8,
    pub last_sent: Option<Millis>,
    /// A new session came: send without waiting for the interval.
    pub urgent: bool,
    pub inbox: bool,
    /// Which transmission, by its own number, went to which connections.
    pub sent_to: Vec<(u32, ConnId)>,
    /// Transmissions begun, those that reached nobody included.
    pub begun: u32,
    /// Logins that had their tries.
    pub logins: Vec<LoginId>,
    pub timer: Option<TimerId>,
}

impl Entry {
    /// `None` for orders that are no push of their own.
    pub fn new(order: PushOrder, seq: u64, withdrawal_lifetime: Millis) -> Option<Self> {
        let (id, to, at_end, made_at, lifetime, content) = match &order {
            PushOrder::Deliver(delivery) => {
                let (kind, content) = match &delivery.body {
                    Body::Call(call) => (Some(call.kind.clone()), call.data.as_ref().map_or(0, |data| data.0.len())),
                    Body::Message(message) => (None, message.data.0.len()),
                };
                let to = match &delivery.target {
                    // An inbox is the user's.
                    _ if delivery.policy.at_end == AtEnd::Inbox => To::User,
                    Target::User => To::User,
                    Target::Login { login_id, device } => {
                        To::Login { login: login_id.clone(), device: device.clone(), kind }
                    }
                };
                (delivery.id, to, delivery.policy.at_end, delivery.at, delivery.policy.lifetime_ms, content)
            }
            PushOrder::Withdraw(ended) => {
                let (login, device) = (ended.login_id.clone(), ended.device.clone());
                let to = To::Login { login, device, kind: Some(ended.kind.clone()) };
                (ended.id, to, AtEnd::Dead, ended.at, withdrawal_lifetime, 0)
            }
            PushOrder::LoginEnded(_) => return None,
        };
        Some(Self {
            id,
            user: order.user().clone(),
            to,
            at_end,
            made_at,
            expires: made_at.saturating_add(lifetime),
            seq,
            order: Some(Box::new(order)),
            bytes: ENTRY_BYTES + content,
            stream: None,
            noted: None,
            busy: false,
            ended: None,
            buried: false,
            hold: None,
            tries: 0,
            last_sent: None,
            urgent: false,
            inbox: false,
            sent_to: Vec::new(),
            begun: 0,
            logins: Vec::new(),
            timer: None,
        })
    }

    /// From the message in PUSH. One that an earlier owner was given counts as sent once, when it was stored.
    pub fn of_stream(order: PushOrder, seq: u64, sent_at: Option<Millis>, withdrawal_lifetime: Millis) -> Option<Self> {
        let entry = Self::new(order, seq, withdrawal_lifetime)?;
        Some(Self { stream: Some(seq), tries: sent_at.map_or(0, |_| 1), last_sent: sent_at, ..entry })
    }

    /// From `pending`, at take-over.
    pub fn of_pending(pending: Pending, withdrawal_lifetime: Millis, inbox_max_age: Millis) -> Option<Self> {
        let inbox = pending.state == PendingState::Inbox;
        let entry = Self::new(pending.order, pending.seq, withdrawal_lifetime)?;
        let in_inbox_until = if inbox { pending.at.saturating_add(inbox_max_age) } else { Millis::MAX };
        Some(Self {
            expires: entry.expires.min(in_inbox_until),
            noted: Some(Noted { tries: pending.tries, inbox }),
            tries: pending.tries,
            last_sent: (pending.tries > 0 && !inbox).then_some(pending.at),
            inbox,
            logins: pending.logins,
            ..entry
        })
    }

    /// When the next transmission or the outcome is due; `None`: at once.
    pub fn due(&self, retry_interval: Millis) -> Option<Millis> {
        self.last_sent.map(|last| last + retry_interval)
    }

    /// A comet had no such connection: takes back the transmission, and says whether there was one.
    ///
    /// It counts all the same where another device got it.
    pub fn take_back(&mut self, conn: &ConnId) -> bool {
        // The latest: a connection that is gone was still there before.
        let Some(at) = self.sent_to.iter().rposition(|(_, to)| to == conn) else { return false };
        let (attempt, _) = self.sent_to.remove(at);
        if self.sent_to.iter().any(|(other, _)| *other == attempt) {
            return false;
        }
        self.tries = self.tries.saturating_sub(1);
        // Nothing is outstanding when the latest of them reached nobody: no interval to wait for.
        if self.sent_to.iter().all(|(other, _)| *other < attempt) {
            self.last_sent = None;
        }
        true
    }

    pub fn has_login_tried(&self, login: &LoginId) -> bool {
        self.logins.contains(login)
    }

    pub fn login_tries(&mut self, login: &LoginId) {
        if !self.has_login_tried(login) {
            if self.logins.len() == LOGINS_MAX {
                self.logins.remove(0);
            }
            self.logins.push(login.clone());
        }
    }

    /// Bytes of content in memory; 0 where it is in `pending` alone.
    pub fn bytes_in_hand(&self) -> usize {
        if self.order.is_some() { self.bytes } else { 0 }
    }

    /// What its key in `pending` is to say.
    pub fn pending(&self, noted: Noted, at: Millis) -> Option<Pending> {
        Some(Pending {
            order: self.order.as_deref()?.clone(),
            seq: self.seq,
            tries: noted.tries,
            state: if noted.inbox { PendingState::Inbox } else { PendingState::Trying },
            at,
            logins: self.logins.clone(),
        })
    }
}
