//! One kind's part of one partition: what waits for the kind, and whether it goes there directly or through LATE.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use pushmesh_protocol::message::{Epoch, OnlineEntry, OnlineResult};

use super::Limits;

/// How a lane begins: what its LATE partition held when the partition was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateStart {
    /// Whether anything waited.
    pub waiting: bool,
    /// The sequence up to which messages had been delivered before: an older one that does not come again is done.
    pub delivered_before: u64,
}

/// What the lane's kind said, as far as the lane is concerned.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many from the front are done, and all is well.
    Well(usize),
    /// So many from the front are done; the rest is to be said again.
    Again(usize),
    /// The partition is no longer ours.
    Fenced,
}

/// Invariants: at most one request in flight, always of the front; nothing behind an unanswered record is sent; a
/// record leaves only answered or stored in LATE; what is in LATE is sent before what is not.
#[derive(Debug)]
pub struct Lane<H> {
    late_mode: bool,
    /// Records of LOGIN: to be sent, or in late mode to be stored in LATE.
    queue: VecDeque<Queued>,
    /// Delivered by LATE and not done, in LATE's order.
    late: VecDeque<Late<H>>,
    /// How many of the front of `late`, else of `queue`, are in a request.
    in_flight: usize,
    in_flight_late: bool,
    /// How many of the front of `queue` are being stored in LATE.
    storing: usize,
    /// Nothing is sent before; an owner's change clears it.
    not_before: Option<Instant>,
    backoff: Duration,
    /// When the kind last answered well; at first, when the partition was taken.
    well_at: Instant,
    /// Whether its last request was answered well.
    well: bool,
    /// Nothing in LATE is behind what was delivered.
    caught_up: bool,
    late_seen: u64,
    /// The highest sequence in LATE that is known to come.
    late_expected: u64,
    delivered_before: u64,
}

#[derive(Debug)]
struct Queued {
    entry: Arc<OnlineEntry>,
    since: Instant,
}

#[derive(Debug)]
struct Late<H> {
    at: u64,
    entry: Arc<OnlineEntry>,
    handle: H,
}

impl<H> Lane<H> {
    pub fn new(start: LateStart, now: Instant) -> Self {
        Self {
            late_mode: start.waiting,
            queue: VecDeque::new(),
            late: VecDeque::new(),
            in_flight: 0,
            in_flight_late: false,
            storing: 0,
            not_before: None,
            backoff: Duration::ZERO,
            well_at: now,
            well: false,
            caught_up: !start.waiting,
            late_seen: 0,
            late_expected: 0,
            delivered_before: start.delivered_before,
        }
    }

    pub fn is_late(&self) -> bool {
        self.late_mode
    }

    /// Nothing of it is on its way anywhere.
    pub fn is_still(&self) -> bool {
        self.in_flight == 0 && self.storing == 0
    }

