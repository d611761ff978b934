//! What waits to be stored in PUSH, in order, and who waits for it. Pure: time is an argument.
//!
//! What came of a login record is made again when its distributor says the record again, so a delivery that failed is
//! dropped, and the record answered *failed*. Everything else (of calls, sessions, memberships, and every end of a
//! login, which nobody can make twice) goes back to the front and is tried until it is stored.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use pushmesh_bus::{StoreError, Stored};
use pushmesh_protocol::message::{OnlineResult, PushOrder};
use tokio::time::Instant;
use tracing::Span;

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// An entry of a part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    part: u64,
    entry: usize,
}

/// An order on its way.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) order: PushOrder,
    /// The record it came of, if that waits for it.
    ticket: Option<Ticket>,
    /// Open until it is stored.
    _span: Span,
}

impl Parcel {
    /// An end of a login that no record waits for: nobody makes it again.
    pub(crate) fn is_made_once(&self) -> bool {
        self.ticket.is_none() && matches!(self.order, PushOrder::LoginEnded(_))
    }
}

#[derive(Debug)]
enum Slot {
    Open,
    Waiting { left: u32, pushes: u32, failed: Option<String>, _span: Span },
    Settled(OnlineResult),
}

#[derive(Debug)]
struct Part<R> {
    reply: R,
    slots: Vec<Slot>,
    unsettled: usize,
}

/// What a round of storing came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) pushes: u64,
    pub(crate) withdrawals: u64,
    pub(crate) logins_ended: u64,
    pub(crate) duplicates: u64,
    pub(crate) failures: u64,
}

/// `R` is whatever answers a part.
#[derive(Debug)]
pub(crate) struct Outbox<R> {
    waiting: VecDeque<Parcel>,
    parts: HashMap<u64, Part<R>>,
    next_part: u64,
    failures_in_a_row: u32,
    not_before: Option<Instant>,
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), parts: HashMap::new(), next_part: 0, failures_in_a_row: 0, not_before: None }
    }
}

