//! Every metric of the service.

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::metric::api as name;
use pushmesh_telemetry::metric;

use crate::{operations::Operation, refusal::Code};

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Http,
    Grpc,
}

impl Door {
    const ALL: [Door; 2] = [Self::Http, Self::Grpc];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

struct OfOperation {
    ok: Counter,
    refused: Counter,
    limited: Counter,
    unavailable: Counter,
    seconds: Histogram,
}

pub struct Metrics {
    operations: Vec<[OfOperation; Door::ALL.len()]>,
    refusals: Vec<Counter>,
    pub gifts_waiting: Gauge,
    pub gifts_repeated: Counter,
    pub gift_batch: Histogram,
    pub gift_seconds: Histogram,
    pub messages_waiting: Gauge,
    pub likes_accepted: Counter,
    pub likes_fake: Counter,
    pub likes_untold: Counter,
    pub like_rooms: Gauge,
    pub limited: Gauge,
    pub comets_silent: Counter,
    pub malformed: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        let of = |operation: Operation, door: Door| {
            let labels = [("operation", operation.name()), ("door", door.name())];
            let outcome =
                |outcome| metric::counter_with(&name::REQUESTS, &[labels[0], labels[1], ("outcome", outcome)]);
            OfOperation {
                ok: outcome("ok"),
                refused: outcome("refused"),
                limited: outcome("limited"),
                unavailable: outcome("unavailable"),
                seconds: metric::histogram_with(&name::REQUEST_SECONDS, &labels),
            }
        };
        Self {
            operations: Operation::ALL.iter().map(|operation| Door::ALL.map(|door| of(*operation, door))).collect(),
            refusals: Code::ALL.map(|code| metric::counter_with(&name::REFUSALS, &[("code", code.name())])).into(),
            gifts_waiting: metric::gauge(&name::GIFTS_WAITING),
            gifts_repeated: metric::counter(&name::GIFTS_REPEATED),
            gift_batch: metric::histogram(&name::GIFT_BATCH),
            gift_seconds: metric::histogram(&name::GIFT_SECONDS),
            messages_waiting: metric::gauge(&name::MESSAGES_WAITING),
            likes_accepted: metric::counter(&name::LIKES_ACCEPTED),
            likes_fake: metric::counter(&name::LIKES_FAKE),
            likes_untold: metric::counter(&name::LIKES_UNTOLD),
            like_rooms: metric::gauge(&name::LIKE_ROOMS),
            limited: metric::gauge(&name::LIMITED),
            comets_silent: metric::counter(&name::COMETS_SILENT),
            malformed: metric::counter(&name::MALFORMED),
        }
    }

    /// A request was answered.
    pub fn answered(&self, operation: Operation, door: Door, refused: Option<Code>, seconds: f64) {
        let of = &self.operations[operation as usize][door as usize];
        of.seconds.record(seconds);
        match refused {
            None => of.ok.increment(1),
            Some(Code::RateLimited) => of.limited.increment(1),
            Some(Code::Unavailable | Code::Internal) => of.unavailable.increment(1),
            Some(_) => of.refused.increment(1),
        }
        if let Some(code) = refused {
            self.refusals[code as usize].increment(1);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
