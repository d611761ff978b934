//! What a desk is told: pushes, sessions, comets, answers.

use pushmesh_protocol::{
    CallId, ConnId, Instance, Payload, PushId, Token, Unit, UserId,
    frame::{Call, Message},
    message::{
        AckOutcome, AtEnd, Body, Delivery, EndedBy, Epoch, LoginEnded, Millis, Policy, PushOrder, Session, Target,
        Withdrawal,
    },
};

use super::*;

impl World {
    pub fn store(&mut self, order: PushOrder) -> u64 {
        let taken = match &order {
            PushOrder::Deliver(delivery) => Some((delivery.id, delivery.policy.at_end)),
            PushOrder::Withdraw(withdrawal) => Some((withdrawal.id, AtEnd::Dead)),
            PushOrder::LoginEnded(_) => None,
        };
        if taken.is_some_and(|(id, _)| self.over.contains(&id)) {
            return self.sequence;
        }
        self.sequence += 1;
        self.stream.insert(self.sequence, (order.clone(), self.now));
        let (sequence, facts) = (self.sequence, self.facts.len());
        self.deliver(sequence, order, self.now, false);
        let refused = |fact: &Fact| matches!(fact, Fact::Duplicate | Fact::NothingToWithdraw);
        if let Some((id, at_end)) = taken.filter(|_| !self.facts[facts..].iter().any(refused)) {
            self.accepted.insert(id, at_end);
        }
        sequence
    }

    pub(super) fn deliver(&mut self, sequence: u64, order: PushOrder, stored_at: Millis, delivered_before: bool) {
        self.delivered = self.delivered.max(sequence);
        self.apply(Event::Order { sequence, order, stored_at, delivered_before });
    }

    /// A call's push to a login.
    pub fn call(&mut self, who: &str, of_device: &str, of_login: &str, call: &str) -> PushId {
        let call = CallId::new(call).unwrap();
        let id = PushId::of_call(&kind(), &call, &user(who), &login(of_login));
        let body = Body::Call(Call {
            kind: kind(),
            call_id: call,
            unit: Unit::new("g").unwrap(),
            started_at: self.now,
            data: None,
        });
        let target = Target::Login { login_id: login(of_login), device: device(of_device) };
        self.store_delivery(id, who, target, body, AtEnd::Dead);
        id
    }

    /// A message to a user.
    pub fn message(&mut self, who: &str, name: &str, at_end: AtEnd) -> PushId {
        let sender = Token::new("shop").unwrap();
        let id = PushId::of_message(&sender, name, &user(who));
        let body = Body::Message(Message { sender, data: Payload::from("hello") });
        self.store_delivery(id, who, Target::User, body, at_end);
        id
    }

    fn store_delivery(&mut self, id: PushId, who: &str, target: Target, body: Body, at_end: AtEnd) {
        let policy = Policy { at_end, lifetime_ms: LIFETIME };
        let (user, at) = (user(who), self.now);
        self.store(PushOrder::Deliver(Delivery { id, user, target, body, policy, at, source: None, trace: None }));
    }

    pub fn withdraw(&mut self, who: &str, of_device: &str, of_login: &str, call: &str) -> PushId {
        let call_id = CallId::new(call).unwrap();
        let push = PushId::of_call(&kind(), &call_id, &user(who), &login(of_login));
        let id = push.withdrawal();
        self.store(PushOrder::Withdraw(Withdrawal {
            id,
            push,
            user: user(who),
            login_id: login(of_login),
            device: device(of_device),
            kind: kind(),
            call_id,
            at: self.now,
            source: None,
            trace: None,
        }));
        id
    }

    pub fn login_ended(&mut self, who: &str, of_login: &str) {
        self.login_ended_by(who, of_login, None);
    }

    pub fn login_ended_by(&mut self, who: &str, of_login: &str, by: Option<EndedBy>) {
        let (user, login_id) = (user(who), login(of_login));
        self.store(PushOrder::LoginEnded(LoginEnded { user, login_id, kind: kind(), at: self.now, by }));
    }

    /// As the comet does it whose session goes on elsewhere, or that was logged out.
    pub fn purge_session(&mut self, key: (UserId, ConnId)) {
        self.sessions.remove(&key);
        self.apply(Event::SessionGone { user: key.0, conn: key.1 });
    }

    pub fn connect(&mut self, who: &str, of_device: &str, of_login: &str, name: &str, comet: &str) {
        let comet = Instance::new(comet).unwrap();
        let comet_epoch = self.comets.get(&comet).copied().unwrap_or(1);
        let (login_id, device) = (login(of_login), device(of_device));
        let session = Session { login_id, device, comet, comet_epoch, since: self.now, left: None };
        self.put_session(user(who), conn(name), session);
    }

    pub fn put_session(&mut self, user: UserId, conn: ConnId, session: Session) {
        self.revision += 1;
        let revision = self.revision;
        self.sessions.insert((user.clone(), conn.clone()), (session.clone(), revision));
        self.apply(Event::Session { user, conn, session, revision });
    }

    pub fn leave(&mut self, who: &str, name: &str) {
        let Some((session, _)) = self.sessions.get(&(user(who), conn(name))).cloned() else { return };
        self.put_session(user(who), conn(name), Session { left: Some(self.now), ..session });
    }

    pub fn set_comets(&mut self, comets: &[(&str, Epoch)]) {
        self.comets = comets.iter().map(|(comet, epoch)| (Instance::new(comet).unwrap(), *epoch)).collect();
        self.apply(Event::Comets(self.comets.clone()));
    }

    pub fn answer(&mut self, who: &str, name: &str, push: PushId, outcome: AckOutcome) {
        self.apply(Event::Answer { user: user(who), conn: conn(name), push, outcome });
    }
}
