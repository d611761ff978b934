//! Every metric of the service.

use std::sync::Arc;

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
}

/// What one partition adds to the gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

/// One partition's part of the gauges; dropped, it is taken back.
pub struct Holding {
    metrics: Arc<Metrics>,
    held: Held,
}

impl Holding {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.partitions.increment(1.0);
        Self { metrics, held: Held::default() }
    }

    pub fn set(&mut self, new: Held) {
        let old = std::mem::replace(&mut self.held, new);
        let moved = |gauge: &Gauge, from: usize, to: usize| {
            if from != to {
                gauge.increment(to as f64 - from as f64);
            }
        };
        let metrics = &self.metrics;
        moved(&metrics.pending, old.load.pushes - old.load.inbox, new.load.pushes - new.load.inbox);
        moved(&metrics.inbox, old.load.inbox, new.load.inbox);
        moved(&metrics.bytes, old.load.bytes, new.load.bytes);
        moved(&metrics.sessions, old.sessions, new.sessions);
        moved(&metrics.full, usize::from(old.full), usize::from(new.full));
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(Held::default());
        self.metrics.partitions.decrement(1.0);
    }
}
