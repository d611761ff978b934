//! One partition of one kind: its members, their logins, and what they are to be told. Pure.
//!
//! Everything is applied in turn, so that a login and a call start can't miss each other: a login or new membership is
//! noted and then the active calls are looked up; a call is in the [`CallBook`] before its start is applied here, and
//! then the online members are told. Whoever comes second finds the first. Both may find each other: the push's id is
//! the same, and it is stored once.
//!
//! Never is a call told after it was withdrawn: look-ups find active calls alone, and a call leaves the book before its
//! end is applied.

mod comets;
mod input;
mod orders;
#[cfg(test)]
mod orders_tests;
pub(crate) mod presence;
mod resync;
mod roll;
mod sessions;
#[cfg(test)]
mod stage;
mod standing;
#[cfg(test)]
mod take_over_tests;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pushmesh_protocol::{
    DeviceId, Kind, LoginId, TraceContext, Unit, UserId,
    frame::ActiveCall,
    message::{EndedBy, Epoch, LoginEvent, Millis, OfflineCause, OnlineEntry, Policy, Source, Successor},
};

pub(crate) use self::{
    comets::Comets,
    input::{Effects, Input, MemberNews, Outcome, SessionNews},
};
use self::{
    presence::{Offline, Online, OnlineVerdict},
    resync::Resync,
    roll::{Roll, UserIx},
};
use crate::{
    book::{CallBook, CallNews, CallNote, Dissolved},
    kind::{PushKind, Reach},
};

/// How long an applied `offline` is remembered, so that an `online` it overtook is recognised.
const ENDS_KEPT: Duration = Duration::from_secs(10 * 60);
/// How far apart clocks may be: a login that began longer than this after a call's end was never told of it.
const CLOCKS_APART_MS: Millis = 60_000;
/// Most calls in one answer to CALLS.
const CALLS_MAX: usize = 256;

/// The rules a desk goes by.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) kind: Kind,
    pub(crate) reach: Reach,
    pub(crate) delivery: Policy,
    pub(crate) source: Source,
    pub(crate) stale_after: Duration,
    pub(crate) session_grace: Duration,
}

impl Rules {
    pub(crate) fn new(kind: &dyn PushKind, lease: Epoch, stale_after: Duration, session_grace: Duration) -> Self {
        Self {
            kind: kind.kind().clone(),
            reach: kind.reach(),
            delivery: kind.delivery(),
            source: Source { service: kind.kind().service(), epoch: lease },
            stale_after,
            session_grace,
        }
    }
}

/// The state of one partition.
#[derive(Debug)]
pub(crate) struct Desk {
    rules: Rules,
    roll: Roll,
    comets: Comets,
    /// Until directory, sessions and calls are caught up, it notes and tells nobody.
    serving: bool,
    logins: usize,
    /// The newest lease of the partition in the distributor that was seen.
    sender: Epoch,
    /// Logins of which only the session was seen: looked up when due, unless their record comes before.
    unreported: VecDeque<(Millis, UserId, LoginId)>,
    /// Users with a remembered end, by when it may be forgotten.
    ends: VecDeque<(Millis, UserId)>,
    resync: Resync,
}

/// A login as an order names it.
#[derive(Debug, Clone)]
struct Recipient<'a> {
    user: &'a UserId,
    login: &'a LoginId,
    device: &'a DeviceId,
    began: Millis,
}

