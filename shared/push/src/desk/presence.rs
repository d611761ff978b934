//! One user's logins and sessions, and the rules by which logins begin and end. Pure.
//!
//! A device has at most one login here. Records may come twice, late, or after what they precede; sessions are seen
//! by a watch of their own, before or after the records of their logins.

use pushmesh_protocol::{
    ConnId, DeviceId, LoginId,
    message::{Millis, OfflineCause, Session},
};

/// Most ends remembered of one user: beyond it the oldest is forgotten.
const ENDS_MAX: usize = 16;

/// A login that is online.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Login {
    pub(crate) id: LoginId,
    pub(crate) device: DeviceId,
    pub(crate) at: Millis,
    /// Of its record in LOGIN; `None` while only its session was seen.
    sequence: Option<u64>,
    /// Whether its active calls have been looked up.
    pub(crate) told: bool,
    /// A timeout was reported while a session stood: it ends when the last one goes.
    timed_out: bool,
}

#[derive(Debug, Clone)]
struct Seat {
    conn: ConnId,
    login: LoginId,
    device: DeviceId,
    live: bool,
}

/// An end that has been applied, so that what it overtook is recognised.
#[derive(Debug, Clone)]
struct End {
    login: Option<LoginId>,
    device: Option<DeviceId>,
    at: Millis,
    sequence: u64,
    timeout: bool,
    noted: Millis,
}

/// An `online` record, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Online {
    pub(crate) login: LoginId,
    pub(crate) device: DeviceId,
    pub(crate) at: Millis,
    pub(crate) sequence: u64,
}

/// An `offline` record, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Offline {
    pub(crate) login: Option<LoginId>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) cause: OfflineCause,
    pub(crate) at: Millis,
    pub(crate) sequence: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) enum OnlineVerdict {
    /// Noted: look up its calls. Ends the device's older login, if there was one.
    Begins { replaced: Option<LoginId> },
    /// Something newer of this login or device has been applied already.
    Overtaken,
    /// Too old to be told, and nobody is there.
    Stale,
}

#[derive(Debug, PartialEq)]
pub(crate) enum SessionVerdict {
    /// Its login is noted, or has ended, or is older than the device's login.
    Known,
    /// A login that no record has told of yet.
    Begins { replaced: Option<LoginId> },
}

#[derive(Debug, Default)]
pub(crate) struct Presence {
    logins: Vec<Login>,
    seats: Vec<Seat>,
    ends: Vec<End>,
}

impl Presence {
    pub(crate) fn logins(&self) -> &[Login] {
        &self.logins
    }

    pub(crate) fn login_mut(&mut self, id: &LoginId) -> Option<&mut Login> {
        self.logins.iter_mut().find(|login| login.id == *id)
    }

    pub(crate) fn conns(&self) -> impl Iterator<Item = &ConnId> {
        self.seats.iter().map(|seat| &seat.conn)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.logins.is_empty() && self.seats.is_empty() && self.ends.is_empty()
    }

    /// Forgets ends noted before `before`.
    pub(crate) fn forget_ends(&mut self, before: Millis) {
        self.ends.retain(|end| end.noted >= before);
        shrink(&mut self.ends);
    }

    /// `stale_before`: an older record begins no login of a device without session.
    pub(crate) fn online(&mut self, online: Online, stale_before: Millis) -> OnlineVerdict {
        if self.ends.iter().any(|end| end.overtook(&online)) {
            return OnlineVerdict::Overtaken;
        }
        if online.at < stale_before && !self.seats.iter().any(|seat| seat.device == online.device) {
            return OnlineVerdict::Stale;
        }
        let Some(noted) = self.logins.iter_mut().find(|login| login.device == online.device) else {
            self.note(online.login, online.device, online.at, Some(online.sequence), true);
            return OnlineVerdict::Begins { replaced: None };
        };
        if noted.id == online.login {
            // The other door's record, or the same one again: its pushes have the same ids.
            noted.sequence = noted.sequence.max(Some(online.sequence));
            noted.told = true;
            return OnlineVerdict::Begins { replaced: None };
        }
        let overtaken = match noted.sequence {
            Some(sequence) => online.sequence < sequence,
            None => online.at < noted.at,
        };
        if overtaken {
            return OnlineVerdict::Overtaken;
        }
        let older = noted.id.clone();
        let replaced = self.forget(&older);
        self.note(online.login, online.device, online.at, Some(online.sequence), true);
        OnlineVerdict::Begins { replaced }
    }

