//! When a push is sent, and what waits when it can't be.

use pushmesh_protocol::{
    frame::{self, PushBody},
    message::{AtEnd, Body, CometItem, CometOrder, Millis, PushOrder},
};

use super::{
    Action, Desk, Effect, Fact, Timer,
    entry::{Entry, Noted, Outcome, To},
    millis,
};
use crate::{sessions::Known, slab::Id};

/// What [`Desk::step`] found is to be done.
enum Next {
    Wait(Millis),
    Settle(Outcome),
    Keep(Noted),
    Fetch,
    Transmit,
    EnterInbox,
    LeaveInbox,
}

impl Desk {
    /// Does what is due for a push, and sets its timer.
    ///
    /// Everything that changes a push ends here: it looks at the push as it stands, never at why it was called.
    pub(super) fn step(&mut self, id: Id, now: Millis) {
        // Every round changes what the next one sees; an effect or a timer ends them.
        loop {
            let Some(entry) = self.pushes.get(id) else { return };
            if !self.ready || entry.busy || entry.ended.is_some() {
                return;
            }
            match self.next_for(entry, now) {
                Next::Wait(until) => {
                    self.arm(id, until);
                    return self.lighten(id);
                }
                Next::Settle(outcome) => return self.settle(id, outcome, None, now),
                Next::Keep(noted) => return self.keep(id, noted, now),
                Next::Fetch => return self.fetch(id),
                Next::Transmit => self.transmit(id, now),
                Next::EnterInbox => self.enter_inbox(id, now),
                Next::LeaveInbox => self.leave_inbox(id),
            }
        }
    }

    fn next_for(&self, entry: &Entry, now: Millis) -> Next {
        if now >= entry.expires {
            return Next::Settle(Outcome::Expired);
        }
        if entry.inbox {
            return self.next_in_inbox(entry);
        }
        let due = entry.due(millis(self.rules.retry_interval));
        let is_due = due.is_none_or(|due| now >= due);
        let exhausted = entry.tries >= self.rules.transmissions;
        if is_due && exhausted && self.connected {
            return match entry.at_end {
                AtEnd::Dead => Next::Settle(Outcome::Dead),
                AtEnd::Drop => Next::Settle(Outcome::Dropped),
                AtEnd::Inbox => Next::EnterInbox,
            };
        }
        let may_send = (is_due || entry.urgent) && !exhausted && self.connected;
        if may_send && !self.targets(entry).is_empty() {
            return self.next_to_send(entry);
        }
        self.next_to_wait(entry, due, is_due, now)
    }

    // The number of tries is stored before every transmission but the first of a push that is still in PUSH.
    fn next_to_send(&self, entry: &Entry) -> Next {
        let tries = entry.tries + 1;
        let stored = match entry.noted {
            Some(noted) => !noted.inbox && noted.tries >= tries,
            None => entry.stream.is_some() && tries == 1,
        };
        match (&entry.order, stored) {
            (None, _) => Next::Fetch,
            (Some(_), false) => Next::Keep(Noted { tries, inbox: false }),
            (Some(_), true) => Next::Transmit,
        }
    }

    fn next_to_wait(&self, entry: &Entry, due: Option<Millis>, is_due: bool, now: Millis) -> Next {
        let nobody = is_due && self.targets(entry).is_empty();
        if nobody && (entry.tries == 0 || !self.sessions.knows_user(&entry.user)) {
            match (entry.at_end, &entry.to) {
                (AtEnd::Inbox, _) => return Next::EnterInbox,
                (AtEnd::Drop, To::User) => return Next::Settle(Outcome::Dropped),
                _ => {}
            }
        }
        let unkept = entry.noted.is_none();
        let suspect = entry.last_sent.map(|last| last + millis(self.rules.suspect_after)).filter(|_| unkept);
        if unkept && (nobody || suspect.is_some_and(|suspect| now >= suspect)) {
            return Next::Keep(Noted { tries: entry.tries, inbox: false });
        }
        // Past its due time it waits for a session or the broker: an event, not a time.
        let due = due.filter(|due| now < *due);
        let times = [due, suspect, Some(entry.expires)];
        Next::Wait(times.into_iter().flatten().min().unwrap_or(entry.expires))
    }

    fn next_in_inbox(&self, entry: &Entry) -> Next {
        let untried = |(_, known): &(Id, &Known)| !entry.has_login_tried(self.login_of(known));
        if self.connected && self.targets(entry).iter().any(untried) {
            return Next::LeaveInbox;
        }
        let noted = Noted { tries: 0, inbox: true };
        if entry.noted == Some(noted) {
            Next::Wait(entry.expires)
        } else if entry.order.is_none() {
            Next::Fetch
        } else {
            Next::Keep(noted)
        }
    }

    /// The sessions that the next transmission goes to.
    pub(super) fn targets(&self, entry: &Entry) -> Vec<(Id, &Known)> {
        match &entry.to {
            To::Login { device, .. } => self.sessions.newest(&entry.user, device).into_iter().collect(),
            To::User => self.sessions.newest_of_each(&entry.user),
        }
    }

