//! Sessions that come, go, and take over from each other.

use pushmesh_protocol::{
    ConnId, UserId,
    frame::{Kick, KickReason},
    message::{CometItem, CometOrder, LoginAnswer, LoginReport, Millis, OfflineCause, ReportedEvent, Session},
};

use super::{Action, Desk, Effect, Fact, Timer, User, millis};
use crate::{
    logins::Ended,
    sessions::{Change, Known},
    slab::Id,
};

/// How long to wait before an end is reported again that login-ingest did not answer.
const REPORT_AGAIN: Millis = 1_000;

impl Desk {
    pub(super) fn session_put(&mut self, user: UserId, conn: ConnId, session: Session, revision: u64, now: Millis) {
        let change = self.sessions.put(user.clone(), conn.clone(), session, revision, now);
        self.changed(change, now);
        if let Some(id) = self.sessions.find(&user, &conn) {
            self.put_again(id);
        }
        self.step_logins(&user);
    }

    /// A snapshot is complete: what it did not mention is gone.
    pub(super) fn sessions_current(&mut self, now: Millis) {
        self.sessions_known = true;
        self.logins.caught_up();
        for known in self.sessions.caught_up() {
            self.session_ended(Some(known), now);
        }
        self.step_all_logins();
    }

    fn purge_session(&mut self, id: Id) {
        let Some(known) = self.sessions.get_mut(id).filter(|known| known.purging.is_none()) else { return };
        let revision = known.revision();
        known.purging = Some(revision);
        let (user, conn) = (known.user.clone(), known.conn.clone());
        self.effect(Effect::PurgeSession { session: id, user, conn, revision });
    }

    /// A session's key was not purged: it has been put since. How it stands then the watch tells, unless it has told.
    pub(super) fn not_purged(&mut self, id: Id, revision: u64) {
        let known = self.sessions.get_mut(id).filter(|known| known.purging == Some(revision));
        if let Some(known) = known {
            (known.purging, known.ending) = (None, false);
        }
    }

    // One that is over all the same ends as it stands now.
    fn put_again(&mut self, id: Id) {
        let Some(known) = self.sessions.get(id).filter(|known| known.purging.is_none() && !known.ending) else {
            return;
        };
        if known.kicked {
            self.purge_session(id);
        } else if !known.is_live() && known.timer.is_none() {
            self.session_absent(id);
        }
    }

    pub(super) fn changed(&mut self, change: Option<Change>, now: Millis) {
        match change {
            Some(Change::BecameLive(id)) => self.session_live(id, now),
            Some(Change::BecameAbsent(id)) => self.session_absent(id),
            None => {}
        }
    }

    fn session_live(&mut self, id: Id, now: Millis) {
        let Some(known) = self.sessions.get_mut(id) else { return };
        if let Some(timer) = known.timer.take() {
            self.wheel.cancel(timer);
        }
        if !self.ready {
            return;
        }
        let user = known.user.clone();
        self.replace_older(&user, now);
        self.wake(id, now);
    }

    // A push goes to a new session at once, and it counts. A session that was only unheard for a while is not new.
    fn wake(&mut self, id: Id, now: Millis) {
        let Some(known) = self.sessions.get(id).filter(|known| known.is_live()) else { return };
        let (conn, since) = (known.conn.clone(), known.session.since);
        let pushes = self.users.get(&known.user).map(User::push_ids).unwrap_or_default();
        for push in pushes {
            let Some(entry) = self.pushes.get(push) else { continue };
            let is_target = self.targets(entry).iter().any(|(target, _)| *target == id);
            let is_new = match entry.last_sent {
                Some(last) if entry.sent_to.is_empty() => since > last,
                _ => entry.sent_to.iter().all(|(_, to)| *to != conn),
            };
            if is_target && is_new {
                self.pushes.get_mut(push).expect("found above").urgent = true;
            }
            self.step(push, now);
        }
    }