    /// The logins that this record ends, or ended when it came before.
    pub(crate) fn offline(&mut self, offline: Offline, now: Millis) -> Vec<LoginId> {
        let timeout = offline.cause == OfflineCause::Timeout;
        let ended = match &offline.login {
            Some(id) => self.end_one(id, &offline, timeout),
            None => self.end_older(&offline, timeout),
        };
        // A timeout that a live session outlived has ended nothing, and overtook nothing.
        let outlived = timeout && offline.login.is_some() && ended.is_empty();
        if !outlived {
            if self.ends.len() == ENDS_MAX {
                self.ends.remove(0);
            }
            let Offline { login, device, at, sequence, .. } = offline;
            self.ends.push(End { login, device, at, sequence, timeout, noted: now });
        }
        ended
    }

    /// A session was put: a new one, or a new word of a known one.
    pub(crate) fn session(&mut self, conn: ConnId, session: &Session, told: bool) -> SessionVerdict {
        let live = session.left.is_none();
        let seat = Seat { conn, login: session.login_id.clone(), device: session.device.clone(), live };
        match self.seats.iter_mut().find(|known| known.conn == seat.conn) {
            Some(known) => *known = seat,
            None => self.seats.push(seat),
        }
        if self.logins.iter().any(|login| login.id == session.login_id) {
            return SessionVerdict::Known;
        }
        // Only a timeout is undone by a live session: it may have been resumed at the last moment.
        let ended = |end: &End| end.login.as_ref() == Some(&session.login_id) && !(end.timeout && live);
        if self.ends.iter().any(ended) {
            return SessionVerdict::Known;
        }
        let noted = self.logins.iter().find(|login| login.device == session.device);
        if noted.is_some_and(|noted| session.since < noted.at) {
            return SessionVerdict::Known;
        }
        let replaced = noted.map(|noted| noted.id.clone()).and_then(|id| self.forget(&id));
        self.note(session.login_id.clone(), session.device.clone(), session.since, None, told);
        SessionVerdict::Begins { replaced }
    }

    /// A session is gone. Returns the login that ended by it: one that had timed out before.
    pub(crate) fn session_gone(&mut self, conn: &ConnId) -> Option<LoginId> {
        let at = self.seats.iter().position(|seat| seat.conn == *conn)?;
        let seat = self.seats.swap_remove(at);
        shrink(&mut self.seats);
        let login = self.logins.iter().find(|login| login.id == seat.login)?;
        let over = login.timed_out && !self.live(&login.device);
        over.then_some(seat.login).and_then(|id| self.forget(&id))
    }

    fn note(&mut self, id: LoginId, device: DeviceId, at: Millis, sequence: Option<u64>, told: bool) {
        self.logins.reserve_exact(1);
        self.logins.push(Login { id, device, at, sequence, told, timed_out: false });
    }

    fn forget(&mut self, id: &LoginId) -> Option<LoginId> {
        let at = self.logins.iter().position(|login| login.id == *id)?;
        let login = self.logins.swap_remove(at);
        shrink(&mut self.logins);
        Some(login.id)
    }

    fn live(&self, device: &DeviceId) -> bool {
        self.seats.iter().any(|seat| seat.live && seat.device == *device)
    }

    // The end of an unknown login is told too: an earlier owner may have known it, and a record that is said
    // again after a failure must be.
    fn end_one(&mut self, id: &LoginId, offline: &Offline, timeout: bool) -> Vec<LoginId> {
        if timeout && self.seats.iter().any(|seat| seat.live && seat.login == *id) {
            if let Some(login) = self.login_mut(id) {
                login.timed_out = true;
            }
            return Vec::new();
        }
        if let Some(login) = self.login_mut(id) {
            let newer = login.sequence.is_some_and(|sequence| sequence > offline.sequence);
            let device = login.device.clone();
            if newer {
                return Vec::new();
            }
            if timeout && self.live(&device) {
                return Vec::new();
            }
            self.forget(id);
        }
        vec![id.clone()]
    }

