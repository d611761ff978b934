//! Which deliveries the owner of a partition has, so that none reaches it twice.
//!
//! After a reconnect the consumer is set back to the first message not acknowledged: what was on its way is lost with the
//! connection, and would come after the ack wait, behind newer messages. What the owner still works on then comes again
//! too, and so does what it has acknowledged into the dead connection. Acks match by stream sequence: the owner's first
//! answer stays good.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// Acknowledged sequences that are remembered: more than a consumer may have unacknowledged (`max_ack_pending`), so
/// more than one broken connection can take with it.
const ACKED_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    held: HashSet<u64>,
    acked: HashSet<u64>,
    /// The acked ones by age.
    order: VecDeque<u64>,
}

/// What a delivery is to the owner.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    New,
    /// The owner has it and has not answered.
    Held,
    /// The owner acknowledged it, and the server did not hear it.
    Acked,
}

/// The owner's hold on one delivery: given back when it is dropped unanswered.
pub(crate) struct Claim {
    sequence: u64,
    settled: AtomicBool,
    ledger: Arc<Ledger>,
}

impl Ledger {
    /// Notes a delivery; a new one is held from now on.
    pub(super) fn note(self: &Arc<Self>, sequence: u64) -> (Seen, Option<Claim>) {
        let mut books = self.books();
        if books.held.contains(&sequence) {
            (Seen::Held, None)
        } else if books.acked.contains(&sequence) {
            (Seen::Acked, None)
        } else {
            books.held.insert(sequence);
            (Seen::New, Some(Claim { sequence, settled: AtomicBool::new(false), ledger: self.clone() }))
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

impl Claim {
    pub(crate) fn acked(&self) {
        if self.settled.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut books = self.ledger.books();
        books.held.remove(&self.sequence);
        books.acked.insert(self.sequence);
        books.order.push_back(self.sequence);
        if books.order.len() > ACKED_MAX
            && let Some(oldest) = books.order.pop_front()
        {
            books.acked.remove(&oldest);
        }
    }

    pub(crate) fn returned(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.ledger.books().held.remove(&self.sequence);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.returned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_new_until_it_is_answered_and_again_after_it_was_given_back() {
        let ledger = Arc::new(Ledger::default());
        let (seen, first) = ledger.note(7);
        assert_eq!(seen, Seen::New);
        assert_eq!(ledger.note(7).0, Seen::Held);
        first.unwrap().returned();
        let (seen, again) = ledger.note(7);
        assert_eq!(seen, Seen::New);
        again.unwrap().acked();
        assert_eq!(ledger.note(7).0, Seen::Acked);
        drop(ledger.note(8));
        assert_eq!(ledger.note(8).0, Seen::New, "dropped unanswered");
    }

    #[test]
    fn what_was_acknowledged_long_ago_is_forgotten() {
        let ledger = Arc::new(Ledger::default());
        for sequence in 0..=ACKED_MAX as u64 {
            ledger.note(sequence).1.unwrap().acked();
        }
        assert_eq!(ledger.note(1).0, Seen::Acked);
        assert_eq!(ledger.note(0).0, Seen::New);
        assert_eq!(ledger.books().acked.len(), ACKED_MAX);
    }
}
