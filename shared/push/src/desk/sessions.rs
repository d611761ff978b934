//! What the bucket `sess` and the members say: sessions, the logins they are in, and the comets that hold them.

use pushmesh_protocol::{
    ConnId, LoginId, UserId,
    message::{Millis, SessionLogin},
};

use super::{
    Comets, Desk, Effects, SessionNews,
    presence::{SessionVerdict, Stands},
};

impl Desk {
    pub(super) fn session(&mut self, news: SessionNews, now: Millis, effects: &mut Effects) {
        match news {
            SessionNews::Put { user, conn, session } => {
                self.resync.saw_session(&user, &conn);
                let (_, presence) = self.roll.presence_mut(&user);
                let before = presence.logins().len();
                // While loading, the look-up of all logins that follows is theirs too.
                let verdict = presence.session(conn, &session, &self.comets, !self.serving, now);
                // What begins is the login that it is in now.
                let login = presence.in_place_of(&session.login_id).clone();
                self.logins = self.logins + presence.logins().len() - before;
                self.session_begins(&user, login, verdict, now, effects);
            }
            SessionNews::Gone { user, conn } => {
                self.resync.saw_session(&user, &conn);
                let Some((ix, presence)) = self.roll.presence_of(&user) else { return };
                let ended = presence.session_gone(&conn, &self.comets);
                self.logins -= usize::from(ended.is_some());
                effects.orders.extend(ended.map(|login| self.login_ended(&user, login, None, now)));
                self.roll.tidy(ix);
            }
            SessionNews::Stands { user, conn, login } => {
                self.resync.saw_standing(&user, &conn);
                self.stands(&user, conn, login, now, effects);
            }
            SessionNews::StandsNoMore { user, conn } => {
                self.resync.saw_standing(&user, &conn);
                let Some((ix, presence)) = self.roll.presence_of(&user) else { return };
                presence.stands_no_more(&conn);
                self.roll.tidy(ix);
            }
            SessionNews::Restarted => self.resync.sessions_restarted(),
            SessionNews::Current => {
                for (user, conn) in self.resync.sessions_missing(&self.roll) {
                    self.session(SessionNews::Gone { user, conn }, now, effects);
                }
                for (user, conn) in self.resync.standing_missing(&self.roll) {
                    self.session(SessionNews::StandsNoMore { user, conn }, now, effects);
                }
            }
        }
    }

    fn session_begins(
        &mut self,
        user: &UserId,
        login: LoginId,
        verdict: SessionVerdict,
        now: Millis,
        effects: &mut Effects,
    ) {
        let replaced = match verdict {
            SessionVerdict::Known => return,
            SessionVerdict::Superseded { by } => {
                self.remember_end(user, now);
                return effects.orders.push(self.login_ended(user, login, Some(by), now));
            }
            SessionVerdict::Begins { replaced } => replaced,
        };
        effects.orders.extend(replaced.map(|older| self.login_ended(user, older, None, now)));
        self.await_record(user, login, now);
    }

    /// Its record may still come; if not, it is told by itself.
    fn await_record(&mut self, user: &UserId, login: LoginId, now: Millis) {
        if self.serving {
            let due = now + self.rules.session_grace.as_millis() as Millis;
            self.unreported.push_back((due, user.clone(), login));
        }
    }

    fn stands(&mut self, user: &UserId, conn: ConnId, login: SessionLogin, now: Millis, effects: &mut Effects) {
        let (_, presence) = self.roll.presence_mut(user);
        let before = presence.logins().len();
        let Stands { ended, begins } = presence.stands(conn, login, !self.serving);
        self.logins = self.logins + presence.logins().len() - before;
        // While loading, what records ended is said by the look-up of all logins that follows.
        if let Some((login, by)) = ended.filter(|(_, by)| self.serving || by.is_none()) {
            effects.orders.push(self.login_ended(user, login, by, now));
        }
        if let Some(login) = begins {
            self.await_record(user, login, now);
        }
    }

    /// Other comets are heard than before: a login that timed out with an unheard one may be back.
    pub(super) fn heard(&mut self, comets: Comets, now: Millis, effects: &mut Effects) {
        if self.comets == comets {
            return;
        }
        self.comets = comets;
        let awaiting = self.roll.present().filter(|(_, presence)| presence.awaits_a_comet());
        for user in awaiting.map(|(user, _)| user.clone()).collect::<Vec<_>>() {
            let Some((_, presence)) = self.roll.presence_of(&user) else { continue };
            let before = presence.logins().len();
            let verdicts = presence.heard_again(&self.comets, now);
            self.logins = self.logins + presence.logins().len() - before;
            for (login, verdict) in verdicts {
                self.session_begins(&user, login, verdict, now, effects);
            }
        }
    }
}
