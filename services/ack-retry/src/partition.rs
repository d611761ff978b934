//! One partition, for as long as its lease is ours: the task that feeds its [`Desk`] and does what it says.
//!
//! A take-over goes in this order: the consumer of PUSH (nobody else gets its messages from now on), acknowledgements,
//! sessions until they are complete, `pending` until it is complete; only then is PUSH read.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pushmesh_bus::{
    Acker, Bus, Delivered, Health, Kv, KvEvent, KvWatch, Message, PartitionConsumer, Subscription, TakeOver, Verdict,
};
use pushmesh_membership::{Lease, Membership, PartitionWork, View};
use pushmesh_protocol::{
    Instance, Partition, Partitions, Token,
    message::{DeadReason, Epoch, HandOver},
    name::{Bucket, Filter, Key, KeyFilter, Stream, Subject},
    wire,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    clock::Clock,
    desk::{Action, Desk, Event, Rules},
    effects::{Effects, Tools},
    handlers,
    load::{LoadError, sent_before},
    metrics::{Held, Holding, Metrics},
    outbox::Outbox,
    reporter::Reporter,
};

/// Between two tries to take a partition.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a hand-over waits for what is on its way; the rest stays safe where it is stored.
const FINISH_WITHIN: Duration = Duration::from_secs(3);

/// What membership runs for each partition that is ours.
pub struct Work {
    pub bus: Bus,
    pub membership: Membership,
    pub service: Token,
    pub comets: Token,
    pub partitions: Partitions,
    pub rules: Rules,
    pub outbox: Outbox,
    pub reporter: Reporter,
    pub metrics: Arc<Metrics>,
}

impl PartitionWork for Work {
    // Returning with the lease still held gives it back: membership has it taken over again, as after a crash.
    async fn run(self: Arc<Self>, lease: Lease) {
        let partition = lease.partition();
        let begun = Instant::now();
        let serving = tokio::select! {
            biased;
            () = lease.released() => return,
            serving = self.insist_on(&lease) => serving,
        };
        self.metrics.load_seconds.record(begun.elapsed().as_secs_f64());
        if let End::Broken = serving.run(&lease).await {
            tracing::warn!(%partition, "a partition's consumer or watch ended");
        }
    }
}

enum End {
    Released,
    Lost,
    /// The consumer or a watch ended though the lease is held.
    Broken,
}