    /// Only a second connection of a device closes the first.
    pub(super) fn replace_older(&mut self, user: &UserId, now: Millis) {
        let newest: Vec<_> =
            self.sessions.newest_of_each(user).into_iter().map(|(_, known)| known.session.device.clone()).collect();
        for device in newest {
            for older in self.sessions.superseded(user, &device) {
                let Some(known) = self.sessions.get(older) else { continue };
                let item = CometItem {
                    partition: self.partition,
                    epoch: self.epoch,
                    user: user.clone(),
                    conn_id: known.conn.clone(),
                    order: CometOrder::Kick(Kick { reason: KickReason::Replaced }),
                    trace: None,
                };
                let comet = known.session.comet.clone();
                self.sessions.kick(older, now);
                self.out.push(Action::Send { comet, item: Box::new(item) });
                self.purge_session(older);
                self.note(Fact::Kicked);
            }
        }
    }

    fn session_absent(&mut self, id: Id) {
        let Some(known) = self.sessions.get(id) else { return };
        let Some(since) = known.absent_since else { return };
        self.arm_session(id, since.saturating_add(millis(self.rules.left_after)));
    }

    fn arm_session(&mut self, id: Id, at: Millis) {
        let timer = self.wheel.insert(at, Timer::Session(id));
        let old = self.sessions.get_mut(id).and_then(|known| known.timer.replace(timer));
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }

    /// An absent session's time is over: its login ends, unless it goes on with another connection.
    pub(super) fn session_due(&mut self, id: Id, now: Millis) {
        if !self.ready {
            return self.arm_session(id, now + REPORT_AGAIN);
        }
        let left_after = millis(self.rules.left_after);
        let Some(known) = self.sessions.get(id) else { return };
        let nothing = Ended::default();
        let ended = self.users.get(&known.user).map_or(&nothing, |user| &user.ended);
        let ends_login = self.sessions.ends_login(id, ended);
        let login = ended.current(&known.session.login_id).clone();
        let Some(known) = self.sessions.get_mut(id) else { return };
        known.timer = None;
        let Some(since) = known.absent_since.filter(|_| !known.ending) else { return };
        if now < since.saturating_add(left_after) {
            return self.session_absent(id);
        }
        known.ending = true;
        if ends_login {
            let report = LoginReport {
                user: known.user.clone(),
                device: Some(known.session.device.clone()),
                login_id: Some(login),
                event: ReportedEvent::Offline(OfflineCause::Timeout),
                at: *known.reported_at.get_or_insert(now),
                trace: None,
            };
            self.effect(Effect::Report { session: id, report: Box::new(report) });
        } else {
            self.purge_session(id);
        }
    }

    /// The key is purged only once the report is stored, or never will be.
    pub(super) fn reported(&mut self, id: Id, answer: LoginAnswer, now: Millis) {
        let Some(known) = self.sessions.get_mut(id) else { return };
        known.ending = false;
        let live = known.is_live();
        match answer {
            LoginAnswer::Unknown { retry_after_ms, .. } => {
                if !live {
                    self.arm_session(id, now + Millis::from(retry_after_ms).max(REPORT_AGAIN));
                }
                return;
            }
            LoginAnswer::Accepted { .. } => self.note(Fact::TimedOut),
            LoginAnswer::Refused { field, reason } => self.note(Fact::ReportRefused { field, reason }),
        }
        // Heard again meanwhile: a timeout ends nothing that has a live session.
        if !live {
            if let Some(known) = self.sessions.get_mut(id) {
                known.ending = true;
            }
            self.purge_session(id);
        }
    }

    /// What waits for a session of this user may have to stop waiting.
    pub(super) fn session_ended(&mut self, known: Option<Known>, now: Millis) {
        let Some(known) = known else { return };
        if let Some(timer) = known.timer {
            self.wheel.cancel(timer);
        }
        let Some(user) = self.users.get_mut(&known.user) else { return };
        user.touched = now;
        for id in user.push_ids() {
            self.step(id, now);
        }
        self.step_logins(&known.user);
    }
}
