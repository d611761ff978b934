//! The task that owns the [`State`]: picks the next event, applies it, carries out what comes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pushmesh_bus::{Bus, Entry, GoneReason, Health, Kv, KvError, KvEvent, KvWatch, Message, Subscription};
use pushmesh_protocol::{
    Partition,
    message::{Epoch, Heartbeat, LeaseRecord, MemberRecord},
    name::{Key, Subject, parse},
    wire,
};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    event::{Action, Event, Loss, Parting, TakeFailed},
    heart::Diligence,
    lease::Lease,
    metrics::Metrics,
    owners::Leases,
    pulse::{Heard, Pulse},
    roster::Gone,
    state::State,
    tuning::{Me, Tuning},
    view::View,
    work::{Run, Workers},
};

/// How often time is looked at: what detection and fencing are late by, at most.
const TICK: Duration = Duration::from_millis(50);

/// What the handles ask of the task.
pub(crate) enum Command {
    Own(pushmesh_protocol::Partitions, Run),
    Leave,
}

/// What the task tells the handles.
pub(crate) struct Published {
    pub view: watch::Sender<Arc<View>>,
    pub leases: watch::Sender<Arc<Leases>>,
    pub held: watch::Sender<Arc<Vec<(Partition, Epoch)>>>,
    pub covered: watch::Sender<bool>,
    /// The snapshot is read, and we are in it.
    pub complete: watch::Sender<bool>,
    pub superseded: watch::Sender<bool>,
    pub echoes: watch::Sender<Heard>,
    /// How leaving ended; the key may go.
    pub left: watch::Sender<Option<Parting>>,
}

impl Drop for Published {
    /// Nobody keeps these leases any more.
    fn drop(&mut self) {
        self.held.send_replace(Arc::default());
        self.covered.send_replace(false);
    }
}

/// Which connection there is, if any: all of [`Health`] that tells of deafness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    connected: bool,
    /// Counts connections: another one was made without anybody seeing the break.
    number: u64,
}

impl Link {
    pub(crate) fn of(health: &Health) -> Self {
        Self { connected: health.connected, number: health.connections }
    }
}

pub(crate) struct Task {
    pub me: Arc<Me>,
    pub epoch: Epoch,
    pub state: State,
    pub pulse: Arc<Pulse>,
    pub kv: Kv,
    pub watch: KvWatch,
    pub heartbeats: Subscription,
    pub health: watch::Receiver<Health>,
    pub link: Link,
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Receiver<Event>,
    /// For the outcomes of actions.
    pub outcomes: mpsc::Sender<Event>,
    pub workers: Workers,
    pub jobs: TaskTracker,
    pub published: Published,
    pub metrics: Metrics,
    pub stop: CancellationToken,
}