impl Work {
    async fn insist_on(self: &Arc<Self>, lease: &Lease) -> Serving {
        loop {
            match self.take_over(lease, lease.how()).await {
                Ok(serving) => return serving,
                Err(error) => {
                    tracing::warn!(partition = %lease.partition(), %error, "could not take a partition over; again");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn take_over(self: &Arc<Self>, lease: &Lease, how: TakeOver) -> Result<Serving, LoadError> {
        let partition = lease.partition();
        let pending = self.bucket(Bucket::PENDING).await?;
        let sent = sent_before(&self.bus, &pending, partition, how).await?;
        let consumer = self.bus.take_partition(&Stream::PUSH, partition, how).await?;
        let acks = self.bus.subscribe(Filter::from(Subject::ack(partition))).await?;
        let (sessions, session_watch) = self.open(Bucket::SESSIONS, partition).await?;
        let clock = Clock::start();
        let mut serving = Serving {
            desk: Desk::new(self.rules.clone(), partition, lease.epoch(), clock.now()),
            clock,
            consumer,
            seen: sent,
            delivered_before: sent,
            noted: sent > 0,
            acks,
            sessions: session_watch,
            view: self.membership.view(),
            health: self.bus.health(),
            effects: Effects::new(Tools {
                bus: self.bus.clone(),
                service: self.service.clone(),
                partition,
                lease: lease.clone(),
                pending,
                sessions,
                reporter: self.reporter.clone(),
                metrics: Arc::clone(&self.metrics),
            }),
            ackers: HashMap::new(),
            holding: Holding::new(Arc::clone(&self.metrics)),
            work: Arc::clone(self),
            partition,
        };
        serving.see_comets().await;
        while let Some(event) = serving.sessions.next().await {
            let current = event == KvEvent::Current;
            serving.session(event).await;
            if current {
                let (_, watch) = self.open(Bucket::PENDING, partition).await?;
                serving.load(watch).await?;
                serving.apply(Event::Ready).await;
                return Ok(serving);
            }
        }
        Err(LoadError::WatchEnded(Bucket::SESSIONS))
    }

    async fn bucket(&self, bucket: Bucket) -> Result<Kv, LoadError> {
        self.bus.bucket(&bucket).await.map_err(|error| LoadError::Bucket { bucket, error })
    }

    async fn open(&self, bucket: Bucket, partition: Partition) -> Result<(Kv, KvWatch), LoadError> {
        let kv = self.bucket(bucket.clone()).await?;
        let watch = kv.watch(KeyFilter::of_partition(partition)).await;
        Ok((kv, watch.map_err(|error| LoadError::Bucket { bucket, error })?))
    }

    fn living_comets(&self, view: &View) -> HashMap<Instance, Epoch> {
        let comets = view.members_of(&self.comets).filter(|member| member.alive);
        comets.map(|member| (member.instance.clone(), member.epoch)).collect()
    }
}

/// A partition that is served.
struct Serving {
    desk: Desk,
    clock: Clock,
    consumer: PartitionConsumer,
    /// Messages up to this one may have been sent by an earlier owner.
    delivered_before: u64,
    /// Whether the note stands that says so.
    noted: bool,
    /// Messages up to this one have been looked at, here or by an earlier owner.
    seen: u64,
    acks: Subscription,
    sessions: KvWatch,
    view: watch::Receiver<Arc<View>>,
    health: watch::Receiver<Health>,
    effects: Effects,
    /// Of messages that the desk has not let go.
    ackers: HashMap<u64, Acker>,
    holding: Holding,
    work: Arc<Work>,
    partition: Partition,
}

/// What wakes a partition's task.
enum Wake {
    Lost,
    Released,
    Done(Option<crate::desk::Done>),
    Acks(Option<Message>),
    Session(Option<KvEvent>),
    View,
    Health,
    Tick,
    Order(Option<Delivered>),
}

impl Serving {
    async fn run(mut self, lease: &Lease) -> End {
        self.gauges();
        loop {
            let wake = self.wake(lease, true).await;
            // The clock knows before anybody has said so: a process that stood still does nothing more.
            if !lease.held() {
                self.consumer.abandon();
                return End::Lost;
            }
            match wake {
                Wake::Lost => {
                    self.consumer.abandon();
                    return End::Lost;
                }
                Wake::Released => return self.hand_over(lease).await,
                Wake::Acks(None) | Wake::Session(None) | Wake::Order(None) => {
                    self.consumer.abandon();
                    return End::Broken;
                }
                wake => self.take(wake).await,
            }
        }
    }

    /// Finishes what is on its way, and lets go: everything else is in PUSH or `pending`.
    async fn hand_over(mut self, lease: &Lease) -> End {
        let deadline = tokio::time::sleep(FINISH_WITHIN);
        tokio::pin!(deadline);
        while !self.effects.is_idle() {
            let wake = tokio::select! {
                biased;
                () = &mut deadline => {
                    tracing::warn!(partition = %self.partition, "handed over with writes unfinished");
                    break;
                }
                wake = self.wake(lease, false) => wake,
            };
            match wake {
                Wake::Lost => {
                    self.consumer.abandon();
                    return End::Lost;
                }
                Wake::Acks(None) | Wake::Session(None) => break,
                wake => self.take(wake).await,
            }
        }
        // What the consumer holds and nobody looked at has not been sent: the next owner need not count it as such.
        if lease.held() {
            let hand_over = wire::encode(&HandOver { sequence: self.seen });
            let key = Key::hand_over(self.partition);
            let noted = self.effects.pending().put(&key, hand_over.into());
            if !matches!(tokio::time::timeout(FINISH_WITHIN, noted).await, Ok(Ok(_))) {
                tracing::warn!(partition = %self.partition, "handed over without a note; some pushes will wait a while");
            }
        }
        self.consumer.release().await;
        End::Released
    }

    /// Async chooses: every arm is cancel safe. Acknowledgements and writes go before new pushes.
    async fn wake(&mut self, lease: &Lease, serving: bool) -> Wake {
        let next = self.desk.next_wake().map(|at| self.clock.instant(at));
        let tick = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let pull = serving && !self.desk.is_full();
        tokio::select! {
            biased;
            () = lease.lost() => Wake::Lost,
            () = lease.released(), if serving => Wake::Released,
            done = self.effects.next() => Wake::Done(done),
            message = self.acks.next() => Wake::Acks(message),
            event = self.sessions.next() => Wake::Session(event),
            Ok(()) = self.view.changed() => Wake::View,
            Ok(()) = self.health.changed() => Wake::Health,
            () = tick, if serving => Wake::Tick,
            delivered = self.consumer.next(), if pull => Wake::Order(delivered),
        }
    }

    /// Sync applies: what happened becomes an event of the desk.
    async fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Done(Some(done)) => self.apply(Event::Done(done)).await,
            Wake::Acks(Some(message)) => match handlers::ack::read(&message.payload) {
                Ok(answers) => {
                    for answer in answers {
                        self.apply(answer).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(partition = %self.partition, %error, "acknowledgements that can't be read");
                    self.work.metrics.malformed_acks.increment(1);
                }
            },
            Wake::Session(Some(event)) => self.session(event).await,
            Wake::View => self.see_comets().await,
            Wake::Health => {
                let connected = self.health.borrow_and_update().connected;
                self.apply(Event::Connected(connected)).await;
            }
            Wake::Order(Some(delivered)) => self.order(delivered).await,
            Wake::Tick => self.apply(Event::Tick).await,
            // The ends, and effects that tell nothing.
            Wake::Lost
            | Wake::Released
            | Wake::Done(None)
            | Wake::Acks(None)
            | Wake::Session(None)
            | Wake::Order(None) => {}
        }
        self.gauges();
    }

    async fn order(&mut self, delivered: Delivered) {
        self.seen = self.seen.max(delivered.sequence);
        self.pass_note(delivered.sequence);
        let (partition, partitions) = (self.partition, self.work.partitions);
        match handlers::order::read(&delivered, partition, partitions, self.delivered_before) {
            Ok(event) => {
                self.ackers.insert(delivered.sequence, delivered.into_parts().1);
                self.apply(event).await;
            }
            Err(error) => {
                self.work.metrics.malformed_orders.increment(1);
                let (bus, service) = (self.work.bus.clone(), self.work.service.clone());
                let verdict = Verdict::Reject { reason: DeadReason::Malformed, detail: error.to_string() };
                self.effects.push_aside(async move { bus.settle(delivered, verdict, &service, partition).await });
            }
        }
    }

    // Beyond what the note speaks of, the consumer alone tells what was sent.
    fn pass_note(&mut self, sequence: u64) {
        if self.noted && sequence > self.delivered_before {
            self.noted = false;
            let (pending, key) = (self.effects.pending().clone(), Key::hand_over(self.partition));
            self.effects.push_aside(async move {
                while let Err(error) = pending.purge(&key).await {
                    tracing::debug!(%key, %error, "an outlived note is not purged yet");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            });
        }
    }

    async fn session(&mut self, event: KvEvent) {
        if let Some(event) = handlers::session::read(event) {
            self.apply(event).await;
        }
    }

    async fn see_comets(&mut self) {
        let comets = self.work.living_comets(&self.view.borrow_and_update());
        self.apply(Event::Comets(comets)).await;
    }

    async fn load(&mut self, mut pending: KvWatch) -> Result<(), LoadError> {
        while let Some(event) = pending.next().await {
            match event {
                KvEvent::Put(entry) => {
                    if let Some(pending) = self.effects.read(&entry.key, &entry.value) {
                        self.apply(Event::Loaded { pending }).await;
                    }
                }
                KvEvent::Current => return Ok(()),
                // A key that went meanwhile is settled by nobody but its owner: a marker, or an operator's doing.
                KvEvent::Gone { .. } | KvEvent::Restarted => {}
            }
        }
        Err(LoadError::WatchEnded(Bucket::PENDING))
    }

    async fn apply(&mut self, event: Event) {
        let now = self.clock.now();
        for action in self.desk.apply(event, now) {
            match action {
                Action::Send { comet, item } => self.work.outbox.send(comet, item).await,
                Action::Ack { sequence } => {
                    if let Some(acker) = self.ackers.remove(&sequence) {
                        acker.ack();
                    }
                }
                Action::Effect(effect) => self.effects.push(effect, now),
                Action::Note(fact) => self.work.metrics.note(self.partition, &fact),
            }
        }
    }

    fn gauges(&mut self) {
        let (load, sessions, full) = (self.desk.load(), self.desk.sessions(), self.desk.is_full());
        self.holding.set(Held { load, sessions, full });
    }
}