    fn transmit(&mut self, id: Id, now: Millis) {
        let Some(entry) = self.pushes.get(id) else { return };
        let targets: Vec<_> = self
            .targets(entry)
            .into_iter()
            .map(|(_, known)| (known.session.comet.clone(), known.conn.clone(), self.login_of(known).clone()))
            .collect();
        let entry = self.pushes.get_mut(id).expect("found above");
        let Some(order) = entry.order.as_deref() else { return };
        let Some((frame, trace)) = frame(order, entry.seq) else { return };
        entry.tries += 1;
        entry.begun += 1;
        entry.last_sent = Some(now);
        entry.urgent = false;
        for (comet, conn, login) in targets {
            entry.sent_to.push((entry.begun, conn.clone()));
            if entry.at_end == AtEnd::Inbox {
                entry.login_tries(&login);
            }
            let item = CometItem {
                partition: self.partition,
                epoch: self.epoch,
                user: entry.user.clone(),
                conn_id: conn,
                order: frame.clone(),
                trace,
            };
            self.out.push(Action::Send { comet, item: Box::new(item) });
        }
        let attempt = entry.tries;
        self.note(Fact::Transmitted { attempt });
    }

    fn enter_inbox(&mut self, id: Id, now: Millis) {
        if self.load.inbox >= self.rules.inbox_max() {
            return self.settle(id, Outcome::InboxFull, None, now);
        }
        let limit = now.saturating_add(millis(self.rules.inbox_max_age));
        let Some(entry) = self.pushes.get_mut(id) else { return };
        entry.inbox = true;
        (entry.tries, entry.last_sent, entry.urgent) = (0, None, false);
        entry.sent_to.clear();
        entry.expires = entry.expires.min(limit);
        let (user, place) = (entry.user.clone(), (entry.seq, id));
        self.load.inbox += 1;
        self.note(Fact::Inboxed);
        self.user(&user, now).inbox.insert(place);
        self.bound_inbox(&user, now);
    }

    // The oldest go; the one that just came may be among them.
    fn bound_inbox(&mut self, user: &pushmesh_protocol::UserId, now: Millis) {
        while let Some(user) = self.users.get(user).filter(|user| user.inbox.len() > self.rules.inbox_max_per_user)
            && let Some((_, oldest)) = user.inbox.first().copied()
        {
            self.settle(oldest, Outcome::InboxFull, None, now);
        }
    }

    fn leave_inbox(&mut self, id: Id) {
        let Some(entry) = self.pushes.get_mut(id) else { return };
        entry.inbox = false;
        self.load.inbox -= 1;
        let place = (entry.seq, id);
        if let Some(user) = self.users.get_mut(&entry.user) {
            user.inbox.remove(&place);
        }
    }

    fn keep(&mut self, id: Id, noted: Noted, now: Millis) {
        let Some(entry) = self.pushes.get_mut(id) else { return };
        let raised = noted.tries > entry.tries || noted.inbox;
        let at = if raised { now } else { entry.last_sent.unwrap_or(now) };
        let Some(pending) = entry.pending(noted, at) else { return };
        entry.busy = true;
        entry.noted = Some(noted);
        self.effect(Effect::Keep { push: id, pending: Box::new(pending) });
    }

    pub(super) fn fetch(&mut self, id: Id) {
        let Some(entry) = self.pushes.get_mut(id) else { return };
        entry.busy = true;
        let (user, push) = (entry.user.clone(), entry.id);
        self.effect(Effect::Fetch { push: id, user, id: push });
    }

    /// Forgets the content of a push that waits and stands in `pending`: of the inbox always, else when much is held.
    pub(super) fn lighten(&mut self, id: Id) {
        let crowded = self.load.in_hand * 2 >= self.rules.pushes_max || self.load.bytes * 2 >= self.rules.bytes_max;
        let Some(entry) = self.pushes.get(id) else { return };
        let kept = entry.stream.is_none() && entry.noted.is_some() && !entry.busy && entry.ended.is_none();
        let waits = entry.inbox || (crowded && self.targets(entry).is_empty());
        if kept && waits && entry.order.is_some() {
            self.load.in_hand -= 1;
            self.load.bytes -= entry.bytes_in_hand();
            self.pushes.get_mut(id).expect("found above").order = None;
        }
    }

    pub(super) fn arm(&mut self, id: Id, until: Millis) {
        let Some(entry) = self.pushes.get_mut(id) else { return };
        let old = entry.timer.replace(self.wheel.insert(until, Timer::Push(id)));
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }
}

// What a client sees of an order.
fn frame(order: &PushOrder, seq: u64) -> Option<(CometOrder, Option<pushmesh_protocol::TraceContext>)> {
    match order {
        PushOrder::Deliver(delivery) => {
            let body = match &delivery.body {
                Body::Call(call) => PushBody::Call(call.clone()),
                Body::Message(message) => PushBody::Message(message.clone()),
            };
            let push = frame::Push { id: delivery.id, seq, body, at: delivery.at };
            Some((CometOrder::Push(push), delivery.trace))
        }
        PushOrder::Withdraw(ended) => {
            let (id, ends, at) = (ended.id, ended.push, ended.at);
            let (kind, call_id) = (ended.kind.clone(), ended.call_id.clone());
            Some((CometOrder::CallEnded(frame::CallEnded { id, seq, ends, kind, call_id, at }), ended.trace))
        }
        PushOrder::LoginEnded(_) => None,
    }
}
