//! The calls of a kind, read once for all partitions of a process.
//!
//! The one place where partitions share state: a lock, held for a look-up, because a hundred thousand calls held once
//! for each partition would not fit. The book is written before the news of it are told, so that a partition never
//! misses a call between a look-up and the news.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use pushmesh_bus::{Kv, KvError, KvEvent};
use pushmesh_protocol::{
    CallId,
    message::CallRecord,
    name::{Key, KeyFilter},
    wire,
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    book::{CallBook, CallNews, CallNote},
    clock,
    kind::{PushKind, ended_call_lifetime},
    metrics::Metrics,
    patience,
};

/// News that a partition may lag behind; beyond it, it evaluates everything anew.
const NEWS_KEPT: usize = 4096;

pub(crate) struct Feed {
    book: RwLock<CallBook>,
    news: broadcast::Sender<CallNews>,
    current: watch::Sender<bool>,
    /// How long the record of an ended call stands.
    ended_lifetime: Duration,
}

enum Event {
    Bucket(Option<KvEvent>),
    Marked,
    Tick,
}

impl Feed {
    pub(crate) fn new(kind: &dyn PushKind) -> Self {
        Self {
            book: RwLock::new(CallBook::new(kind.dissolve_after())),
            news: broadcast::Sender::new(NEWS_KEPT),
            current: watch::Sender::new(false),
            ended_lifetime: ended_call_lifetime(kind),
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
        let mut marking = JoinSet::new();
        loop {
            let event = tokio::select! {
                event = watch.next() => Event::Bucket(event),
                Some(_) = marking.join_next() => Event::Marked,
                _ = ticks.tick() => Event::Tick,
            };
            let news = match event {
                Event::Bucket(None) => return,
                Event::Bucket(Some(event)) => {
                    let gone = !matches!(event, KvEvent::Put(_));
                    let news = self.apply(event, &metrics);
                    for call in news.iter().filter(|_| gone) {
                        if let CallNews::Ended(call) = call {
                            marking.spawn(mark_ended(calls.clone(), call.clone(), self.ended_lifetime));
                        }
                    }
                    news
                }
                Event::Marked => continue,
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

/// Somebody purged the record of an active call. Whoever owns a partition now withdraws it; whoever comes later, and never
/// heard of it, must still find that it ended.
async fn mark_ended(calls: Kv, call: Arc<CallNote>, lifetime: Duration) {
    let CallNote { id, unit, started_at, ended_at, trace, .. } = &*call;
    let record =
        CallRecord { unit: unit.clone(), started_at: *started_at, ended_at: *ended_at, data: None, trace: *trace };
    match calls.patient().create_for(&Key::call(id), wire::encode(&record).into(), lifetime).await {
        Ok(_) => tracing::warn!(call = %id, "the record of an active call was purged: it counts as ended"),
        // Another instance was faster.
        Err(KvError::Exists) => {}
        Err(error) => tracing::warn!(call = %id, %error, "the end of a purged call could not be noted"),
    }
}