impl Task {
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => break,
                message = self.heartbeats.next() => match message {
                    Some(message) => self.heard(&message),
                    None => break,
                },
                event = self.watch.next() => match event {
                    Some(event) => Self::seen(event),
                    None => break,
                },
                Some(event) = self.events.recv() => Some(event),
                Some(command) = self.commands.recv() => Some(self.command(command)),
                changed = self.health.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.linked()
                }
                _ = tick.tick() => Some(Event::Tick),
            };
            if let Some(event) = event {
                let actions = self.state.apply(Instant::now(), event);
                for action in actions {
                    self.act(action);
                }
                self.publish();
            }
        }
    }

    /// Refused permissions and full subscriptions are no deafness.
    fn linked(&mut self) -> Option<Event> {
        let now = Link::of(&self.health.borrow_and_update());
        let before = std::mem::replace(&mut self.link, now);
        (before != now).then_some(Event::Connection { connected: now.connected })
    }

    fn heard(&self, message: &Message) -> Option<Event> {
        let (service, instance) = parse::heartbeat(&message.subject)?;
        let beat: Heartbeat = wire::decode(&message.payload).ok()?;
        if service == self.me.service && instance == self.me.instance && beat.epoch == self.epoch {
            let echo = self.pulse.echo(beat.seq)?;
            self.published.echoes.send_replace(Heard { sent: echo.sent, back: Instant::now() });
            return Some(Event::Echo(echo));
        }
        Some(Event::Heard { service, instance, epoch: beat.epoch })
    }

    fn seen(event: KvEvent) -> Option<Event> {
        match event {
            KvEvent::Put(Entry { key, value, revision, .. }) => {
                if let Some((service, instance)) = parse::member(&key) {
                    let record: MemberRecord = readable(&key, &value)?;
                    return Some(Event::MemberPut { service, instance, record, revision });
                }
                let (service, partition) = parse::lease(&key)?;
                let record: LeaseRecord = readable(&key, &value)?;
                Some(Event::LeasePut { service, partition, record, revision })
            }
            KvEvent::Gone { key, revision, reason } => {
                if let Some((service, instance)) = parse::member(&key) {
                    let why = match reason {
                        GoneReason::Deleted => Gone::Deleted,
                        GoneReason::Expired => Gone::Expired,
                    };
                    return Some(Event::MemberGone { service, instance, why });
                }
                let (service, partition) = parse::lease(&key)?;
                Some(Event::LeaseGone { service, partition, revision })
            }
            KvEvent::Current => Some(Event::SnapshotEnds),
            KvEvent::Restarted => Some(Event::SnapshotBegins),
        }
    }

    fn command(&mut self, command: Command) -> Event {
        match command {
            Command::Own(partitions, run) => {
                self.workers.set_work(run);
                Event::Own(partitions)
            }
            Command::Leave => Event::Leave,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Take { partition, expect } => self.take(partition, expect),
            Action::Start { partition, epoch, how } => {
                tracing::info!(service = %self.me.service, %partition, epoch, ?how, "partition taken");
                self.metrics.taken(how);
                self.workers.start(Lease::new(partition, epoch, how, self.pulse.clone()));
            }
            Action::Release { partition } => self.workers.release(partition),
            Action::Lose { partition, why } => {
                if why == Loss::Usurped {
                    self.metrics.usurped.increment(1);
                    tracing::warn!(service = %self.me.service, %partition, "partition lost: the bucket shows another's lease");
                }
                self.workers.lose(partition);
            }
            Action::Fenced { held, why, in_a_row } => {
                self.metrics.fenced(held, why);
                let why = why.label();
                tracing::warn!(
                    service = %self.me.service, partitions = held, why, in_a_row,
                    "not heard by itself: all partitions are given up"
                );
            }
            Action::Revived { pause } => {
                tracing::info!(service = %self.me.service, ?pause, "heard again: partitions are taken after the pause");
            }
            Action::GiveBack { partition, epoch } => self.give_back(partition, epoch),
            Action::Left(parting) => drop(self.published.left.send_replace(Some(parting))),
            Action::Superseded { by } => {
                tracing::error!(
                    service = %self.me.service, instance = %self.me.instance, epoch = self.epoch, by,
                    "another process of the same name has taken this one's place"
                );
                self.published.superseded.send_replace(true);
            }
        }
    }

    fn take(&self, partition: Partition, expect: Option<u64>) {
        let record = LeaseRecord { owner: self.me.instance.clone(), owner_epoch: self.epoch };
        let (kv, key) = (self.kv.clone(), Key::lease(&self.me.service, partition));
        let (outcomes, conflicts) = (self.outcomes.clone(), self.metrics.conflicts.clone());
        self.spawn(async move {
            let value = wire::encode(&record).into();
            let written = match expect {
                Some(revision) => kv.update(&key, value, revision).await,
                None => kv.create(&key, value).await,
            };
            let outcome = written.map_err(|error| match error {
                KvError::Exists | KvError::WrongRevision => {
                    conflicts.increment(1);
                    TakeFailed::Conflict
                }
                error => {
                    tracing::warn!(%key, %error, "a lease was not taken");
                    TakeFailed::Outage
                }
            });
            let _ = outcomes.send(Event::Taken { partition, outcome }).await;
        });
    }

    fn give_back(&mut self, partition: Partition, epoch: Epoch) {
        self.workers.end(partition);
        self.metrics.releases.increment(1);
        let (kv, key, outcomes) = (self.kv.clone(), Key::lease(&self.me.service, partition), self.outcomes.clone());
        tracing::info!(service = %self.me.service, %partition, epoch, "partition given back");
        self.spawn(async move {
            let done = match kv.delete_expect(&key, epoch).await {
                // Another's already: no less gone from here.
                Ok(()) | Err(KvError::WrongRevision) => true,
                Err(error) => {
                    tracing::warn!(%key, %error, "a lease was not given back");
                    false
                }
            };
            let _ = outcomes.send(Event::GivenBack { partition, epoch, done }).await;
        });
    }

    fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        self.jobs.spawn(self.stop.clone().run_until_cancelled_owned(job));
    }

    fn publish(&mut self) {
        let roster = self.state.roster.take_changed();
        if roster {
            let view = self.state.roster.view();
            self.metrics.view(&view);
            self.published.view.send_replace(Arc::new(view));
        }
        let leases = self.state.take_leases_changed();
        if leases {
            self.published.leases.send_replace(Arc::new(self.state.leases.clone()));
        }
        self.metrics.tally(self.state.roster.take_tally(), self.state.roster.is_frozen(Instant::now()));
        let complete = self.state.is_complete();
        self.published.complete.send_if_modified(|is| complete && !std::mem::replace(is, complete));
        let held = self.state.held();
        let changed = self.published.held.send_if_modified(|before| {
            let changed = **before != held;
            if changed {
                *before = Arc::new(held.clone());
            }
            changed
        });
        if changed {
            self.metrics.held.set(held.len() as f64);
        }
        self.metrics.resting.set(f64::from(u8::from(self.state.rests(Instant::now()))));
        if roster || leases || changed {
            let covered = self.state.covered();
            self.metrics.covered.set(f64::from(u8::from(covered)));
            self.published.covered.send_if_modified(|is| std::mem::replace(is, covered) != covered);
        }
    }
}

fn readable<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Option<T> {
    match wire::decode(value) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(key, %error, "a key of the bucket mesh can't be read: ignored");
            None
        }
    }
}

/// Sends our heartbeats on a connection of their own, until stopped; none while the runtime of the work does not get on.
pub(crate) async fn beat(
    bus: Bus,
    me: Arc<Me>,
    epoch: Epoch,
    tuning: Tuning,
    pulse: Arc<Pulse>,
    diligence: Arc<Diligence>,
    stop: CancellationToken,
) {
    let subject = Subject::heartbeat(&me.service, &me.instance);
    let mut every = tokio::time::interval(tuning.heartbeat);
    // Missed ones are not made up for: what is old says nothing.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut health = bus.health();
    let mut stuck = false;
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        if !health.borrow_and_update().connected {
            continue;
        }
        let silence = diligence.silence(Instant::now());
        let was_stuck = std::mem::replace(&mut stuck, silence >= tuning.stuck_after);
        if stuck && !was_stuck {
            tracing::error!(service = %me.service, ?silence, "the work of this process does not get on: others are to take over");
        }
        if stuck {
            continue;
        }
        let beat = Heartbeat { epoch, seq: pulse.send(Instant::now()) };
        let _ = bus.publish(subject.clone(), wire::encode(&beat).into()).await;
    }
}
