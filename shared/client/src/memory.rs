//! [`Memory`]: what a device has been shown, beyond the life of one client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pushmesh_protocol::PushId;

use crate::seen::{Seen, Sight};

/// The last 1,024 pushes that a device was shown. Clones are the same memory.
///
/// A client makes one for itself. Given to the next client of the same device
/// ([`Options::memory`](crate::Options::memory)), a push that was shown by the one and is sent to the other is acknowledged
/// again and not shown. An application that outlives its process keeps [`acknowledged`](Self::acknowledged) and begins with
/// [`of`](Self::of).
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Seen>>);

impl Memory {
    /// Of an earlier process; of more than 1,024 ids the last ones count.
    pub fn of(acknowledged: impl IntoIterator<Item = PushId>) -> Self {
        let memory = Self::default();
        for id in acknowledged {
            let mut seen = memory.seen();
            seen.push(id);
            seen.ack(id);
        }
        memory
    }

    /// What was shown and acknowledged, the oldest first. What was shown alone is not among it: it comes again.
    pub fn acknowledged(&self) -> Vec<PushId> {
        self.seen().acknowledged().collect()
    }

    pub(crate) fn push(&self, id: PushId) -> Sight {
        self.seen().push(id)
    }

    pub(crate) fn end(&self, id: PushId) -> bool {
        self.seen().end(id)
    }

    pub(crate) fn ack(&self, id: PushId) {
        self.seen().ack(id);
    }

    // Nothing is left half done by a panic in there.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