impl Desk {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            roll: Roll::default(),
            comets: Comets::default(),
            serving: false,
            logins: 0,
            sender: 0,
            unreported: VecDeque::new(),
            ends: VecDeque::new(),
            resync: Resync::default(),
        }
    }

    /// Online logins held.
    pub(crate) fn logins(&self) -> usize {
        self.logins
    }

    pub(crate) fn memberships(&self) -> usize {
        self.roll.memberships()
    }

    /// Directory, sessions and calls are caught up: from here on everybody is told. What stood before is told by
    /// [`Self::evaluate`], and what is due to be dissolved is returned.
    pub(crate) fn serve(&mut self, book: &CallBook, now: Millis) -> Effects {
        self.serving = true;
        let due: Vec<_> = self
            .roll
            .unit_names()
            .filter_map(|name| Some((Unit::from_levels(name.split('.')).ok()?, book.dissolved_until(name, now)?)))
            .collect();
        let mut effects = Effects::default();
        for (unit, until) in due {
            self.dissolve(&Dissolved { unit, until }, book, &mut effects);
        }
        effects
    }

    /// Tells the online users from number `from` on of active and ended calls, until about `enough` orders are made;
    /// where to go on, if there are more.
    pub(crate) fn evaluate(
        &mut self,
        from: UserIx,
        enough: usize,
        book: &CallBook,
        now: Millis,
    ) -> (Effects, Option<UserIx>) {
        let mut effects = Effects::default();
        for user in from..self.roll.end() {
            if effects.orders.len() >= enough {
                return (effects, Some(user));
            }
            let Some(id) = self.roll.id(user).cloned() else { continue };
            let Some((_, presence)) = self.roll.presence_of(&id) else { continue };
            let logins: Vec<LoginId> = presence.logins().iter().map(|login| login.id.clone()).collect();
            // The owner before may not have come to say it in this kind.
            let ended = presence.ended_before_their_sessions().into_iter();
            effects.orders.extend(ended.map(|(login, by)| self.login_ended(&id, login, Some(by), now)));
            for login in logins {
                self.tell_login(user, &login, book, None, now, &mut effects);
                self.withdraw_ended(user, &login, book, &mut effects);
            }
        }
        (effects, None)
    }

    pub(crate) fn apply(&mut self, input: Input, book: &CallBook, now: Millis) -> Effects {
        let mut effects = Effects::default();
        match input {
            Input::Record { entry, trace } => {
                effects.outcome = Some(self.record(entry, trace, book, now, &mut effects));
            }
            Input::Session(news) => self.session(news, now, &mut effects),
            Input::Comets(comets) => self.heard(comets, now, &mut effects),
            Input::Member(news) => self.member(news, book, now, &mut effects),
            Input::Call { news, trace } if self.serving => match news {
                CallNews::Started(call) => self.tell_call(&call, trace, now, &mut effects),
                CallNews::Ended(call) => self.withdraw_call(&call, trace, &mut effects),
                CallNews::Dissolved(due) => self.dissolve(&due, book, &mut effects),
            },
            Input::Call { .. } => {}
            Input::Tick => self.tick(book, now, &mut effects),
        }
        effects
    }

    /// The active calls of a login, as its pushes tell them; the youngest 256 if there are more.
    pub(crate) fn calls(&self, user: &UserId, login: &LoginId, book: &CallBook) -> Vec<ActiveCall> {
        let Some(ix) = self.roll.find(user) else { return Vec::new() };
        // A connection asks for the login that it began with.
        let login = self.roll.presence(ix).map_or(login, |presence| presence.in_place_of(login));
        let mut calls = self.active_calls(ix, book);
        calls.sort_by_key(|call| std::cmp::Reverse(call.started_at));
        calls.truncate(CALLS_MAX);
        calls.iter().map(|call| orders::active_call(&self.rules, call, user, login)).collect()
    }

    fn record(
        &mut self,
        entry: OnlineEntry,
        trace: Option<TraceContext>,
        book: &CallBook,
        now: Millis,
        effects: &mut Effects,
    ) -> Outcome {
        if entry.epoch < self.sender {
            return Outcome::Fenced { current: self.sender };
        }
        self.sender = entry.epoch;
        let (user, at, sequence) = (entry.record.user, entry.record.at, entry.sequence);
        match entry.record.event {
            LoginEvent::Online { login_id, device } => {
                let stale_before = now.saturating_sub(self.rules.stale_after.as_millis() as Millis);
                let online = Online { login: login_id.clone(), device, at, sequence };
                let (ix, presence) = self.roll.presence_mut(&user);
                let before = presence.logins().len();
                let verdict = presence.online(online, stale_before, now);
                self.logins = self.logins + presence.logins().len() - before;
                let outcome = match verdict {
                    OnlineVerdict::Begins { replaced } => {
                        for older in replaced {
                            let by =
                                EndedBy { sequence, successor: Some(Successor { login_id: login_id.clone(), at }) };
                            self.remember_end(&user, now);
                            effects.orders.push(self.login_ended(&user, older, Some(by), now));
                        }
                        self.tell_login(ix, &login_id, book, trace, now, effects);
                        Outcome::Evaluated
                    }
                    OnlineVerdict::Overtaken => Outcome::Overtaken,
                    OnlineVerdict::Stale => Outcome::Stale,
                };
                self.roll.tidy(ix);
                outcome
            }
            LoginEvent::Offline { login_id, device, cause } => {
                let offline = Offline { login: login_id, device, cause, at, sequence };
                let (ix, presence) = self.roll.presence_mut(&user);
                let before = presence.logins().len();
                let ended = presence.offline(offline, &self.comets, now);
                self.logins = self.logins + presence.logins().len() - before;
                self.remember_end(&user, now);
                // After a timeout the sessions say what is, and one that logged out is on its way out.
                let by = (cause == OfflineCause::Reported).then_some(EndedBy { sequence, successor: None });
                effects.orders.extend(ended.into_iter().map(|login| self.login_ended(&user, login, by.clone(), now)));
                self.roll.tidy(ix);
                Outcome::Evaluated
            }
        }
    }

    /// An end was noted: to be forgotten when nothing can be overtaken by it any more.
    fn remember_end(&mut self, user: &UserId, now: Millis) {
        self.ends.push_back((now + ENDS_KEPT.as_millis() as Millis, user.clone()));
    }

    fn member(&mut self, news: MemberNews, book: &CallBook, now: Millis, effects: &mut Effects) {
        match news {
            MemberNews::Joined { user, unit, at } => {
                self.resync.saw_member(&user, unit.dotted());
                let (ix, new) = self.roll.join(&user, &unit, at);
                if new && self.serving {
                    self.tell_member(ix, &unit, book, now, effects);
                }
            }
            MemberNews::Left { user, unit } => {
                self.resync.saw_member(&user, unit.dotted());
                let Some(ix) = self.roll.leave(&user, unit.dotted()) else { return };
                if self.serving {
                    self.withdraw_member(ix, &unit, book, now, effects);
                }
                self.roll.tidy(ix);
            }
            MemberNews::Restarted => self.resync.members_restarted(),
            MemberNews::Current => {
                for (user, unit) in self.resync.members_missing(&self.roll) {
                    self.member(MemberNews::Left { user, unit }, book, now, effects);
                }
            }
        }
    }

    fn tick(&mut self, book: &CallBook, now: Millis, effects: &mut Effects) {
        while self.unreported.front().is_some_and(|(due, ..)| *due <= now) {
            let (_, user, login) = self.unreported.pop_front().expect("looked at just now");
            let Some((ix, presence)) = self.roll.presence_of(&user) else { continue };
            match presence.login_mut(&login) {
                Some(noted) if !noted.told => noted.told = true,
                _ => continue,
            }
            self.tell_login(ix, &login, book, None, now, effects);
        }
        while self.ends.front().is_some_and(|(due, _)| *due <= now) {
            let (due, user) = self.ends.pop_front().expect("looked at just now");
            let Some((ix, presence)) = self.roll.presence_of(&user) else { continue };
            presence.forget_ends((due + 1).saturating_sub(ENDS_KEPT.as_millis() as Millis));
            self.roll.tidy(ix);
        }
    }

    fn dissolve(&self, due: &Dissolved, book: &CallBook, effects: &mut Effects) {
        if book.active_in(due.unit.dotted()).is_empty() {
            let members = self.roll.members_until(&due.unit, due.until);
            effects.dissolved.extend(members.into_iter().map(|user| (user, due.unit.clone())));
        }
    }

    /// Active calls that reach a user, each once.
    fn active_calls<'b>(&self, user: UserIx, book: &'b CallBook) -> Vec<&'b Arc<CallNote>> {
        let mut calls: Vec<&Arc<CallNote>> = Vec::new();
        for unit in self.roll.units_of(user) {
            for source in self.rules.reach.sources(unit) {
                let fresh = |call: &&Arc<CallNote>| !calls.iter().any(|known| known.id == call.id);
                let found: Vec<_> = book.active_in(source).iter().filter(fresh).collect();
                calls.extend(found);
            }
        }
        calls
    }
}
