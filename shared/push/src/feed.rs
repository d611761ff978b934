//! The calls of a kind, read once for all partitions of a process.
//!
//! The one place where partitions share state: a lock, held for a look-up, because a hundred thousand calls held once
//! for each partition would not fit. The book is written before the news of it are told, so that a partition never
//! misses a call between a look-up and the news.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use pushmesh_bus::{Kv, KvEvent};
use pushmesh_protocol::{CallId, message::CallRecord, name::KeyFilter, wire};
use tokio::{
    sync::{broadcast, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    book::{CallBook, CallNews},
    clock,
    kind::PushKind,
    metrics::Metrics,
    patience,
};

/// News that a partition may lag behind; beyond it, it evaluates everything anew.
const NEWS_KEPT: usize = 4096;

pub(crate) struct Feed {
    book: RwLock<CallBook>,
    news: broadcast::Sender<CallNews>,
    current: watch::Sender<bool>,
}

enum Event {
    Bucket(Option<KvEvent>),
    Tick,
}

impl Feed {
    pub(crate) fn new(kind: &dyn PushKind) -> Self {
        Self {
            book: RwLock::new(CallBook::new(kind.dissolve_after())),
            news: broadcast::Sender::new(NEWS_KEPT),
            current: watch::Sender::new(false),
        }
    }

    /// Never hold it across an await.
    pub(crate) fn book(&self) -> RwLockReadGuard<'_, CallBook> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// News from now on. Subscribe before reading the book.
    pub(crate) fn news(&self) -> broadcast::Receiver<CallNews> {
        self.news.subscribe()
    }

    /// Turns true when all calls are known.
    pub(crate) fn current(&self) -> watch::Receiver<bool> {
        self.current.subscribe()
    }

    /// Reads the bucket until its connection closes.
    pub(crate) async fn run(self: Arc<Self>, calls: Kv, metrics: Metrics) {
        let mut watch = patience::until_done("watch of calls", || calls.watch(KeyFilter::all())).await;
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = watch.next() => Event::Bucket(event),
                _ = ticks.tick() => Event::Tick,
            };
            let news = match event {
                Event::Bucket(None) => return,
                Event::Bucket(Some(event)) => self.apply(event, &metrics),
                Event::Tick => self.write(|book| book.take_due(clock::now())),
            };
            for news in news {
                // Nobody listens while the process owns no partition.
                let _ = self.news.send(news);
            }
            metrics.active_calls.set(self.book().active_count() as f64);
        }
    }

    fn apply(&self, event: KvEvent, metrics: &Metrics) -> Vec<CallNews> {
        match event {
            KvEvent::Put(entry) => {
                let call = CallId::new(&entry.key).ok().zip(wire::decode::<CallRecord>(&entry.value).ok());
                let Some((id, record)) = call else {
                    metrics.malformed_calls.increment(1);
                    tracing::warn!(key = entry.key, "a call that nobody can read is skipped");
                    return Vec::new();
                };
                self.write(|book| book.put(&id, record)).into_iter().collect()
            }
            KvEvent::Gone { key, .. } => {
                let Ok(id) = CallId::new(&key) else { return Vec::new() };
                self.write(|book| book.gone(&id, clock::now())).into_iter().collect()
            }
            KvEvent::Restarted => {
                self.write(CallBook::restarted);
                Vec::new()
            }
            KvEvent::Current => {
                let news = self.write(|book| book.current(clock::now()));
                self.current.send_replace(true);
                news
            }
        }
    }

    fn write<T>(&self, change: impl FnOnce(&mut CallBook) -> T) -> T {
        change(&mut self.book.write().unwrap_or_else(PoisonError::into_inner))
    }
}
