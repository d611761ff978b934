//! What comes in: orders from PUSH, keys from `pending`, and comets' answers.

use pushmesh_protocol::{
    ConnId, DeviceId, Kind, LoginId, PushId, UserId,
    message::{AckOutcome, LoginEnded, Millis, Pending, PushOrder, Source, Withdrawal},
};

use super::{
    Action, Desk, Fact,
    entry::{Entry, Outcome, To},
    millis,
};
use crate::slab::Id;

impl Desk {
    pub(super) fn order(
        &mut self,
        sequence: u64,
        order: PushOrder,
        stored_at: Millis,
        delivered_before: bool,
        now: Millis,
    ) {
        // Whoever was given it may have sent it, right after it was stored.
        let sent_at = delivered_before.then_some(stored_at.min(now));
        match order {
            PushOrder::Deliver(delivery) => {
                self.tell_older_epoch(delivery.source.as_ref());
                let user = delivery.user.clone();
                if self.is_repeated(delivery.id, &user, sequence) {
                    return;
                }
                let order = PushOrder::Deliver(delivery);
                let Some(entry) = Entry::of_stream(order, sequence, sent_at, self.withdrawal_lifetime()) else {
                    return;
                };
                self.accept(entry, now);
            }
            PushOrder::Withdraw(withdrawal) => self.withdraw(withdrawal, sequence, sent_at, now),
            PushOrder::LoginEnded(ended) => self.login_ended(&ended, sequence, now),
        }
    }

    fn accept(&mut self, entry: Entry, now: Millis) -> Id {
        let ended = match &entry.to {
            To::Login { login, device, kind: Some(kind) } => {
                self.is_over(&entry.user, login, device, kind, entry.made_at)
            }
            _ => false,
        };
        let id = self.insert(entry, now);
        if ended {
            self.settle(id, Outcome::Expired, None, now);
        } else {
            self.note_reconnect_since_last(id);
            self.step(id, now);
        }
        id
    }

    /// Whether a login that ended in a kind stays so for what was made at `made_at`.
    ///
    /// What its kind makes of it after its end says that it goes on: its comet is heard again, or an owner that came later
    /// knows the device by its session alone, whatever login that began with. Unless nobody is there.
    fn is_over(&self, user: &UserId, login: &LoginId, device: &DeviceId, kind: &Kind, made_at: Millis) -> bool {
        let ended = self.users.get(user).and_then(|user| user.settled.ended_at(login, kind));
        ended.is_some_and(|ended| made_at <= ended || self.sessions.newest(user, device).is_none())
    }

    fn insert(&mut self, entry: Entry, now: Millis) -> Id {
        let (push, user, bytes) = (entry.id, entry.user.clone(), entry.bytes_in_hand());
        let (seq, inbox) = (entry.seq, entry.inbox);
        self.load.pushes += 1;
        self.load.inbox += usize::from(entry.inbox);
        self.load.in_hand += 1;
        self.load.bytes += bytes;
        let id = self.pushes.insert(entry);
        self.by_id.insert(push, id);
        let user = self.user(&user, now);
        user.pushes.insert((seq, id));
        if inbox {
            user.inbox.insert((seq, id));
        }
        id
    }

    // The same push again: from an outage of its publisher, from a new owner of its partition, from a redelivery.
    fn is_repeated(&mut self, push: PushId, user: &UserId, sequence: u64) -> bool {
        if let Some(known) = self.by_id.get(&push).and_then(|id| self.pushes.get(*id)) {
            if known.stream != Some(sequence) {
                self.release(sequence);
            }
        } else if self.users.get(user).is_some_and(|user| user.settled.contains(push)) {
            self.release(sequence);
        } else {
            return false;
        }
        self.note(Fact::Duplicate);
        true
    }

    fn withdraw(&mut self, withdrawal: Withdrawal, sequence: u64, sent_at: Option<Millis>, now: Millis) {
        self.tell_older_epoch(withdrawal.source.as_ref());
        let user = withdrawal.user.clone();
        if self.is_repeated(withdrawal.id, &user, sequence) {
            return;
        }
        let ends = self.by_id.get(&withdrawal.push).copied();
        let sent = ends.and_then(|id| self.pushes.get(id)).is_some_and(|entry| entry.tries > 0 || entry.begun > 0);
        match ends {
            Some(id) => self.settle(id, Outcome::Withdrawn, Some(sequence), now),
            // It may still come: then it is settled already.
            None => self.user(&user, now).settled.remember(Some(&withdrawal.login_id), withdrawal.push),
        }
        let Withdrawal { login_id, device, kind, at, .. } = &withdrawal;
        let ended = self.is_over(&user, login_id, device, kind, *at);
        let told = sent || sent_at.is_some() || self.sessions.knows_device(&user, &withdrawal.device);
        let order = PushOrder::Withdraw(withdrawal);
        match Entry::of_stream(order, sequence, sent_at, self.withdrawal_lifetime()) {
            Some(entry) if told && !ended => {
                self.accept(entry, now);
            }
            _ => {
                self.note(Fact::NothingToWithdraw);
                self.release(sequence);
            }
        }
    }

