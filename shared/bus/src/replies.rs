//! Our own reply inbox: one subscription, answers told apart by a token.
//!
//! The client's own `request` keeps an entry for every request that timed out; here it goes with the future that waits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use pushmesh_protocol::name::{Filter, Subject};
use tokio::sync::oneshot;

pub(crate) struct Replies {
    inbox: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<async_nats::Message>>>,
}

/// One awaited answer; dropping it forgets it.
pub(crate) struct Waiting {
    token: u64,
    replies: Arc<Replies>,
    answer: oneshot::Receiver<async_nats::Message>,
}

/// The connection broke while the answer was awaited: whether the request arrived is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

impl Replies {
    pub(crate) fn new(inbox: String) -> Arc<Self> {
        Arc::new(Self { inbox, next: AtomicU64::new(1), waiting: Mutex::default() })
    }

    /// What the connection subscribes to.
    pub(crate) fn filter(&self) -> Filter {
        Filter::replies(&self.inbox)
    }

    pub(crate) fn expect(self: &Arc<Self>) -> Waiting {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.lock().insert(token, sender);
        Waiting { token, replies: self.clone(), answer }
    }

    /// A subject below the inbox that nobody else uses, for a subscription of its own.
    pub(crate) fn own_subject(&self) -> Subject {
        Subject::reply(&format!("{}.s", self.inbox), self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands an answer to whom it belongs; late ones belong to nobody.
    pub(crate) fn deliver(&self, message: async_nats::Message) {
        let token = message.subject.rsplit_once('.').and_then(|(_, token)| u64::from_str_radix(token, 16).ok());
        let waiting = token.and_then(|token| self.lock().remove(&token));
        if let Some(sender) = waiting {
            // Closed means: timed out a moment ago.
            let _ = sender.send(message);
        }
    }

    /// Everybody who waits learns that the connection broke.
    pub(crate) fn lose_all(&self) {
        self.lock().clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<async_nats::Message>>> {
        self.waiting.lock().expect("no holder of this lock can panic")
    }
}

impl Waiting {
    pub(crate) fn subject(&self) -> Subject {
        Subject::reply(&self.replies.inbox, self.token)
    }

    /// Cancel safe: asked again, it goes on waiting.
    pub(crate) async fn answer(&mut self) -> Result<async_nats::Message, Lost> {
        (&mut self.answer).await.map_err(|_| Lost)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.token);
    }
}
