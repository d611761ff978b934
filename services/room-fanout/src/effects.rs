//! What a partition has others do while it goes on: stores, writes and reads, pipelined.
//!
//! None of them is waited for by a gift. Level-ups and dead letters are held until they are stored; of rankings the newest
//! counts, so that one too many is dropped.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use pushmesh_bus::{Bus, Outgoing, StoreError};
use pushmesh_membership::Lease;
use pushmesh_protocol::{
    Partition, RoomId, Token, UserId,
    message::{DeadLetter, DeadReason, Millis},
    name::{Filter, Key, MessageId, Stream, Subject},
    room::{Note, Ranking},
    wire,
};

use crate::{
    history::{self, PastRead},
    ledger::{Ledger, Written},
    metrics::Metrics,
    room::{PastAsk, Writes},
};

/// Level-ups and dead letters of one partition that are stored at a time.
const STORES_AT_ONCE: usize = 64;
/// Level-ups and dead letters that wait; beyond, dead letters are dropped. Level-ups are as many as rows of the ledger.
const STORES_MAX: usize = 1024;
/// Rankings of one partition on their way; more are dropped.
const RANKINGS_MAX: usize = 256;
/// Rooms of one partition for which the streams are read at a time; of each one reading at most waits.
const READS_AT_ONCE: usize = 16;
/// Tries of a message that the server refuses though it is there.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What effects need.
pub struct Tools {
    /// The connection that frames go over too: what a record says was told was told before.
    pub bus: Bus,
    /// The connection that streams are read over.
    pub streams: Bus,
    pub service: Token,
    pub partition: Partition,
    pub lease: Lease,
    pub ledger: Ledger,
    pub metrics: Arc<Metrics>,
    /// How long a stored ranking stays in its stream.
    pub rankings_kept: Duration,
}

/// A level-up to be stored.
#[derive(Debug, Clone)]
pub struct LevelUp {
    pub note: Note,
    pub id: Token,
    pub user: UserId,
    pub level: u32,
}

/// A message of a stream that becomes a dead letter.
#[derive(Debug, Clone)]
pub struct Dead {
    pub reason: DeadReason,
    pub detail: String,
    pub stream: Stream,
    pub sequence: u64,
    pub subject: String,
    pub payload: Bytes,
    pub at: Millis,
}

/// What has come to its end.
pub enum Done {
    Level { room: RoomId, user: UserId, level: u32 },
    Records { writes: Box<Writes>, outcome: Written },
    Checkpoint { outcome: Written },
    Past { room: RoomId, read: PastRead },
    Aside,
}

enum Store {
    Level(LevelUp),
    Dead(Dead),
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The effects of one partition.
pub struct Effects {
    tools: Arc<Tools>,
    stores: VecDeque<Store>,
    storing: usize,
    reads: VecDeque<(RoomId, PastAsk)>,
    reading: usize,
    rankings: usize,
    running: FuturesUnordered<Counted>,
}

/// Which bound a running effect counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Store,
    Read,
    Ranking,
    Write,
}

struct Counted {
    kind: Kind,
    work: Running,
}

impl Future for Counted {
    type Output = (Kind, Done);

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let kind = self.kind;
        self.work.as_mut().poll(context).map(|done| (kind, done))
    }
}

impl Effects {
    pub fn new(tools: Tools) -> Self {
        Self {
            tools: Arc::new(tools),
            stores: VecDeque::new(),
            storing: 0,
            reads: VecDeque::new(),
            reading: 0,
            rankings: 0,
            running: FuturesUnordered::new(),
        }
    }

    pub fn store_level(&mut self, level: LevelUp) {
        self.stores.push_back(Store::Level(level));
        self.start();
    }

