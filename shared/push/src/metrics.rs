//! Every metric of the engine, for one kind.

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::{Kind, metric::push as names};
use pushmesh_telemetry::metric;

use crate::outbox::Tally;

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) evaluated: Counter,
    pub(crate) overtaken: Counter,
    pub(crate) stale: Counter,
    pub(crate) fenced: Counter,
    pub(crate) not_mine: Counter,
    pub(crate) failed: Counter,
    pub(crate) batches_malformed: Counter,
    pub(crate) batches_busy: Counter,
    pub(crate) malformed_sessions: Counter,
    pub(crate) malformed_memberships: Counter,
    pub(crate) malformed_calls: Counter,
    pub(crate) malformed_questions: Counter,
    pushes: Counter,
    withdrawals: Counter,
    logins_ended: Counter,
    duplicates: Counter,
    store_failures: Counter,
    pub(crate) dissolved: Counter,
    pub(crate) active_calls: Gauge,
    pub(crate) evaluate_seconds: Histogram,
    pub(crate) load_seconds: Histogram,
    logins: Gauge,
    memberships: Gauge,
    outbox: Gauge,
    partitions: Gauge,
}

/// One partition's share of the gauges: taken back when the partition goes.
pub(crate) struct Share {
    metrics: Metrics,
    logins: usize,
    memberships: usize,
    outbox: usize,
}

impl Metrics {
    pub(crate) fn new(kind: &Kind) -> Self {
        let kind = kind.as_str();
        let record = |outcome| metric::counter_with(&names::RECORDS, &[("kind", kind), ("outcome", outcome)]);
        let refused = |reason| metric::counter_with(&names::BATCHES_REFUSED, &[("kind", kind), ("reason", reason)]);
        let malformed = |source| metric::counter_with(&names::MALFORMED, &[("kind", kind), ("source", source)]);
        let counter = |name| metric::counter_with(name, &[("kind", kind)]);
        let gauge = |name| metric::gauge_with(name, &[("kind", kind)]);
        let histogram = |name| metric::histogram_with(name, &[("kind", kind)]);
        Self {
            evaluated: record("evaluated"),
            overtaken: record("overtaken"),
            stale: record("stale"),
            fenced: record("fenced"),
            not_mine: record("not_mine"),
            failed: record("failed"),
            batches_malformed: refused("malformed"),
            batches_busy: refused("busy"),
            malformed_sessions: malformed("session"),
            malformed_memberships: malformed("membership"),
            malformed_calls: malformed("call"),
            malformed_questions: malformed("question"),
            pushes: counter(&names::PUSHES),
            withdrawals: counter(&names::WITHDRAWALS),
            logins_ended: counter(&names::LOGINS_ENDED),
            duplicates: counter(&names::DUPLICATES),
            store_failures: counter(&names::STORE_FAILURES),
            dissolved: counter(&names::DISSOLVED),
            active_calls: gauge(&names::ACTIVE_CALLS),
            evaluate_seconds: histogram(&names::EVALUATE_SECONDS),
            load_seconds: histogram(&names::LOAD_SECONDS),
            logins: gauge(&names::LOGINS),
            memberships: gauge(&names::MEMBERSHIPS),
            outbox: gauge(&names::OUTBOX),
            partitions: gauge(&names::PARTITIONS),
        }
    }

    pub(crate) fn count(&self, tally: &Tally) {
        self.pushes.increment(tally.pushes);
        self.withdrawals.increment(tally.withdrawals);
        self.logins_ended.increment(tally.logins_ended);
        self.duplicates.increment(tally.duplicates);
        self.store_failures.increment(tally.failures);
    }

    pub(crate) fn share(&self) -> Share {
        self.partitions.increment(1.0);
        Share { metrics: self.clone(), logins: 0, memberships: 0, outbox: 0 }
    }
}

impl Share {
    pub(crate) fn set(&mut self, logins: usize, memberships: usize, outbox: usize) {
        move_by(&self.metrics.logins, self.logins, logins);
        move_by(&self.metrics.memberships, self.memberships, memberships);
        move_by(&self.metrics.outbox, self.outbox, outbox);
        (self.logins, self.memberships, self.outbox) = (logins, memberships, outbox);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0, 0);
        self.metrics.partitions.decrement(1.0);
    }
}

fn move_by(gauge: &Gauge, from: usize, to: usize) {
    if from != to {
        gauge.increment(to as f64 - from as f64);
    }
}