    /// Records of LOGIN that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn push(&mut self, entry: Arc<OnlineEntry>, now: Instant) {
        self.queue.push_back(Queued { entry, since: now });
    }

    /// A record that LATE delivered; `behind`: how many stood behind it. Gives the handle back where it is held already.
    pub fn push_late(&mut self, at: u64, behind: u64, entry: Arc<OnlineEntry>, handle: H) -> Option<H> {
        let again = at <= self.late_seen && self.late.iter().any(|late| late.at == at);
        self.passed(at, behind);
        if again {
            return Some(handle);
        }
        self.late_mode = true;
        self.late.push_back(Late { at, entry, handle });
        None
    }

    /// LATE is read up to `at`.
    pub fn passed(&mut self, at: u64, behind: u64) {
        self.late_seen = self.late_seen.max(at);
        self.caught_up = behind == 0;
    }

    /// Changes the way where it is time to.
    pub fn turn(&mut self, now: Instant, limits: &Limits) {
        if self.late_mode {
            let drained = self.late.is_empty() && self.caught_up && self.late_seen >= self.late_expected;
            if drained && self.is_still() {
                self.late_mode = false;
                self.well_at = now;
            }
        } else if self.in_flight == 0 && self.silent_at(limits).is_some_and(|at| at <= now) {
            self.late_mode = true;
            self.well = false;
        }
    }

    /// How many may be sent now.
    pub fn sendable(&self, now: Instant, closing: bool) -> usize {
        let held_back = self.not_before.is_some_and(|at| at > now);
        match (self.in_flight > 0 || held_back, self.late_mode) {
            (true, _) => 0,
            (false, false) => self.queue.len(),
            // What is in LATE is the next owner's.
            (false, true) if closing => 0,
            (false, true) => self.late.len(),
        }
    }

    /// The next `count` are on their way.
    pub fn send(&mut self, count: usize) -> Vec<Arc<OnlineEntry>> {
        self.in_flight = count;
        self.in_flight_late = self.late_mode;
        if self.late_mode {
            self.late.iter().take(count).map(|late| Arc::clone(&late.entry)).collect()
        } else {
            self.queue.iter().take(count).map(|queued| Arc::clone(&queued.entry)).collect()
        }
    }

    /// How many may be stored in LATE now. Where the kind answers again, what has just come waits: drained within
    /// `late_after`, the lane is direct again, else it goes the long way too.
    pub fn storable(&self, now: Instant, closing: bool, limits: &Limits) -> usize {
        let sent_directly = self.in_flight > 0 && !self.in_flight_late;
        if !self.late_mode || self.storing > 0 || sent_directly {
            return 0;
        }
        if !self.well || closing {
            return self.queue.len();
        }
        self.queue.iter().take_while(|queued| queued.since + limits.late_after <= now).count()
    }

    /// The next `count` are being stored.
    pub fn store(&mut self, count: usize) -> impl Iterator<Item = Arc<OnlineEntry>> {
        self.storing = count;
        self.queue.iter().take(count).map(|queued| Arc::clone(&queued.entry))
    }

    /// What became of all that was being stored: for each its sequence in LATE and whether it stood there already.
    /// Gives the LOGIN sequences that are done here; what failed keeps its place.
    pub fn stored(&mut self, results: &[Option<(u64, bool)>]) -> Vec<u64> {
        debug_assert_eq!(results.len(), self.storing, "each has its result");
        let mut done = vec![];
        let mut failed = vec![];
        for (result, queued) in results.iter().zip(self.queue.drain(..self.storing)) {
            match result {
                Some((at, duplicate)) => {
                    if !duplicate || *at > self.delivered_before {
                        self.late_expected = self.late_expected.max(*at);
                    }
                    done.push(queued.entry.sequence);
                }
                None => failed.push(queued),
            }
        }
        failed.into_iter().rev().for_each(|queued| self.queue.push_front(queued));
        self.storing = 0;
        done
    }

    /// Judges the answers to what is in flight. What stands behind the first that is not done counts for nothing:
    /// said again with it, it keeps its order.
    pub fn judge(&self, results: &[OnlineResult], epoch: Epoch) -> Verdict {
        let done = results.iter().take_while(|result| matches!(result, OnlineResult::Done { .. })).count();
        match results.get(done) {
            None if done == self.in_flight => Verdict::Well(done),
            Some(OnlineResult::Fenced { current }) if *current > epoch => Verdict::Fenced,
            _ => Verdict::Again(done),
        }
    }

    /// Takes the first `done` off the front. Gives the LOGIN sequences, or the handles of LATE's messages.
    pub fn answered(&mut self, done: usize, all: bool, now: Instant, limits: &Limits) -> Answered<H> {
        self.in_flight = 0;
        self.well = all;
        if done > 0 {
            self.well_at = now;
            self.backoff = Duration::ZERO;
        }
        if all {
            self.not_before = None;
        } else {
            self.backoff = (self.backoff * 2).clamp(limits.retry_min, limits.retry_max);
            self.not_before = Some(now + self.backoff);
        }
        if self.in_flight_late {
            Answered::Late(self.late.drain(..done).map(|late| late.handle).collect())
        } else {
            Answered::Login(self.queue.drain(..done).map(|queued| queued.entry.sequence).collect())
        }
    }

    /// Nobody owns the partition in this kind: the change of that is awaited.
    pub fn without_owner(&mut self, now: Instant, limits: &Limits) {
        self.well = false;
        self.not_before = Some(now + limits.retry_max);
    }

    /// Owners changed: what waits for one is tried at once.
    pub fn owner_changed(&mut self) {
        self.not_before = None;
        self.backoff = Duration::ZERO;
    }

    /// When it is to be looked at next, if by time alone.
    pub fn wake_at(&self, limits: &Limits) -> Option<Instant> {
        let resend =
            self.not_before.filter(|_| self.in_flight == 0 && !(self.queue.is_empty() && self.late.is_empty()));
        let by_age = if self.late_mode {
            // Of what is not being stored.
            self.queue.get(self.storing).filter(|_| self.storing == 0).map(|queued| queued.since + limits.late_after)
        } else {
            self.silent_at(limits).filter(|_| self.in_flight == 0)
        };
        [resend, by_age].into_iter().flatten().min()
    }

    /// When the kind will have been silent for too long.
    fn silent_at(&self, limits: &Limits) -> Option<Instant> {
        self.queue.front().map(|queued| queued.since.max(self.well_at) + limits.late_after)
    }
}

/// What an answer settled.
#[derive(Debug)]
pub enum Answered<H> {
    /// Records of LOGIN, by sequence: one kind less to wait for.
    Login(Vec<u64>),
    /// Messages of LATE: done.
    Late(Vec<H>),
}