    fn login_ended(&mut self, ended: &LoginEnded, sequence: u64, now: Millis) {
        let user = self.user(&ended.user, now);
        user.settled.end(ended.login_id.clone(), ended.kind.clone(), ended.at);
        for id in user.push_ids() {
            let Some(Entry { to: To::Login { login, kind: Some(kind), .. }, .. }) = self.pushes.get(id) else {
                continue;
            };
            if *login == ended.login_id && *kind == ended.kind {
                self.settle(id, Outcome::Expired, Some(sequence), now);
            }
        }
        if let Some(by) = &ended.by {
            self.ended_by(&ended.user, &ended.login_id, by, sequence, now);
        }
        self.release(sequence);
    }

    /// A key of `pending`, read before anything is served.
    pub(super) fn loaded(&mut self, pending: Pending, now: Millis) {
        let inbox_max_age = millis(self.rules.inbox_max_age);
        let Some(entry) = Entry::of_pending(pending, self.withdrawal_lifetime(), inbox_max_age) else { return };
        if self.by_id.contains_key(&entry.id) {
            return;
        }
        let (push, user) = (entry.id, entry.user.clone());
        let ends = match entry.order.as_deref() {
            Some(PushOrder::Withdraw(withdrawal)) => Some(withdrawal.push),
            _ => None,
        };
        let id = self.insert(entry, now);
        // An earlier owner may have stopped between settling the one and purging it.
        if let Some(ends) = ends {
            match self.by_id.get(&ends).copied() {
                Some(withdrawn) => self.settle(withdrawn, Outcome::Withdrawn, None, now),
                None => self.user(&user, now).settled.remember(None, ends),
            }
        } else if self.users.get(&user).is_some_and(|user| user.settled.contains(push)) {
            self.settle(id, Outcome::Withdrawn, None, now);
        }
        self.lighten(id);
    }

    pub(super) fn answer(&mut self, user: &UserId, conn: &ConnId, push: PushId, outcome: AckOutcome, now: Millis) {
        let id = self.by_id.get(&push).copied().filter(|id| self.pushes.get(*id).is_some_and(|e| e.user == *user));
        match outcome {
            AckOutcome::Acked => match id {
                Some(id) => self.settle(id, Outcome::Acked, None, now),
                // Of a push that an earlier owner sent, and that is still to come from PUSH; or long settled.
                None => {
                    let known = self.sessions.find(user, conn).and_then(|session| self.sessions.get(session));
                    let Some(login) = known.map(|known| self.login_of(known).clone()) else { return };
                    let user = self.user(user, now);
                    if !user.settled.contains(push) {
                        user.settled.remember(Some(&login), push);
                    }
                }
            },
            AckOutcome::Gone => {
                self.note(Fact::Gone);
                let change = self.sessions.deny(user, conn, now);
                self.changed(change, now);
                if let Some(id) = id
                    && self.pushes.get_mut(id).is_some_and(|entry| entry.take_back(conn))
                {
                    self.step(id, now);
                }
            }
            AckOutcome::Fenced => self.note(Fact::Fenced),
        }
    }

    /// A session that began after the last transmission, whose connection an earlier owner knew, is a reconnect.
    pub(super) fn note_reconnect_since_last(&mut self, id: Id) {
        let Some(entry) = self.pushes.get(id) else { return };
        let Some(last) = entry.last_sent.filter(|_| entry.sent_to.is_empty()) else { return };
        let newer = self.targets(entry).iter().any(|(_, known)| known.session.since > last);
        if let Some(entry) = self.pushes.get_mut(id) {
            entry.urgent |= newer;
        }
    }

    // An older epoch's push is delivered all the same: in a stream, the ids alone decide.
    fn tell_older_epoch(&mut self, source: Option<&Source>) {
        let Some(Source { service, epoch }) = source else { return };
        match self.sources.get_mut(service) {
            Some(newest) if *newest > *epoch => self.note(Fact::OldEpoch { service: service.clone() }),
            Some(newest) => *newest = *epoch,
            None => {
                self.sources.insert(service.clone(), *epoch);
            }
        }
    }

    /// A message of PUSH has served, unless purges have to be stored first.
    pub(super) fn release(&mut self, sequence: u64) {
        match self.holds.get_mut(&sequence) {
            Some(hold) => hold.released = true,
            None => self.out.push(Action::Ack { sequence }),
        }
    }

    pub(super) fn hold(&mut self, sequence: u64) {
        self.holds.entry(sequence).or_default().purges += 1;
    }

    pub(super) fn unhold(&mut self, sequence: u64) {
        let Some(hold) = self.holds.get_mut(&sequence) else { return };
        hold.purges -= 1;
        if hold.purges == 0 && self.holds.remove(&sequence).is_some_and(|hold| hold.released) {
            self.out.push(Action::Ack { sequence });
        }
    }

    fn withdrawal_lifetime(&self) -> Millis {
        millis(self.rules.withdrawal_lifetime)
    }
}