    /// One that comes while too many wait is only told and counted: a flood of them must not fill the memory.
    pub fn bury(&mut self, dead: Dead) {
        self.tools.metrics.dead(dead.reason);
        if self.stores.len() >= STORES_MAX {
            self.tools.metrics.dead_dropped.increment(1);
            let Dead { reason, stream, sequence, subject, .. } = dead;
            tracing::error!(%stream, sequence, subject, reason = reason.token(), "a dead letter that nobody keeps: too many wait");
            return;
        }
        self.stores.push_back(Store::Dead(dead));
        self.start();
    }

    /// One that fails, or comes while too many wait, is made up for by the room's next.
    pub fn store_ranking(&mut self, ranking: Ranking, gift: u64) {
        if self.rankings >= RANKINGS_MAX {
            self.tools.metrics.rankings_dropped.increment(1);
            return;
        }
        self.rankings += 1;
        let tools = Arc::clone(&self.tools);
        self.run(Kind::Ranking, async move {
            tools.store_ranking(&ranking, gift).await;
            Done::Aside
        });
    }

    pub fn write_records(&mut self, writes: Writes, entries: Vec<(Key, Bytes, u64)>) {
        let tools = Arc::clone(&self.tools);
        self.run(Kind::Write, async move {
            let begun = std::time::Instant::now();
            let outcome = tools.ledger.write(entries).await;
            tools.metrics.write_seconds.record(begun.elapsed().as_secs_f64());
            Done::Records { writes: Box::new(writes), outcome }
        });
    }

    pub fn write_checkpoint(&mut self, checkpoint: (Key, Bytes, u64)) {
        let ledger = self.tools.ledger.clone();
        self.run(Kind::Write, async move { Done::Checkpoint { outcome: ledger.write(vec![checkpoint]).await } });
    }

    /// Reads what somebody missed; one reading of a room at a time.
    pub fn read_past(&mut self, room: RoomId, ask: PastAsk) {
        self.reads.push_back((room, ask));
        self.start();
    }

    /// Whether everything is stored; who waits for an answer does not count.
    pub fn is_settled(&self) -> bool {
        self.stores.is_empty() && self.running.iter().all(|running| running.kind == Kind::Read)
    }

    /// One that is done already.
    pub fn ready(&mut self) -> Option<Done> {
        let (kind, done) = self.running.next().now_or_never()??;
        self.ended(kind);
        Some(done)
    }

    /// The next one; pends while there is none. Cancel safe.
    pub async fn next(&mut self) -> Done {
        match self.running.next().await {
            Some((kind, done)) => {
                self.ended(kind);
                done
            }
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, kind: Kind) {
        match kind {
            Kind::Store => self.storing -= 1,
            Kind::Read => self.reading -= 1,
            Kind::Ranking => self.rankings -= 1,
            Kind::Write => {}
        }
        self.start();
    }

    fn start(&mut self) {
        while self.storing < STORES_AT_ONCE {
            let Some(store) = self.stores.pop_front() else { break };
            self.storing += 1;
            let tools = Arc::clone(&self.tools);
            self.run(Kind::Store, async move { tools.store(store).await });
        }
        while self.reading < READS_AT_ONCE {
            let Some((room, ask)) = self.reads.pop_front() else { break };
            self.reading += 1;
            let tools = Arc::clone(&self.tools);
            self.run(Kind::Read, async move {
                let begun = std::time::Instant::now();
                let read = history::read(&tools.streams, tools.partition, &room, &ask).await;
                tools.metrics.history_seconds.record(begun.elapsed().as_secs_f64());
                Done::Past { room, read }
            });
        }
    }

    fn run(&mut self, kind: Kind, work: impl Future<Output = Done> + Send + 'static) {
        self.running.push(Counted { kind, work: Box::pin(work) });
    }
}

impl Tools {
    async fn store(&self, store: Store) -> Done {
        match store {
            Store::Level(level) => self.store_level(level).await,
            Store::Dead(dead) => {
                self.store_dead(dead).await;
                Done::Aside
            }
        }
    }

