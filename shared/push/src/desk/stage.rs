//! What surrounds a desk, for its tests.

use std::collections::VecDeque;

use pushmesh_protocol::{
    CallId, ConnId, Instance, Partition, PushId, Token,
    message::{AtEnd, CallRecord, LoginRecord, OfflineCause, PushOrder, Session},
};

use super::*;

pub(super) const SECOND: Millis = 1000;

pub(super) fn rules(reach: Reach) -> Rules {
    Rules {
        kind: Kind::new("group").unwrap(),
        reach,
        delivery: Policy { at_end: AtEnd::Dead, lifetime_ms: 1 },
        source: Source { service: Token::new("group-push").unwrap(), epoch: 3 },
        stale_after: Duration::from_secs(60),
        session_grace: Duration::from_secs(1),
    }
}

/// A desk, the book beside it, and everything that was ordered.
pub(super) struct Stage {
    pub(super) desk: Desk,
    pub(super) book: CallBook,
    /// News of calls that the desk has not applied yet.
    pub(super) news: VecDeque<CallNews>,
    pub(super) orders: Vec<PushOrder>,
    pub(super) dissolved: Vec<(UserId, Unit)>,
    pub(super) now: Millis,
    pub(super) sequence: u64,
}

impl Stage {
    pub(super) fn new(reach: Reach) -> Self {
        let mut stage = Self {
            desk: Desk::new(rules(reach)),
            book: CallBook::new(Some(Duration::from_secs(600))),
            news: VecDeque::new(),
            orders: Vec::new(),
            dissolved: Vec::new(),
            now: 1_000_000,
            sequence: 0,
        };
        stage.desk.serve(&stage.book, stage.now);
        stage
    }

    pub(super) fn input(&mut self, input: Input) -> Option<Outcome> {
        let effects = self.desk.apply(input, &self.book, self.now);
        self.orders.extend(effects.orders);
        self.dissolved.extend(effects.dissolved);
        effects.outcome
    }

    pub(super) fn record(&mut self, user: &str, event: LoginEvent, at: Millis) -> Option<Outcome> {
        self.sequence += 1;
        let record = LoginRecord { user: UserId::new(user).unwrap(), event, at, trace: None };
        let entry = OnlineEntry { partition: Partition(0), epoch: 1, sequence: self.sequence, record };
        self.input(Input::Record { entry, trace: None })
    }

    pub(super) fn online(&mut self, user: &str, login: &str) -> Option<Outcome> {
        let event =
            LoginEvent::Online { login_id: LoginId::new(login).unwrap(), device: DeviceId::new("phone").unwrap() };
        self.record(user, event, self.now)
    }

    pub(super) fn offline(&mut self, user: &str, login: &str) -> Option<Outcome> {
        let (login_id, cause) = (LoginId::new(login).ok(), OfflineCause::Reported);
        self.record(user, LoginEvent::Offline { login_id, device: None, cause }, self.now)
    }

    pub(super) fn join(&mut self, user: &str, unit: &str) {
        let (user, unit) = (UserId::new(user).unwrap(), Unit::new(unit).unwrap());
        self.input(Input::Member(MemberNews::Joined { user, unit, at: self.now }));
    }

    pub(super) fn leave(&mut self, user: &str, unit: &str) {
        let (user, unit) = (UserId::new(user).unwrap(), Unit::new(unit).unwrap());
        self.input(Input::Member(MemberNews::Left { user, unit }));
    }

    pub(super) fn session(&mut self, user: &str, login: &str) {
        let session = Session {
            login_id: LoginId::new(login).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            comet: Instance::new("comet-1").unwrap(),
            comet_epoch: 1,
            since: self.now,
            left: None,
        };
        let (user, conn) = (UserId::new(user).unwrap(), ConnId::new(&format!("conn-{login}")).unwrap());
        self.input(Input::Session(SessionNews::Put { user, conn, session }));
    }

    pub(super) fn write_call(&mut self, call: &str, unit: &str, ended_at: Option<Millis>) {
        let unit = Unit::new(unit).unwrap();
        let record = CallRecord { unit, started_at: self.now, ended_at, data: None, trace: None };
        self.news.extend(self.book.put(&CallId::new(call).unwrap(), record));
    }

    pub(super) fn hear(&mut self) {
        if let Some(news) = self.news.pop_front() {
            self.input(Input::Call { news, trace: None });
        }
    }

    pub(super) fn start(&mut self, call: &str, unit: &str) {
        self.write_call(call, unit, None);
        self.hear();
    }

    pub(super) fn end(&mut self, call: &str, unit: &str) {
        self.write_call(call, unit, Some(self.now));
        self.hear();
    }

    pub(super) fn pass(&mut self, millis: Millis) {
        self.now += millis;
        self.input(Input::Tick);
    }

    /// What was ordered since the last time: `+call@login`, `-call@login`, `end login`.
    pub(super) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orders).iter().map(line).collect()
    }
}

pub(super) fn line(order: &PushOrder) -> String {
    match order {
        PushOrder::Deliver(delivery) => {
            let (
                pushmesh_protocol::message::Body::Call(call),
                pushmesh_protocol::message::Target::Login { login_id, .. },
            ) = (&delivery.body, &delivery.target)
            else {
                panic!("a call to a login")
            };
            assert_eq!(delivery.id, PushId::of_call(&call.kind, &call.call_id, &delivery.user, login_id));
            format!("+{}@{login_id}", call.call_id)
        }
        PushOrder::Withdraw(withdrawal) => {
            assert_eq!(withdrawal.id, withdrawal.push.withdrawal());
            format!("-{}@{}", withdrawal.call_id, withdrawal.login_id)
        }
        PushOrder::LoginEnded(ended) => format!("end {}", ended.login_id),
    }
}
