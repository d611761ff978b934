//! Which login a session is in now: written beside it, where that is not the one it began with.
//!
//! A push kind knows logins from LOGIN, whose records are gone once they are read; its next owner knows them from `sess`
//! alone. What the one said of the end of a login by a record, in PUSH, is therefore written for the other before the
//! message is acknowledged; there is one key for each session at most, and only where a record came between.

use std::collections::HashSet;

use pushmesh_protocol::{
    ConnId, LoginId, UserId,
    message::{EndedBy, Millis, SessionLogin},
};

use super::{Desk, Effect};
use crate::sessions::Known;

impl Desk {
    /// A record ended a login: the message of PUSH that says so waits until it stands beside each session it concerns.
    pub(super) fn ended_by(&mut self, user: &UserId, login: &LoginId, by: &EndedBy, sequence: u64, now: Millis) {
        self.adopt_standing(user);
        self.user(user, now).ended.note(login, by);
        let concerned: Vec<ConnId> = self.sessions.of_user(user).map(|(_, known)| known.conn.clone()).collect();
        for conn in concerned {
            if self.wanted(user, &conn).is_some() {
                self.logins.entry(user, &conn).waiting.push(sequence);
                self.hold(sequence);
            }
        }
        self.step_logins(user);
        // What waits for his next login may have got it, on a connection that stands.
        let waiting: Vec<_> =
            self.users.get(user).into_iter().flat_map(|user| &user.inbox).map(|(_, push)| *push).collect();
        for push in waiting {
            self.step(push, now);
        }
    }

    /// The login that a session is in.
    pub(super) fn login_of<'a>(&'a self, known: &'a Known) -> &'a LoginId {
        let began = &known.session.login_id;
        self.users.get(&known.user).map_or(began, |user| user.ended.current(began))
    }

    /// A key beside a session was put, here or by an owner before.
    pub(super) fn login_stands(&mut self, user: &UserId, conn: &ConnId, login: SessionLogin, revision: u64) {
        self.logins.put(user, conn, login, revision);
        self.step_logins(user);
    }

    pub(super) fn login_gone(&mut self, user: &UserId, conn: &ConnId, revision: u64) {
        self.logins.gone(user, conn, revision);
        self.step_logins(user);
    }

    /// A write came back: with its revision, or refused because the key is not what it was thought to be. Then the watch
    /// tells, or has told already.
    pub(super) fn login_kept(&mut self, user: &UserId, conn: &ConnId, written: Written) {
        let Written { login, over, revision, holds } = written;
        let kept = self.logins.entry(user, conn);
        kept.busy = false;
        match revision {
            Some(revision) => {
                self.logins.put(user, conn, *login, revision);
                holds.into_iter().for_each(|sequence| self.unhold(sequence));
            }
            None => {
                kept.waiting.extend(holds);
                if kept.says.as_ref().map(|(_, revision)| *revision) == over {
                    return;
                }
            }
        }
        self.step_logins(user);
    }

    pub(super) fn login_purged(&mut self, user: &UserId, conn: &ConnId, revision: u64) {
        self.logins.entry(user, conn).busy = false;
        self.login_gone(user, conn, revision);
    }

    /// All users': once the sessions are known.
    pub(super) fn step_all_logins(&mut self) {
        // A session may have been seen meanwhile whose login has ended, and beside which nothing stands yet.
        let ended = self.users.iter().filter(|(_, user)| !user.ended.is_empty()).map(|(user, _)| user.clone());
        let all: HashSet<UserId> = ended.chain(self.logins.users()).collect();
        for user in all {
            self.step_logins(&user);
        }
    }

    /// Does what is due for the keys of a user's logins.
    ///
    /// Everything that changes one of them, or a session, ends here: it looks at them as they stand.
    pub(super) fn step_logins(&mut self, user: &UserId) {
        let nothing =
            self.logins.of_user(user).is_empty() && self.users.get(user).is_none_or(|user| user.ended.is_empty());
        if nothing || !self.ready || !self.sessions_known {
            return;
        }
        self.adopt_standing(user);
        let mut conns: Vec<ConnId> = self.sessions.of_user(user).map(|(_, known)| known.conn.clone()).collect();
        let gone = self.logins.of_user(user).iter().map(|kept| kept.conn.clone());
        conns.extend(gone.filter(|conn| self.sessions.find(user, conn).is_none()).collect::<Vec<_>>());
        for conn in conns {
            self.step_login(user, conn);
        }
        self.logins.tidy(user);
    }

    // What stands in `sess` is not forgotten, however much has ended since.
    fn adopt_standing(&mut self, user: &UserId) {
        let standing = self.logins.of_user(user).iter().filter_map(|kept| kept.says.as_ref());
        let mut standing = standing.peekable();
        if standing.peek().is_some() {
            let ended = &mut self.users.entry(user.clone()).or_default().ended;
            standing.for_each(|(says, _)| ended.adopt(says));
        }
    }

    fn step_login(&mut self, user: &UserId, conn: ConnId) {
        if self.logins.get(user, &conn).is_some_and(|kept| kept.busy) {
            return;
        }
        if let Some(login) = self.wanted(user, &conn) {
            let kept = self.logins.entry(user, &conn);
            kept.busy = true;
            let over = kept.says.as_ref().map(|(_, revision)| *revision);
            let written =
                Written { login: Box::new(login), over, revision: None, holds: std::mem::take(&mut kept.waiting) };
            return self.effect(Effect::KeepLogin { user: user.clone(), conn, written });
        }
        let Some(kept) = self.logins.get(user, &conn) else { return };
        let orphan = kept.says.as_ref().filter(|_| self.sessions.find(user, &conn).is_none());
        let orphan = orphan.filter(|(says, _)| !self.awaits_heir(user, &says.began));
        let revision = orphan.map(|(_, revision)| *revision);
        let kept = self.logins.entry(user, &conn);
        let waiting = std::mem::take(&mut kept.waiting);
        kept.busy = revision.is_some();
        waiting.into_iter().for_each(|sequence| self.unhold(sequence));
        if let Some(revision) = revision {
            self.effect(Effect::PurgeLogin { user: user.clone(), conn, revision });
        }
    }

    /// What is to be written beside a session: what became of its login, where the key does not say so yet.
    fn wanted(&self, user: &UserId, conn: &ConnId) -> Option<SessionLogin> {
        let session = &self.sessions.get(self.sessions.find(user, conn)?)?.session;
        let by = self.users.get(user)?.ended.of(&session.login_id)?;
        match self.logins.get(user, conn).and_then(|kept| kept.says.as_ref()) {
            Some((says, _)) if says.by.sequence >= by.sequence => return None,
            None if by.current() == Some(&session.login_id) => return None,
            _ => {}
        }
        let (began, device, since) = (session.login_id.clone(), session.device.clone(), session.since);
        Some(SessionLogin { began, device, since, by: by.clone() })
    }

    /// Whether another connection goes on with this login, whose own word is not written yet.
    fn awaits_heir(&self, user: &UserId, began: &LoginId) -> bool {
        let mut heirs = self.sessions.of_user(user).filter(|(_, known)| known.session.login_id == *began);
        heirs.any(|(_, heir)| self.wanted(user, &heir.conn).is_some())
    }
}

/// A write of one of these keys.
#[derive(Debug)]
pub struct Written {
    pub login: Box<SessionLogin>,
    /// The revision that it was to be written over; `None`: where nothing is.
    pub over: Option<u64>,
    /// What came of it.
    pub revision: Option<u64>,
    /// Messages of PUSH that wait for it.
    pub holds: Vec<u64>,
}
