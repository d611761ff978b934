//! Every metric of this crate.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use metrics::{Counter, Gauge, Histogram};
use pushmesh_bus::TakeOver;
use pushmesh_protocol::{id::Token, metric::membership as names};
use pushmesh_telemetry::metric::{counter, counter_with, gauge, gauge_with, histogram_with};

use crate::{event::Deafness, roster::Tally, view::View};

pub(crate) struct Metrics {
    pub held: Gauge,
    pub covered: Gauge,
    pub releases: Counter,
    pub conflicts: Counter,
    pub resting: Gauge,
    pub runtime_delay: Histogram,
    pub usurped: Counter,
    pub work_ended: Counter,
    frozen: Gauge,
    last_change: Gauge,
    take_overs: [Counter; 3],
    /// Leases, and times, by [`Deafness`].
    fenced: [(Counter, Counter); 2],
    suspicions: Counter,
    returns: Counter,
    freezes: Counter,
    /// Services that had members: their gauge goes back to 0.
    seen: BTreeSet<Token>,
}

impl Metrics {
    pub(crate) fn new(service: &Token) -> Self {
        let labels = [("service", service.as_str())];
        let take_overs = |how| counter_with(&names::TAKE_OVERS, &[("service", service.as_str()), ("how", how)]);
        let fenced = |why: Deafness| {
            let labels = [("service", service.as_str()), ("why", why.label())];
            (counter_with(&names::FENCED, &labels), counter_with(&names::FENCINGS, &labels))
        };
        Self {
            held: gauge_with(&names::PARTITIONS_HELD, &labels),
            covered: gauge_with(&names::COVERED, &labels),
            releases: counter_with(&names::RELEASES, &labels),
            conflicts: counter_with(&names::CONFLICTS, &labels),
            resting: gauge_with(&names::RESTING, &labels),
            runtime_delay: histogram_with(&names::RUNTIME_DELAY, &labels),
            fenced: [Deafness::Stalled, Deafness::Unheard].map(fenced),
            usurped: counter_with(&names::USURPED, &labels),
            work_ended: counter_with(&names::WORK_ENDED, &labels),
            frozen: gauge(&names::FROZEN),
            last_change: gauge(&names::LAST_CHANGE),
            take_overs: ["fresh", "handed_over", "crashed"].map(take_overs),
            suspicions: counter(&names::SUSPICIONS),
            returns: counter(&names::RETURNS),
            freezes: counter(&names::FREEZES),
            seen: BTreeSet::new(),
        }
    }

    pub(crate) fn taken(&self, how: TakeOver) {
        let index = match how {
            TakeOver::Fresh => 0,
            TakeOver::HandedOver => 1,
            TakeOver::Crashed => 2,
        };
        self.take_overs[index].increment(1);
    }

    pub(crate) fn fenced(&self, leases: usize, why: Deafness) {
        let (fenced, fencings) = match why {
            Deafness::Stalled => &self.fenced[0],
            Deafness::Unheard => &self.fenced[1],
        };
        fenced.increment(leases as u64);
        fencings.increment(1);
    }

    pub(crate) fn view(&mut self, view: &View) {
        self.seen.extend(view.services().cloned());
        for service in &self.seen {
            let alive = view.members_of(service).filter(|member| member.alive).count();
            // Services are a fixed set of a deployment's configuration: the label stays small.
            gauge_with(&names::MEMBERS, &[("service", service.as_str())]).set(alive as f64);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_change.set(now.as_secs_f64());
    }

    pub(crate) fn tally(&self, tally: Tally, frozen: bool) {
        self.suspicions.increment(tally.suspicions);
        self.returns.increment(tally.returns);
        self.freezes.increment(tally.freezes);
        self.frozen.set(f64::from(u8::from(frozen)));
    }
}