    fn end_older(&mut self, offline: &Offline, timeout: bool) -> Vec<LoginId> {
        let ends = |login: &Login| {
            let device = offline.device.as_ref().is_none_or(|device| *device == login.device);
            // Said in LOGIN after it: newer, whatever the clocks say.
            let newer = login.sequence.is_some_and(|sequence| sequence > offline.sequence);
            let same_instant = login.at == offline.at && login.sequence.is_some();
            device && !newer && (login.at < offline.at || same_instant)
        };
        let ended: Vec<LoginId> = self
            .logins
            .iter()
            .filter(|login| ends(login) && !(timeout && self.live(&login.device)))
            .map(|login| login.id.clone())
            .collect();
        for id in &ended {
            self.forget(id);
        }
        ended
    }
}

impl End {
    fn overtook(&self, online: &Online) -> bool {
        if self.sequence <= online.sequence {
            return false;
        }
        match &self.login {
            Some(login) => *login == online.login,
            None => self.device.as_ref().is_none_or(|device| *device == online.device) && online.at <= self.at,
        }
    }
}

// Most users have one login: what a rare crowd needed is given back.
fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 2 * list.len() {
        list.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::Instance;

    use super::*;

    fn online(login: &str, at: Millis, sequence: u64) -> Online {
        let (login, device) = (LoginId::new(login).unwrap(), DeviceId::new("phone").unwrap());
        Online { login, device, at, sequence }
    }

    fn offline(login: Option<&str>, cause: OfflineCause, at: Millis, sequence: u64) -> Offline {
        let login = login.map(|login| LoginId::new(login).unwrap());
        Offline { login, device: None, cause, at, sequence }
    }

    fn session(login: &str, since: Millis, left: Option<Millis>) -> Session {
        Session {
            login_id: LoginId::new(login).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            comet: Instance::new("comet-1").unwrap(),
            comet_epoch: 1,
            since,
            left,
        }
    }

    fn conn(name: &str) -> ConnId {
        ConnId::new(name).unwrap()
    }

    fn ids(presence: &Presence) -> Vec<&str> {
        presence.logins().iter().map(|login| login.id.as_str()).collect()
    }

    const BEGINS: OnlineVerdict = OnlineVerdict::Begins { replaced: None };

    #[test]
    fn online_again_ends_the_older_login_of_the_device_alone() {
        let mut presence = Presence::default();
        assert_eq!(presence.online(online("l1", 10, 1), 0), BEGINS);
        let tablet = Online { device: DeviceId::new("tablet").unwrap(), ..online("t1", 11, 2) };
        assert_eq!(presence.online(tablet, 0), BEGINS);
        let replaced = Some(LoginId::new("l1").unwrap());
        assert_eq!(presence.online(online("l2", 12, 3), 0), OnlineVerdict::Begins { replaced });
        assert_eq!(ids(&presence), ["t1", "l2"]);
        assert_eq!(presence.online(online("l1", 10, 1), 0), OnlineVerdict::Overtaken, "redelivered");
        assert_eq!(presence.online(online("l2", 12, 3), 0), BEGINS, "redelivered: the same pushes again");
    }

    #[test]
    fn an_older_offline_never_ends_a_newer_login() {
        let mut presence = Presence::default();
        presence.online(online("l1", 10, 1), 0);
        presence.online(online("l2", 20, 2), 0);
        assert_eq!(presence.offline(offline(Some("l1"), OfflineCause::Reported, 30, 3), 0).len(), 1);
        assert_eq!(presence.offline(offline(None, OfflineCause::Reported, 19, 4), 0), []);
        assert_eq!(presence.offline(offline(None, OfflineCause::Reported, 40, 1), 0), [], "an earlier record");
        assert_eq!(ids(&presence), ["l2"]);
        assert_eq!(presence.offline(offline(None, OfflineCause::Reported, 21, 5), 0).len(), 1);
        assert!(presence.logins().is_empty());
    }

    #[test]
    fn a_record_that_its_own_offline_overtook_begins_nothing() {
        let mut presence = Presence::default();
        presence.offline(offline(Some("l1"), OfflineCause::Logout, 20, 5), 100);
        assert_eq!(presence.online(online("l1", 10, 4), 0), OnlineVerdict::Overtaken);
        presence.offline(offline(None, OfflineCause::Reported, 30, 7), 100);
        assert_eq!(presence.online(online("l2", 25, 6), 0), OnlineVerdict::Overtaken);
        assert_eq!(presence.online(online("l3", 35, 6), 0), BEGINS, "begun after it");
        presence.forget_ends(101);
        assert_eq!(presence.ends.len(), 0);
    }

    #[test]
    fn an_old_record_of_an_absent_device_is_stale() {
        let mut presence = Presence::default();
        assert_eq!(presence.online(online("l1", 10, 1), 11), OnlineVerdict::Stale);
        presence.session(conn("c"), &session("l1", 10, None), false);
        assert_eq!(presence.online(online("l1", 10, 1), 11), BEGINS);
    }

    #[test]
    fn a_session_is_a_login_that_takes_its_sequence_from_its_record() {
        let mut presence = Presence::default();
        let begins = SessionVerdict::Begins { replaced: None };
        assert_eq!(presence.session(conn("c1"), &session("l1", 10, None), false), begins);
        assert_eq!(presence.online(online("l0", 9, 4), 0), OnlineVerdict::Overtaken, "by the clock");
        assert_eq!(presence.online(online("l1", 10, 5), 0), BEGINS);
        assert_eq!(presence.online(online("l0", 99, 4), 0), OnlineVerdict::Overtaken, "by its sequence");
        assert_eq!(presence.session(conn("c2"), &session("l0", 5, None), false), SessionVerdict::Known, "an old one");
        assert_eq!(ids(&presence), ["l1"]);
    }

    #[test]
    fn a_reported_end_stands_against_the_session() {
        let mut presence = Presence::default();
        presence.session(conn("c1"), &session("l1", 10, None), false);
        presence.offline(offline(Some("l1"), OfflineCause::Reported, 20, 1), 0);
        assert_eq!(presence.session(conn("c1"), &session("l1", 10, Some(30)), false), SessionVerdict::Known);
        assert!(presence.logins().is_empty());
    }

    #[test]
    fn a_timeout_ends_nothing_that_has_a_live_session() {
        let timeout = || offline(Some("l1"), OfflineCause::Timeout, 70, 2);
        // Resumed before the timeout came.
        let mut presence = Presence::default();
        presence.session(conn("old"), &session("l1", 10, Some(11)), false);
        presence.session(conn("new"), &session("l1", 10, None), false);
        assert_eq!(presence.offline(timeout(), 0), []);
        assert_eq!(presence.session_gone(&conn("old")), None);
        assert_eq!(ids(&presence), ["l1"]);
        // Resumed after it: the login is undone.
        let mut presence = Presence::default();
        presence.session(conn("old"), &session("l1", 10, Some(11)), false);
        assert_eq!(presence.offline(timeout(), 0).len(), 1);
        let begins = SessionVerdict::Begins { replaced: None };
        assert_eq!(presence.session(conn("new"), &session("l1", 10, None), false), begins);
    }

    #[test]
    fn a_timeout_of_a_silent_comet_ends_the_login_when_its_session_is_purged() {
        let mut presence = Presence::default();
        presence.session(conn("c"), &session("l1", 10, None), false);
        assert_eq!(presence.offline(offline(Some("l1"), OfflineCause::Timeout, 70, 2), 0), []);
        assert_eq!(presence.session_gone(&conn("c")), LoginId::new("l1").ok());
        assert!(presence.is_empty());
    }
}
