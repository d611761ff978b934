//! The orders that a desk gives: who is told of what, and in which words.

use std::sync::Arc;

use pushmesh_protocol::{
    LoginId, PushId, TraceContext, Unit, UserId,
    frame::{ActiveCall, Call},
    message::{Body, Delivery, EndedBy, LoginEnded, Millis, PushOrder, Target, Withdrawal},
};

use super::{CLOCKS_APART_MS, Desk, Effects, Recipient, Rules, presence::Presence, roll::UserIx};
use crate::book::{CallBook, CallNote};

impl Desk {
    /// One login of all active calls that reach it.
    pub(super) fn tell_login(
        &self,
        user: UserIx,
        login: &LoginId,
        book: &CallBook,
        trace: Option<TraceContext>,
        now: Millis,
        effects: &mut Effects,
    ) {
        let Some(to) = self.recipients(user).find(|to| to.login == login) else { return };
        let calls = self.active_calls(user, book);
        effects.orders.extend(calls.into_iter().map(|call| deliver(&self.rules, &to, call, trace, now)));
    }

    /// One call to all online members it reaches.
    pub(super) fn tell_call(
        &self,
        call: &Arc<CallNote>,
        trace: Option<TraceContext>,
        now: Millis,
        effects: &mut Effects,
    ) {
        for user in self.roll.reached(self.rules.reach, &call.unit) {
            effects.orders.extend(self.recipients(user).map(|to| deliver(&self.rules, &to, call, trace, now)));
        }
    }

    /// A new member of the calls that reach his new unit.
    pub(super) fn tell_member(&self, user: UserIx, unit: &Unit, book: &CallBook, now: Millis, effects: &mut Effects) {
        for source in self.rules.reach.sources(unit.dotted()) {
            for call in book.active_in(source) {
                effects.orders.extend(self.recipients(user).map(|to| deliver(&self.rules, &to, call, None, now)));
            }
        }
    }

    /// One ended call from all online members it reached.
    pub(super) fn withdraw_call(&self, call: &Arc<CallNote>, trace: Option<TraceContext>, effects: &mut Effects) {
        let at = call.ended_at.unwrap_or(call.started_at);
        for user in self.roll.reached(self.rules.reach, &call.unit) {
            effects.orders.extend(self.recipients(user).map(|to| withdraw(&self.rules, &to, call, at, trace)));
        }
    }

    /// All lately ended calls from one login: an earlier owner may not have come to it.
    pub(super) fn withdraw_ended(&self, user: UserIx, login: &LoginId, book: &CallBook, effects: &mut Effects) {
        let Some(to) = self.recipients(user).find(|to| to.login == login) else { return };
        for unit in self.roll.units_of(user) {
            for source in self.rules.reach.sources(unit) {
                for call in book.ended_in(source) {
                    let at = call.ended_at.unwrap_or(call.started_at);
                    if to.began <= at.saturating_add(CLOCKS_APART_MS) {
                        effects.orders.push(withdraw(&self.rules, &to, call, at, None));
                    }
                }
            }
        }
    }

    /// From a member that left: the calls that reach him no more, and those that have just ended.
    pub(super) fn withdraw_member(
        &self,
        user: UserIx,
        unit: &Unit,
        book: &CallBook,
        now: Millis,
        effects: &mut Effects,
    ) {
        if self.roll.presence(user).is_none_or(|presence| presence.logins().is_empty()) {
            return;
        }
        let kept = self.active_calls(user, book);
        for source in self.rules.reach.sources(unit.dotted()) {
            for call in book.active_in(source).iter().filter(|call| !kept.iter().any(|kept| kept.id == call.id)) {
                effects.orders.extend(self.recipients(user).map(|to| withdraw(&self.rules, &to, call, now, None)));
            }
            // The news of an end may still be on its way, and will not find him any more.
            for call in book.ended_in(source) {
                let at = call.ended_at.unwrap_or(call.started_at);
                if now <= at.saturating_add(CLOCKS_APART_MS) {
                    effects.orders.extend(self.recipients(user).map(|to| withdraw(&self.rules, &to, call, at, None)));
                }
            }
        }
    }

    /// `by`: the record of LOGIN that ended it for good, if one did.
    pub(super) fn login_ended(&self, user: &UserId, login_id: LoginId, by: Option<EndedBy>, now: Millis) -> PushOrder {
        PushOrder::LoginEnded(LoginEnded { user: user.clone(), login_id, kind: self.rules.kind.clone(), at: now, by })
    }

    fn recipients(&self, user: UserIx) -> impl Iterator<Item = Recipient<'_>> {
        let id = self.roll.id(user);
        let logins = self.roll.presence(user).map_or(&[][..], Presence::logins);
        logins.iter().filter_map(move |login| {
            Some(Recipient { user: id?, login: &login.id, device: &login.device, began: login.at })
        })
    }
}

/// A call with the id of its push to this login of the user.
pub(super) fn active_call(rules: &Rules, call: &CallNote, user: &UserId, login: &LoginId) -> ActiveCall {
    ActiveCall { id: PushId::of_call(&rules.kind, &call.id, user, login), call: told(rules, call) }
}

fn told(rules: &Rules, call: &CallNote) -> Call {
    Call {
        kind: rules.kind.clone(),
        call_id: call.id.clone(),
        unit: call.unit.clone(),
        started_at: call.started_at,
        data: call.data.clone(),
    }
}

fn deliver(rules: &Rules, to: &Recipient<'_>, call: &CallNote, trace: Option<TraceContext>, now: Millis) -> PushOrder {
    PushOrder::Deliver(Delivery {
        id: PushId::of_call(&rules.kind, &call.id, to.user, to.login),
        user: to.user.clone(),
        target: Target::Login { login_id: to.login.clone(), device: to.device.clone() },
        body: Body::Call(told(rules, call)),
        policy: rules.delivery,
        at: now,
        source: Some(rules.source.clone()),
        trace,
    })
}

fn withdraw(rules: &Rules, to: &Recipient<'_>, call: &CallNote, at: Millis, trace: Option<TraceContext>) -> PushOrder {
    let push = PushId::of_call(&rules.kind, &call.id, to.user, to.login);
    PushOrder::Withdraw(Withdrawal {
        id: push.withdrawal(),
        push,
        user: to.user.clone(),
        login_id: to.login.clone(),
        device: to.device.clone(),
        kind: rules.kind.clone(),
        call_id: call.id.clone(),
        at,
        source: Some(rules.source.clone()),
        trace,
    })
}
