//! Every metric of the service.

use std::{collections::HashMap, sync::Mutex};

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::{Partition, metric::ack_retry as name};
use pushmesh_telemetry::metric;

use crate::desk::{Fact, Load, Outcome};

pub struct Metrics {
    transmissions: [Counter; 4],
    outcomes: [Counter; Outcome::ALL.len()],
    inboxed: Counter,
    duplicates: Counter,
    nothing_to_withdraw: Counter,
    old_epochs: Counter,
    fenced: Counter,
    gone: Counter,
    kicks: Counter,
    timeouts: Counter,
    reports_refused: Counter,
    pub malformed_orders: Counter,
    pub malformed_keys: Counter,
    pub malformed_acks: Counter,
    pub unsent: Counter,
    pub effect_retries: Counter,
    pub batch_items: Histogram,
    pub load_seconds: Histogram,
    ack_seconds: Histogram,
    pending: Gauge,
    inbox: Gauge,
    bytes: Gauge,
    sessions: Gauge,
    partitions: Gauge,
    full: Gauge,
    held: Mutex<HashMap<Partition, Held>>,
}

/// What one partition adds to the gauges.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    pub load: Load,
    pub sessions: usize,
    pub full: bool,
}

impl Metrics {
    pub fn new() -> Self {
        let malformed = |source| metric::counter_with(&name::MALFORMED, &[("source", source)]);
        Self {
            transmissions: ["1", "2", "3", "more"]
                .map(|attempt| metric::counter_with(&name::TRANSMISSIONS, &[("attempt", attempt)])),
            outcomes: Outcome::ALL.map(|outcome| metric::counter_with(&name::OUTCOMES, &[("outcome", outcome.name())])),
            inboxed: metric::counter(&name::INBOXED),
            duplicates: metric::counter(&name::DUPLICATES),
            nothing_to_withdraw: metric::counter(&name::NOTHING_TO_WITHDRAW),
            old_epochs: metric::counter(&name::OLD_EPOCHS),
            fenced: metric::counter(&name::FENCED),
            gone: metric::counter(&name::GONE),
            kicks: metric::counter(&name::KICKS),
            timeouts: metric::counter(&name::TIMEOUTS),
            reports_refused: metric::counter(&name::REPORTS_REFUSED),
            malformed_orders: malformed("push"),
            malformed_keys: malformed("key"),
            malformed_acks: malformed("ack"),
            unsent: metric::counter(&name::UNSENT),
            effect_retries: metric::counter(&name::EFFECT_RETRIES),
            batch_items: metric::histogram(&name::BATCH_ITEMS),
            load_seconds: metric::histogram(&name::LOAD_SECONDS),
            ack_seconds: metric::histogram(&name::ACK_SECONDS),
            pending: metric::gauge(&name::PENDING),
            inbox: metric::gauge(&name::INBOX),
            bytes: metric::gauge(&name::PENDING_BYTES),
            sessions: metric::gauge(&name::SESSIONS),
            partitions: metric::gauge(&name::PARTITIONS),
            full: metric::gauge(&name::FULL_PARTITIONS),
            held: Mutex::default(),
        }
    }

    /// Counts a fact, and raises the alarms among them.
    pub fn note(&self, partition: Partition, fact: &Fact) {
        match fact {
            Fact::Transmitted { attempt } => {
                let last = self.transmissions.len() - 1;
                self.transmissions[usize::from(attempt.saturating_sub(1)).min(last)].increment(1);
            }
            Fact::Settled { outcome, user, push, tries, after } => {
                self.outcomes[*outcome as usize].increment(1);
                match outcome {
                    Outcome::Acked => self.ack_seconds.record(*after as f64 / 1_000.0),
                    Outcome::Dead | Outcome::InboxFull => {
                        tracing::error!(%partition, %user, %push, tries, outcome = outcome.name(), "a push is a dead letter");
                    }
                    _ => {}
                }
            }
            Fact::Inboxed => self.inboxed.increment(1),
            Fact::Duplicate => self.duplicates.increment(1),
            Fact::NothingToWithdraw => self.nothing_to_withdraw.increment(1),
            Fact::OldEpoch { service } => {
                tracing::warn!(%partition, %service, "a push was made under an older lease than one already seen");
                self.old_epochs.increment(1);
            }
            Fact::Gone => self.gone.increment(1),
            Fact::Fenced => {
                tracing::warn!(%partition, "a comet has seen a newer owner of this partition");
                self.fenced.increment(1);
            }
            Fact::Kicked => self.kicks.increment(1),
            Fact::TimedOut => self.timeouts.increment(1),
            Fact::ReportRefused { field, reason } => {
                tracing::error!(%partition, field, reason, "login-ingest refused the end of a login");
                self.reports_refused.increment(1);
            }
        }
    }

    /// What a partition holds now; `None`: it is no longer served.
    pub fn hold(&self, partition: Partition, held: Option<Held>) {
        let mut all = self.held.lock().expect("nothing panics while it holds this");
        let before = match held {
            Some(held) => all.insert(partition, held),
            None => all.remove(&partition),
        };
        let (old, new) = (before.unwrap_or_default(), held.unwrap_or_default());
        let moved = |gauge: &Gauge, from: usize, to: usize| {
            if from != to {
                gauge.increment(to as f64 - from as f64);
            }
        };
        moved(&self.pending, old.load.pushes - old.load.inbox, new.load.pushes - new.load.inbox);
        moved(&self.inbox, old.load.inbox, new.load.inbox);
        moved(&self.bytes, old.load.bytes, new.load.bytes);
        moved(&self.sessions, old.sessions, new.sessions);
        moved(&self.full, usize::from(old.full), usize::from(new.full));
        moved(&self.partitions, usize::from(before.is_some()), usize::from(held.is_some()));
    }
}
