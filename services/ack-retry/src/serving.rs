//! A partition that is served: the task that feeds its [`Desk`] and does what it says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pushmesh_bus::{
    Acker, Delivered, Health, KvError, KvEvent, KvWatch, Message, PartitionConsumer, Subscription, Verdict,
};
use pushmesh_membership::{Clock, Lease, View};
use pushmesh_protocol::{Partition, message::DeadReason, name::Bucket};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    desk::{Action, Desk, Event},
    effects::Effects,
    handlers,
    load::LoadError,
    metrics::{Held, Holding},
    note::Note,
    partition::Work,
};

/// Between two tries to write an outlived note anew.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a hand-over waits for what is on its way; the rest stays safe where it is stored.
const FINISH_WITHIN: Duration = Duration::from_secs(3);
/// How long one that lost its partition tries to say how far it had looked: whoever owns it next is not kept waiting.
pub const NOTE_WITHIN: Duration = Duration::from_millis(500);

/// A partition's note, once it is ours. A lock, because two that are never at work at once write it: what runs beside, and
/// the end.
pub type OurNote = Arc<Mutex<Option<Note>>>;

/// A partition that is served.
pub struct Serving {
    pub desk: Desk,
    pub clock: Clock,
    pub consumer: PartitionConsumer,
    /// Messages up to this one may have been sent by an earlier owner.
    pub delivered_before: u64,
    /// What says so to the next owner.
    pub note: OurNote,
    pub note_passed: bool,
    /// Messages up to this one have been looked at, here or by an earlier owner.
    pub seen: u64,
    pub acks: Subscription,
    pub sessions: KvWatch,
    pub view: watch::Receiver<Arc<View>>,
    pub health: watch::Receiver<Health>,
    pub effects: Effects,
    /// Of messages that the desk has not let go.
    pub ackers: HashMap<u64, Acker>,
    pub holding: Holding,
    pub work: Arc<Work>,
    pub partition: Partition,
}

/// How the serving of a partition ended.
pub enum End {
    Released,
    Lost,
    /// The consumer or a watch ended though the lease is held.
    Broken,
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
    pub async fn run(mut self, lease: &Lease) -> End {
        self.gauges();
        loop {
            let wake = self.wake(lease, true).await;
            // The clock knows before anybody has said so: a process that stood still does nothing more.
            if !lease.held() {
                return self.abandon(End::Lost).await;
            }
            match wake {
                Wake::Lost => return self.abandon(End::Lost).await,
                Wake::Released => return self.hand_over(lease).await,
                Wake::Acks(None) | Wake::Session(None) | Wake::Order(None) => {
                    return self.abandon(End::Broken).await;
                }
                wake => self.take(wake).await,
            }
        }
    }

    /// Does nothing more, and gives nothing back: it may be another's already. What was fetched and not looked at is told all
    /// the same, at the note's revision: where the partition has gone over, the new owner's word stands.
    async fn abandon(self, end: End) -> End {
        let Self { consumer, effects, note, seen, .. } = self;
        consumer.abandon();
        // Whatever of them holds the note lets it go.
        drop(effects);
        if !handed_over(&note, seen, NOTE_WITHIN).await {
            tracing::debug!("what was fetched and not looked at counts as sent");
        }
        end
    }

    /// Finishes what is on its way, and lets go: everything else is in PUSH or `pending`.
    async fn hand_over(mut self, lease: &Lease) -> End {
        let deadline = Instant::now() + FINISH_WITHIN;
        while !self.effects.is_idle() && Instant::now() < deadline {
            // What a push that is due is sent by may wait too: for a place among those on their way to comets.
            let taken = tokio::time::timeout_at(deadline, async {
                match self.wake(lease, false).await {
                    end @ (Wake::Lost | Wake::Acks(None) | Wake::Session(None)) => Some(end),
                    wake => {
                        self.take(wake).await;
                        None
                    }
                }
            });
            match taken.await {
                Ok(None) => {}
                Ok(Some(Wake::Lost)) => return self.abandon(End::Lost).await,
                Ok(Some(_)) | Err(_) => break,
            }
        }
        if !self.effects.is_idle() {
            tracing::warn!(partition = %self.partition, "handed over with writes unfinished");
        }
        // What the consumer holds and nobody looked at has not been sent: the next owner need not count it as such.
        if !handed_over(&self.note, self.seen, FINISH_WITHIN).await {
            tracing::warn!(partition = %self.partition, "handed over without a note; some pushes will wait a while");
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
        if self.note_passed || sequence <= self.delivered_before {
            return;
        }
        self.note_passed = true;
        let (note, partition) = (Arc::clone(&self.note), self.partition);
        self.effects.push_aside(async move {
            loop {
                let passed = match &mut *note.lock().await {
                    Some(note) => note.passed().await,
                    None => return,
                };
                match passed {
                    // Another's already: it is his to write.
                    Ok(()) | Err(KvError::WrongRevision | KvError::Exists) => return,
                    Err(error) => tracing::debug!(%partition, %error, "an outlived note is not written anew yet"),
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
    }

    pub async fn session(&mut self, event: KvEvent) {
        if let Some(event) = handlers::session::read(event) {
            self.apply(event).await;
        }
    }

    pub async fn see_comets(&mut self) {
        let comets = self.work.living_comets(&self.view.borrow_and_update());
        self.apply(Event::Comets(comets)).await;
    }

    pub async fn load(&mut self, mut pending: KvWatch) -> Result<(), LoadError> {
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

    pub async fn apply(&mut self, event: Event) {
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

/// Says to the next owner that nothing after `seen` was looked at; whether it was noted.
async fn handed_over(note: &OurNote, seen: u64, within: Duration) -> bool {
    let noted = async {
        match &mut *note.lock().await {
            Some(note) => note.handed_over(seen).await.is_ok(),
            None => false,
        }
    };
    tokio::time::timeout(within, noted).await.unwrap_or(false)
}