impl<R> Outbox<R> {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits, neither to be stored nor to be answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.parts.is_empty()
    }

    /// Whether something waits that the partition's next owner would not make again.
    pub(crate) fn holds_what_is_made_once(&self) -> bool {
        self.waiting.iter().any(Parcel::is_made_once)
    }

    /// A part of `entries` records waits for its answer. Each of them is settled, or awaited, next.
    pub(crate) fn open(&mut self, reply: R, entries: usize) -> impl Iterator<Item = Ticket> + use<R> {
        let part = self.next_part;
        self.next_part += 1;
        let slots = (0..entries).map(|_| Slot::Open).collect();
        self.parts.insert(part, Part { reply, slots, unsettled: entries });
        (0..entries).map(move |entry| Ticket { part, entry })
    }

    /// Nothing has to be stored for this record. Returns the part's answer, if it is complete.
    pub(crate) fn settle(&mut self, ticket: Ticket, result: OnlineResult) -> Option<(R, Vec<OnlineResult>)> {
        let part = self.parts.get_mut(&ticket.part)?;
        if !matches!(part.slots[ticket.entry], Slot::Settled(_)) {
            part.slots[ticket.entry] = Slot::Settled(result);
            part.unsettled -= 1;
        }
        self.finished(ticket.part)
    }

    /// This record waits for `orders` to be stored; `span` stays open until then.
    pub(crate) fn wait(&mut self, ticket: Ticket, orders: Vec<(PushOrder, Span)>, span: Span) {
        let pushes = orders.iter().filter(|(order, _)| matches!(order, PushOrder::Deliver(_))).count() as u32;
        if let Some(part) = self.parts.get_mut(&ticket.part) {
            let left = orders.len() as u32;
            part.slots[ticket.entry] = Slot::Waiting { left, pushes, failed: None, _span: span };
        }
        let parcel = |(order, span)| Parcel { order, ticket: Some(ticket), _span: span };
        self.waiting.extend(orders.into_iter().map(parcel));
    }

    /// Orders that no record waits for.
    pub(crate) fn push(&mut self, order: PushOrder, span: Span) {
        self.waiting.push_back(Parcel { order, ticket: None, _span: span });
    }

    /// The next orders to store, at most `max`; none while a failure is waited out.
    pub(crate) fn take(&mut self, max: usize, now: Instant) -> Vec<Parcel> {
        if self.not_before.is_some_and(|until| now < until) {
            return Vec::new();
        }
        self.not_before = None;
        self.waiting.drain(..max.min(self.waiting.len())).collect()
    }

    /// What became of the parcels that were taken last. Returns the answers that are complete now.
    pub(crate) fn stored(
        &mut self,
        parcels: Vec<Parcel>,
        results: Vec<Result<Stored, StoreError>>,
        now: Instant,
    ) -> (Tally, Vec<(R, Vec<OnlineResult>)>) {
        let mut tally = Tally::default();
        let mut answers = Vec::new();
        let mut again = Vec::new();
        for (mut parcel, result) in parcels.into_iter().zip(results) {
            let ticket = parcel.ticket.take();
            let failure = match result {
                Ok(stored) => {
                    tally.count(&parcel.order, stored);
                    None
                }
                Err(error) => {
                    tally.failures += 1;
                    if ticket.is_none() || !matches!(parcel.order, PushOrder::Deliver(_)) {
                        again.push(parcel);
                    }
                    Some(error.to_string())
                }
            };
            answers.extend(ticket.and_then(|ticket| self.one_less(ticket, failure)));
        }
        for parcel in again.into_iter().rev() {
            self.waiting.push_front(parcel);
        }
        if tally.failures == 0 {
            self.failures_in_a_row = 0;
        } else {
            let delay = RETRY_FIRST.saturating_mul(1 << self.failures_in_a_row.min(8)).min(RETRY_MAX);
            self.failures_in_a_row += 1;
            self.not_before = Some(now + delay);
        }
        (tally, answers)
    }

    fn one_less(&mut self, ticket: Ticket, failure: Option<String>) -> Option<(R, Vec<OnlineResult>)> {
        let part = self.parts.get_mut(&ticket.part)?;
        let Slot::Waiting { left, pushes, failed, .. } = &mut part.slots[ticket.entry] else { return None };
        *left -= 1;
        *failed = failed.take().or(failure);
        if *left > 0 {
            return None;
        }
        let result = match failed.take() {
            Some(reason) => OnlineResult::Failed { reason },
            None => OnlineResult::Done { pushes: *pushes },
        };
        part.slots[ticket.entry] = Slot::Settled(result);
        part.unsettled -= 1;
        self.finished(ticket.part)
    }

    fn finished(&mut self, part: u64) -> Option<(R, Vec<OnlineResult>)> {
        if self.parts.get(&part)?.unsettled > 0 {
            return None;
        }
        let part = self.parts.remove(&part)?;
        let settled = |slot| match slot {
            Slot::Settled(result) => result,
            Slot::Open | Slot::Waiting { .. } => unreachable!("a part without unsettled slots"),
        };
        Some((part.reply, part.slots.into_iter().map(settled).collect()))
    }
}