    async fn store_level(&self, up: LevelUp) -> Done {
        let LevelUp { note, id, user, level } = up;
        let room = note.room.clone();
        let subject = Subject::room_note(self.partition, &room, &id);
        let outgoing = Outgoing {
            subject: subject.clone(),
            payload: wire::encode(&note).into(),
            id: MessageId::level(&room, &user, level),
            trace: None,
        };
        // Said again by a later owner, when the stream may have forgotten its id: there already, it is not said twice.
        let told = Filter::from(subject.clone());
        if self.is_there(told).await {
            return Done::Level { room, user, level };
        }
        match self.insist("store a level-up", outgoing.clone()).await {
            Ok(()) => Done::Level { room, user, level },
            Err(error) => {
                self.metrics.dead(DeadReason::Rejected);
                self.store_dead(Dead {
                    reason: DeadReason::Rejected,
                    detail: error.to_string(),
                    stream: Stream::ROOM_LOW,
                    sequence: 0,
                    subject: subject.to_string(),
                    payload: outgoing.payload,
                    at: note.at,
                })
                .await;
                // It has had its tries: asked for again by every later owner, it would be a dead letter each time.
                Done::Level { room, user, level }
            }
        }
    }

    async fn is_there(&self, subject: Filter) -> bool {
        let read = self.streams.read_history(&Stream::ROOM_LOW, subject, 0, 1, 1).await;
        read.is_ok_and(|history| !history.messages.is_empty())
    }

    async fn store_ranking(&self, ranking: &Ranking, gift: u64) {
        let outgoing = Outgoing {
            subject: Subject::room_ranking(self.partition, &ranking.room),
            payload: wire::encode(ranking).into(),
            id: MessageId::ranking(&ranking.room, gift),
            trace: None,
        };
        if !self.lease.held() {
            return;
        }
        let stored = self.bus.store_all_for(&Stream::ROOM_NORMAL, vec![outgoing], self.rankings_kept).await;
        if let Some(Err(error)) = stored.into_iter().next() {
            self.metrics.rankings_dropped.increment(1);
            tracing::warn!(partition = %self.partition, %error, "a ranking was not stored");
        }
    }

    async fn store_dead(&self, dead: Dead) {
        let Dead { reason, detail, stream, sequence, subject, payload, at } = dead;
        let source = format!("{stream}-{sequence}");
        tracing::error!(partition = %self.partition, %source, %subject, reason = reason.token(), %detail, "a dead letter");
        let id = match Token::new(&source) {
            Ok(id) => id,
            Err(_) => return,
        };
        let payload = payload.slice(..payload.len().min(self.bus.max_payload() / 2));
        let letter =
            DeadLetter { service: self.service.clone(), reason, detail, at, subject: subject.clone(), payload };
        let outgoing = Outgoing {
            subject: Subject::dead(reason, self.partition, &id),
            payload: wire::encode(&letter).into(),
            id: MessageId::dead(reason, &format!("{source}.{subject}")),
            trace: None,
        };
        if let Err(error) = self.insist("store a dead letter", outgoing).await {
            tracing::error!(partition = %self.partition, %source, %error, "a dead letter is lost");
        }
    }

    /// Tries until it is stored. An outage uses up no try; what the server refuses has three. Nothing is begun after the
    /// lease is lost.
    async fn insist(&self, what: &'static str, outgoing: Outgoing) -> Result<(), StoreError> {
        let (mut pause, mut tries) = (FIRST_PAUSE, 0);
        loop {
            // Pends for ever once fenced: whoever owns these effects drops them then.
            if !self.lease.held() {
                std::future::pending::<()>().await;
            }
            match self.bus.store(outgoing.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    if !error.is_outage() {
                        tries += 1;
                        if tries >= TRIES {
                            return Err(error);
                        }
                    }
                    self.metrics.write_retries.increment(1);
                    tracing::warn!(partition = %self.partition, %error, ?pause, "could not {what}; again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
