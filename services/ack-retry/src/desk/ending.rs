//! How a push ends, and what effects report back.

use pushmesh_protocol::message::{DeadReason, Millis};

use super::{
    Desk, Done, Effect, Fact,
    entry::{Outcome, To},
};
use crate::slab::Id;

impl Desk {
    /// Decides the outcome of a push: the first decision stands.
    ///
    /// `hold` is a message of PUSH that may only be acknowledged once nothing of the push is left.
    pub(super) fn settle(&mut self, id: Id, outcome: Outcome, hold: Option<u64>, now: Millis) {
        let Some(entry) = self.pushes.get_mut(id) else { return };
        if entry.ended.is_some() {
            return;
        }
        entry.ended = Some(outcome);
        entry.hold = hold;
        let timer = entry.timer.take();
        let place = (entry.seq, id);
        let (push, user, tries) = (entry.id, entry.user.clone(), entry.tries);
        let after = now.saturating_sub(entry.made_at);
        let login = match &entry.to {
            To::Login { login, .. } => Some(login.clone()),
            To::User => None,
        };
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
        if let Some(sequence) = hold {
            self.hold(sequence);
        }
        let known = self.user(&user, now);
        known.settled.remember(login.as_ref(), push);
        known.inbox.remove(&place);
        self.note(Fact::Settled { outcome, user, push, tries, after });
        self.finish(id);
    }

    // Leads an ended push out: dead letter, then its message or key, then its place here. Each effect comes back here.
    fn finish(&mut self, id: Id) {
        let Some(entry) = self.pushes.get_mut(id) else { return };
        let Some(outcome) = entry.ended.filter(|_| !entry.busy) else { return };
        let reason = match outcome {
            Outcome::Dead => Some(DeadReason::Unacknowledged),
            Outcome::InboxFull => Some(DeadReason::InboxFull),
            _ => None,
        };
        if let Some(reason) = reason.filter(|_| !entry.buried) {
            let Some(order) = entry.order.clone() else { return self.fetch(id) };
            entry.busy = true;
            let (push, user) = (entry.id, entry.user.clone());
            let detail = match reason {
                DeadReason::InboxFull => {
                    let (of_one, of_all) = (self.rules.inbox_max_per_user, self.rules.inbox_max());
                    format!("the user's inbox held {of_one} newer ones, or the partition's inboxes {of_all} others")
                }
                _ => format!("{} transmissions without an acknowledgement", entry.tries),
            };
            return self.effect(Effect::Bury { push: id, id: push, user, order, reason, detail });
        }
        let Some(entry) = self.remove(id) else { return };
        if let Some(sequence) = entry.stream {
            self.release(sequence);
        }
        if entry.noted.is_some() {
            self.effect(Effect::Forget { user: entry.user, id: entry.id, hold: entry.hold });
        } else if let Some(sequence) = entry.hold {
            self.unhold(sequence);
        }
    }

    fn remove(&mut self, id: Id) -> Option<super::Entry> {
        let entry = self.pushes.remove(id)?;
        self.by_id.remove(&entry.id);
        if let Some(user) = self.users.get_mut(&entry.user) {
            user.pushes.remove(&(entry.seq, id));
        }
        self.load.pushes -= 1;
        self.load.inbox -= usize::from(entry.inbox);
        self.load.in_hand -= usize::from(entry.order.is_some());
        self.load.bytes -= entry.bytes_in_hand();
        Some(entry)
    }

    pub(super) fn done(&mut self, done: Done, now: Millis) {
        match done {
            Done::Kept { push } => {
                let Some(entry) = self.pushes.get_mut(push) else { return };
                entry.busy = false;
                if let Some(sequence) = entry.stream.take() {
                    self.release(sequence);
                }
                self.go_on(push, now);
            }
            Done::Fetched { push, pending } => {
                let Some(entry) = self.pushes.get_mut(push) else { return };
                entry.busy = false;
                match pending {
                    Some(pending) => {
                        entry.order = Some(Box::new(pending.order));
                        let bytes = entry.bytes_in_hand();
                        self.load.in_hand += 1;
                        self.load.bytes += bytes;
                    }
                    // Somebody purged it: there is nothing left to send or to bury.
                    None => {
                        entry.buried = true;
                        entry.noted = None;
                        self.settle(push, Outcome::Expired, None, now);
                    }
                }
                self.go_on(push, now);
            }
            Done::Buried { push } => {
                let Some(entry) = self.pushes.get_mut(push) else { return };
                (entry.busy, entry.buried) = (false, true);
                self.finish(push);
            }
            Done::Forgotten { hold } => {
                if let Some(sequence) = hold {
                    self.unhold(sequence);
                }
            }
            Done::Reported { session, answer } => self.reported(session, answer, now),
            Done::SessionPurged { session, revision, purged } => {
                if !purged {
                    self.not_purged(session, revision);
                }
            }
            Done::LoginKept { user, conn, written } => self.login_kept(&user, &conn, written),
            Done::LoginPurged { user, conn, revision } => self.login_purged(&user, &conn, revision),
        }
    }

    fn go_on(&mut self, id: Id, now: Millis) {
        match self.pushes.get(id).map(|entry| entry.ended) {
            Some(Some(_)) => self.finish(id),
            Some(None) => self.step(id, now),
            None => {}
        }
    }
}