impl Tally {
    fn count(&mut self, order: &PushOrder, stored: Stored) {
        self.duplicates += u64::from(stored.duplicate);
        match order {
            PushOrder::Deliver(_) => self.pushes += 1,
            PushOrder::Withdraw(_) => self.withdrawals += 1,
            PushOrder::LoginEnded(_) => self.logins_ended += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{
        CallId, DeviceId, Kind, LoginId, PushId, Unit, UserId,
        frame::Call,
        message::{AtEnd, Body, Delivery, LoginEnded, Policy, Target},
    };

    use super::*;

    fn ended(login: &str) -> (PushOrder, Span) {
        let (user, login_id) = (UserId::new("u").unwrap(), LoginId::new(login).unwrap());
        let kind = Kind::new("group").unwrap();
        (PushOrder::LoginEnded(LoginEnded { user, login_id, kind, at: 0, by: None }), Span::none())
    }

    fn deliver(login: &str) -> (PushOrder, Span) {
        let (kind, call_id) = (Kind::new("group").unwrap(), CallId::new("c").unwrap());
        let login_id = LoginId::new(login).unwrap();
        let delivery = Delivery {
            id: PushId::of_call(&kind, &call_id, &UserId::new("u").unwrap(), &login_id),
            user: UserId::new("u").unwrap(),
            target: Target::Login { login_id, device: DeviceId::new("d").unwrap() },
            body: Body::Call(Call { kind, call_id, unit: Unit::new("g").unwrap(), started_at: 0, data: None }),
            policy: Policy { at_end: AtEnd::Dead, lifetime_ms: 1 },
            at: 0,
            source: None,
            trace: None,
        };
        (PushOrder::Deliver(delivery), Span::none())
    }

    const STORED: Result<Stored, StoreError> = Ok(Stored { sequence: 1, duplicate: false });

    fn outage() -> Result<Stored, StoreError> {
        Err(StoreError::Outage { held: Duration::ZERO, reason: "away".into() })
    }

    #[test]
    fn a_part_is_answered_when_the_last_of_its_pushes_is_stored() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let tickets: Vec<_> = outbox.open("part", 3).collect();
        assert_eq!(outbox.settle(tickets[1], OnlineResult::Fenced { current: 7 }), None);
        outbox.wait(tickets[0], vec![ended("old"), deliver("l1")], Span::none());
        outbox.wait(tickets[2], vec![deliver("l2")], Span::none());
        let taken = outbox.take(2, now);
        assert_eq!(outbox.stored(taken, vec![STORED, STORED], now).1, []);
        let taken = outbox.take(2, now);
        let (tally, answers) = outbox.stored(taken, vec![STORED], now);
        let done = OnlineResult::Done { pushes: 1 };
        assert_eq!(answers, [("part", vec![done.clone(), OnlineResult::Fenced { current: 7 }, done])]);
        assert_eq!(tally, Tally { pushes: 1, ..Tally::default() });
        assert!(outbox.is_idle());
    }

    #[test]
    fn a_failed_record_is_answered_and_its_ends_of_logins_are_kept() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let ticket = outbox.open("part", 1).next().unwrap();
        outbox.wait(ticket, vec![ended("old"), deliver("l1")], Span::none());
        outbox.push(deliver("l2").0, Span::none());
        assert!(!outbox.holds_what_is_made_once(), "a record that is not answered is said again, its end with it");
        let taken = outbox.take(9, now);
        let (tally, answers) = outbox.stored(taken, vec![outage(), outage(), outage()], now);
        assert!(matches!(&answers[..], [("part", results)] if matches!(results[..], [OnlineResult::Failed { .. }])));
        assert_eq!(tally.failures, 3);
        assert!(outbox.holds_what_is_made_once(), "the record is said again, the end it caused is not");
        assert_eq!(outbox.len(), 2, "the delivery of the record is not kept");
        assert!(outbox.take(9, now).is_empty(), "a failure is waited out");
        let later = now + RETRY_FIRST;
        let taken = outbox.take(9, later);
        assert!(matches!(taken[0].order, PushOrder::LoginEnded(_)), "in their order");
        assert_eq!(outbox.stored(taken, vec![STORED, STORED], later).0.failures, 0);
        assert!(outbox.is_idle());
    }

    #[test]
    fn a_record_is_answered_once() {
        let mut outbox = Outbox::default();
        let ticket = outbox.open((), 2).next().unwrap();
        assert_eq!(outbox.settle(ticket, OnlineResult::NotMine), None);
        assert_eq!(outbox.settle(ticket, OnlineResult::NotMine), None);
        assert!(!outbox.is_idle());
    }
}
