//! [`Reader`]: what the two doors for backends do alike with a stream of records.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use pushmesh_auth::Backend;
use pushmesh_boot::Caller;
use pushmesh_protocol::{TraceContext, message::Millis};

use super::Doorway;
use crate::{
    answers::{Answers, NoSlot, Slot, Slots, answers},
    gather::now,
    metrics::Door,
    record::{Checked, Refused},
};

/// How often the clock is looked at, lest it was set.
const LOOK: Duration = Duration::from_secs(60);

/// Reads one stream, as long as that is right.
pub struct Reader {
    doorway: Doorway,
    door: Door,
    trace: Option<TraceContext>,
    slots: Slots,
    /// The token's end.
    expired: Pin<Box<dyn Future<Output = ()> + Send>>,
    caller: Option<Caller>,
}

/// Why a stream is not read to its end. What was read is answered all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// This instance is going to end.
    Closing,
    /// The token's time is over.
    Expired,
    /// Nobody reads the answers, and so many wait.
    Unread { answers: usize, limit: Duration },
    /// There is nobody to tell.
    Gone,
}

impl Reader {
    pub fn new(
        doorway: &Doorway,
        door: Door,
        backend: &Backend,
        caller: Option<Caller>,
        trace: Option<TraceContext>,
    ) -> (Self, Answers) {
        let (slots, answers) = answers(doorway.limits.waiting_max);
        let leeway = doorway.leeway.as_millis() as Millis;
        let expired = Box::pin(passed(backend.expires.saturating_add(leeway)));
        (Self { doorway: doorway.clone(), door, trace, slots, expired, caller }, answers)
    }

    pub fn doorway(&self) -> &Doorway {
        &self.doorway
    }

    /// Awaits what the caller sends next.
    pub async fn next<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.doorway.closing.cancelled() => Err(Stop::Closing),
            () = &mut self.expired => Err(Stop::Expired),
            next = next => Ok(next),
        }
    }

    /// Awaits a place for one more answer: a caller who does not read its answers is not read either.
    pub async fn slot(&mut self) -> Result<Slot, Stop> {
        let limits = self.doorway.limits;
        let slot = tokio::select! {
            biased;
            () = self.doorway.closing.cancelled() => return Err(Stop::Closing),
            () = &mut self.expired => return Err(Stop::Expired),
            slot = self.slots.next(limits.unread_max) => slot,
        };
        slot.map_err(|none| match none {
            NoSlot::Gone => Stop::Gone,
            NoSlot::Unread => {
                tracing::warn!(door = self.door.name(), "a caller does not read its answers: nothing more is taken");
                Stop::Unread { answers: limits.waiting_max, limit: limits.unread_max }
            }
        })
    }

    pub fn take(&self, number: u64, slot: Slot, checked: Result<Checked, Refused>) {
        self.doorway.intake.take(self.door, number, slot, checked, self.trace);
    }

    /// Nothing more is taken: lets the answers end, by telling why through `tell`, and then deals with who left them unread.
    ///
    /// Many callers write all before they read, and would never read if nobody read them: what such a one still sends is
    /// thrown away. Who reads nothing as long again is cut off.
    pub async fn end(self, stop: Option<Stop>, tell: impl FnOnce(), rest: impl Stream) {
        let Self { doorway, door, slots, caller, .. } = self;
        let attention = slots.attention();
        drop(slots);
        tell();
        if !matches!(stop, Some(Stop::Unread { .. })) {
            return;
        }
        let rest = async {
            rest.for_each(|_| std::future::ready(())).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // Who holds up the drain is the door's to deal with.
            () = doorway.closing.cancelled() => {}
            () = attention.over() => {}
            () = attention.lost(doorway.limits.unread_max) => {
                tracing::warn!(door = door.name(), "a caller does not read its answers: its connection is cut");
                if let Some(caller) = caller {
                    caller.cut();
                }
            }
            () = rest => {}
        }
    }
}

/// Returns when the clock shows `at`.
async fn passed(at: Millis) {
    loop {
        let left = Duration::from_millis(at.saturating_sub(now()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
