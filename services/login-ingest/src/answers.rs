//! The answers of one stream, one body or one request on their way to its caller: so many at most, and not unread for ever.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pushmesh_protocol::LoginId;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::record::Refused;

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Stored, now or before.
    Accepted { login_id: Option<LoginId> },
    /// Not stored, and never will be as it is.
    Refused(Refused),
    /// It may have been stored: to be said again, with this login id.
    Unknown { reason: &'static str, retry_after: Duration, login_id: Option<LoginId> },
}

/// The end where places are taken.
pub struct Slots {
    answers: mpsc::Sender<(u64, Answer)>,
    attention: Attention,
}

/// A record's place among the answers of its stream: taken before the record is read, so that a caller who doesn't
/// read its answers is not read either, and so that answering never waits.
pub struct Slot {
    permit: mpsc::OwnedPermit<(u64, Answer)>,
    attention: Attention,
}

/// The end that the caller reads. Ends when all places that were taken are answered and [`Slots`] is dropped.
pub struct Answers {
    answered: mpsc::Receiver<(u64, Answer)>,
    attention: Attention,
    /// All is read, or the caller has gone.
    _over: DropGuard,
}

/// Whether the caller reads.
#[derive(Clone)]
pub struct Attention(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Answers given so far.
    given: AtomicU64,
    /// Those of them that were read.
    read: AtomicU64,
    over: CancellationToken,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// The caller has gone.
    Gone,
    /// He does not read.
    Unread,
}

/// Both ends, for at most `max` answers that wait or are still to come.
pub fn answers(max: usize) -> (Slots, Answers) {
    let (answers, answered) = mpsc::channel(max);
    let attention = Attention(Arc::default());
    let over = attention.0.over.clone().drop_guard();
    (Slots { answers, attention: attention.clone() }, Answers { answered, attention, _over: over })
}

impl Slots {
    /// A place for one more answer; waits while there is none, and no longer than the caller leaves answers unread for
    /// `unread_max`.
    pub async fn next(&self, unread_max: Duration) -> Result<Slot, NoSlot> {
        let mut permit = pin!(self.answers.clone().reserve_owned());
        let permit = tokio::select! {
            biased;
            permit = &mut permit => permit.map_err(|_| NoSlot::Gone)?,
            () = self.attention.lost(unread_max) => return Err(NoSlot::Unread),
        };
        Ok(Slot { permit, attention: self.attention() })
    }

    /// A place if there is one now.
    pub fn try_next(&self) -> Option<Slot> {
        let permit = self.answers.clone().try_reserve_owned().ok()?;
        Some(Slot { permit, attention: self.attention() })
    }

    pub fn attention(&self) -> Attention {
        self.attention.clone()
    }
}

impl Slot {
    /// A caller who has gone is not told.
    pub fn answer(self, number: u64, answer: Answer) {
        self.attention.0.given.fetch_add(1, Relaxed);
        self.permit.send((number, answer));
    }
}

impl Answers {
    /// Some of what is answered, at most `max`, behind what `some` holds; 0 at the end. To be asked only when the caller
    /// has room for it.
    pub fn poll_some(&mut self, cx: &mut Context<'_>, some: &mut Vec<(u64, Answer)>, max: usize) -> Poll<usize> {
        let polled = self.answered.poll_recv_many(cx, some, max);
        if let Poll::Ready(count) = polled {
            self.attention.0.read.fetch_add(count as u64, Relaxed);
        }
        polled
    }

    /// The next answers, at most `max`; none at the end.
    pub async fn some(&mut self, max: usize) -> Vec<(u64, Answer)> {
        let mut some = Vec::with_capacity(max);
        poll_fn(|cx| self.poll_some(cx, &mut some, max)).await;
        some
    }
}

impl Attention {
    /// Returns when there have been answers for `limit` from now and none was read. What is not answered yet is not the
    /// caller's fault.
    pub async fn lost(&self, limit: Duration) {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(limit / 8).await;
            let read = self.0.read.load(Relaxed);
            if read != before || read == self.0.given.load(Relaxed) {
                (before, since) = (read, Instant::now());
            } else if since.elapsed() >= limit {
                return;
            }
        }
    }

    /// Returns when the caller has read everything, or has gone.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }
}
