//! Carries a desk's effects out: each is tried until it succeeds, or until the partition is lost.
//!
//! There is at most one effect on its way for each push and session, so that what waits here is bounded by what the desk
//! holds; at most [`AT_ONCE`] run at a time.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use pushmesh_bus::{Bus, Kv, KvError, Outgoing};
use pushmesh_membership::Lease;
use pushmesh_protocol::{
    Partition, PushId, Token, UserId,
    message::{DeadLetter, DeadReason, Millis, Pending, PushOrder},
    name::{Key, MessageId, Subject},
    wire,
};

use crate::{
    desk::{Done, Effect, Written},
    metrics::Metrics,
    reporter::Reporter,
};

/// Effects of one partition that run at a time.
const AT_ONCE: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What effects need.
pub struct Tools {
    pub bus: Bus,
    pub service: Token,
    pub partition: Partition,
    pub lease: Lease,
    pub pending: Kv,
    pub sessions: Kv,
    pub reporter: Reporter,
    pub metrics: Arc<Metrics>,
}

type Running = Pin<Box<dyn Future<Output = Option<Done>> + Send>>;

/// The effects of one partition.
pub struct Effects {
    tools: Arc<Tools>,
    waiting: VecDeque<(Effect, Millis)>,
    running: FuturesUnordered<Running>,
}

impl Effects {
    pub fn new(tools: Tools) -> Self {
        Self { tools: Arc::new(tools), waiting: VecDeque::new(), running: FuturesUnordered::new() }
    }

    pub fn push(&mut self, effect: Effect, now: Millis) {
        self.waiting.push_back((effect, now));
        self.start();
    }

    /// Runs something beside them that nobody waits for.
    pub fn push_aside(&mut self, aside: impl Future<Output = ()> + Send + 'static) {
        self.running.push(Box::pin(async {
            aside.await;
            None
        }));
    }

    /// The value of a key of `pending`.
    pub fn read(&self, key: &str, value: &[u8]) -> Option<Pending> {
        self.tools.read(key, value)
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// The next one that succeeded; pends while there is none. Cancel safe.
    pub async fn next(&mut self) -> Option<Done> {
        match self.running.next().await {
            Some(done) => {
                self.start();
                done
            }
            None => std::future::pending().await,
        }
    }

    fn start(&mut self) {
        while self.running.len() < AT_ONCE {
            let Some((effect, now)) = self.waiting.pop_front() else { return };
            let tools = Arc::clone(&self.tools);
            self.running.push(Box::pin(async move { Some(tools.run(effect, now).await) }));
        }
    }
}

impl Tools {
    async fn run(&self, effect: Effect, now: Millis) -> Done {
        match effect {
            Effect::Keep { push, pending } => {
                let key = self.key(pending.order.user(), id_of(&pending.order));
                let value: bytes::Bytes = wire::encode(&*pending).into();
                self.insist("write a pending push", || self.pending.put(&key, value.clone())).await;
                Done::Kept { push }
            }
            Effect::Forget { user, id, hold } => {
                let key = self.key(&user, id);
                self.insist("purge a pending push", || self.pending.purge(&key)).await;
                Done::Forgotten { hold }
            }
            Effect::Fetch { push, user, id } => {
                let key = self.key(&user, id);
                let entry = self.insist("read a pending push", || self.pending.get(&key)).await;
                let pending = entry.and_then(|entry| self.read(&entry.key, &entry.value)).map(Box::new);
                Done::Fetched { push, pending }
            }
            Effect::Bury { push, id, user, order, reason, detail } => {
                self.bury(id, &user, &order, reason, detail, now).await;
                Done::Buried { push }
            }
            Effect::Report { session, report } => {
                self.hold_lease().await;
                Done::Reported { session, answer: self.reporter.report(*report).await }
            }
            Effect::PurgeSession { session, user, conn, revision } => {
                let key = Key::session(self.partition, &user, &conn);
                let purged = self
                    .insist("purge a session", async || as_expected(self.sessions.delete_expect(&key, revision).await));
                let purged = purged.await.is_some();
                Done::SessionPurged { session, revision, purged }
            }
            Effect::KeepLogin { user, conn, written } => {
                let key = Key::session_login(self.partition, &user, &conn);
                let value: bytes::Bytes = wire::encode(&*written.login).into();
                let revision = self.insist("write a session's login", async || {
                    as_expected(match written.over {
                        Some(revision) => self.sessions.update(&key, value.clone(), revision).await,
                        None => self.sessions.create(&key, value.clone()).await,
                    })
                });
                let revision = revision.await;
                Done::LoginKept { user, conn, written: Written { revision, ..written } }
            }
            Effect::PurgeLogin { user, conn, revision } => {
                let key = Key::session_login(self.partition, &user, &conn);
                // Put again since, it is another one's.
                self.insist("purge a session's login", async || {
                    as_expected(self.sessions.delete_expect(&key, revision).await)
                })
                .await;
                Done::LoginPurged { user, conn, revision }
            }
        }
    }

    /// One that nobody can read is told, counted and skipped.
    fn read(&self, key: &str, value: &[u8]) -> Option<Pending> {
        wire::decode(value)
            .inspect_err(|error| {
                tracing::error!(key, %error, "a key of pending can't be read");
                self.metrics.malformed_keys.increment(1);
            })
            .ok()
    }

    async fn bury(&self, id: PushId, user: &UserId, order: &PushOrder, reason: DeadReason, detail: String, at: Millis) {
        let subject = Subject::push(self.partition, user).to_string();
        let payload = wire::encode(order).into();
        let letter = DeadLetter { service: self.service.clone(), reason, detail, at, subject, payload };
        let outgoing = Outgoing {
            subject: Subject::dead(reason, self.partition, &id.token()),
            payload: wire::encode(&letter).into(),
            id: MessageId::dead(reason, &id.to_string()),
            trace: None,
        };
        self.insist("store a dead letter", || self.bus.store(outgoing.clone())).await;
    }

    fn key(&self, user: &UserId, id: PushId) -> Key {
        Key::pending(self.partition, user, id)
    }

    /// Tries until it succeeds. Nothing is begun after the lease is lost.
    async fn insist<T, E, F>(&self, what: &'static str, attempt: impl Fn() -> F) -> T
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            self.hold_lease().await;
            match attempt().await {
                Ok(done) => return done,
                Err(error) => {
                    self.metrics.effect_retries.increment(1);
                    tracing::warn!(partition = %self.partition, %error, ?pause, "could not {what}; again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    // Pends for ever once fenced: whoever owns these effects drops them then.
    async fn hold_lease(&self) {
        if !self.lease.held() {
            std::future::pending::<()>().await;
        }
    }
}

/// `None`: somebody else wrote the key.
fn as_expected<T>(written: Result<T, KvError>) -> Result<Option<T>, KvError> {
    match written {
        Err(KvError::WrongRevision | KvError::Exists) => Ok(None),
        written => written.map(Some),
    }
}

fn id_of(order: &PushOrder) -> PushId {
    match order {
        PushOrder::Deliver(delivery) => delivery.id,
        PushOrder::Withdraw(withdrawal) => withdrawal.id,
        PushOrder::LoginEnded(_) => unreachable!("only pushes are kept, and this is none"),
    }
}
