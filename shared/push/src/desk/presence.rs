//! One user's logins and sessions, and the rules by which logins begin and end. Pure.
//!
//! A device has at most one login here. Records may come twice, late, or after what they precede; sessions are seen
//! by a watch of their own, before or after the records of their logins.

use pushmesh_protocol::{
    ConnId, DeviceId, Instance, LoginId,
    message::{Epoch, Millis, OfflineCause, Session},
};

use super::comets::Comets;

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
    /// A timeout was reported while a session was live: it ends when the last one goes.
    timed_out: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Seat {
    conn: ConnId,
    login: LoginId,
    device: DeviceId,
    comet: Instance,
    comet_epoch: Epoch,
    since: Millis,
    left: bool,
}

impl Seat {
    /// Whether somebody sits there: of an unheard start of a comet nobody does.
    fn is_live(&self, comets: &Comets) -> bool {
        !self.left && comets.hears(&self.comet, self.comet_epoch)
    }
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
    pub(crate) fn online(&mut self, online: Online, stale_before: Millis, now: Millis) -> OnlineVerdict {
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
        // Its session may be seen only now: it brings nothing back.
        self.remember(End { login: Some(older), at: online.at, sequence: online.sequence, ..End::at(now) });
        self.note(online.login, online.device, online.at, Some(online.sequence), true);
        OnlineVerdict::Begins { replaced }
    }

    /// The logins that this record ends, or ended when it came before.
    pub(crate) fn offline(&mut self, offline: Offline, comets: &Comets, now: Millis) -> Vec<LoginId> {
        let timeout = offline.cause == OfflineCause::Timeout;
        let ended = match &offline.login {
            Some(id) => self.end_one(id, &offline, timeout, comets),
            None => self.end_older(&offline, timeout, comets),
        };
        // A timeout that a live session outlived has ended nothing, and overtook nothing.
        let outlived = timeout && offline.login.is_some() && ended.is_empty();
        if !outlived {
            let Offline { login, device, at, sequence, .. } = offline;
            if login.is_none() {
                // Each by its name too: a session that is seen, or leaves, after its login's end brings nothing back.
                for id in &ended {
                    self.remember(End { login: Some(id.clone()), at, sequence, timeout, ..End::at(now) });
                }
            }
            self.remember(End { login, device, at, sequence, timeout, noted: now });
        }
        ended
    }

    fn remember(&mut self, end: End) {
        if self.ends.len() == ENDS_MAX {
            self.ends.remove(0);
        }
        self.ends.push(end);
    }

    /// A session was put: a new one, or a new word of a known one.
    pub(crate) fn session(&mut self, conn: ConnId, session: &Session, comets: &Comets, told: bool) -> SessionVerdict {
        let seat = Seat {
            conn,
            login: session.login_id.clone(),
            device: session.device.clone(),
            comet: comets.name(&session.comet),
            comet_epoch: session.comet_epoch,
            since: session.since,
            left: session.left.is_some(),
        };
        match self.seats.iter_mut().find(|known| known.conn == seat.conn) {
            // Read again, it undoes no end.
            Some(known) if *known == seat => return SessionVerdict::Known,
            Some(known) => *known = seat.clone(),
            None => self.seats.push(seat.clone()),
        }
        self.sit(&seat, told)
    }

    /// Whether a comet that is heard again may bring a login back.
    pub(crate) fn awaits_a_comet(&self) -> bool {
        self.ends.iter().any(|end| end.timeout) && !self.seats.is_empty()
    }

    /// The logins that timed out while their comet was not heard, and that it has again.
    pub(crate) fn heard_again(&mut self, comets: &Comets) -> Vec<(LoginId, SessionVerdict)> {
        let timed_out =
            |seat: &Seat| self.ends.iter().any(|end| end.timeout && end.login.as_ref() == Some(&seat.login));
        let back = |seat: &&Seat| seat.is_live(comets) && timed_out(seat);
        let back: Vec<Seat> = self.seats.iter().filter(back).cloned().collect();
        back.into_iter()
            .map(|seat| {
                let verdict = self.sit(&seat, false);
                (seat.login, verdict)
            })
            .collect()
    }

    fn sit(&mut self, seat: &Seat, told: bool) -> SessionVerdict {
        if self.logins.iter().any(|login| login.id == seat.login) {
            return SessionVerdict::Known;
        }
        // Only a timeout is undone by a session that has not left: it may have been resumed at the last moment.
        let ended = |end: &End| end.ends_login_of(seat) && (!end.timeout || seat.left);
        if self.ends.iter().any(ended) {
            return SessionVerdict::Known;
        }
        let noted = self.logins.iter().find(|login| login.device == seat.device);
        if noted.is_some_and(|noted| seat.since < noted.at) {
            return SessionVerdict::Known;
        }
        let replaced = noted.map(|noted| noted.id.clone()).and_then(|id| self.forget(&id));
        self.note(seat.login.clone(), seat.device.clone(), seat.since, None, told);
        SessionVerdict::Begins { replaced }
    }

    /// A session is gone. Returns the login that ended by it: one that had timed out before, or that nothing else told of. (A
    /// session's key is purged when its login's end is stored; an owner that came in between knows of neither.)
    pub(crate) fn session_gone(&mut self, conn: &ConnId, comets: &Comets) -> Option<LoginId> {
        let at = self.seats.iter().position(|seat| seat.conn == *conn)?;
        let seat = self.seats.swap_remove(at);
        shrink(&mut self.seats);
        let login = self.logins.iter().find(|login| login.id == seat.login)?;
        let last = login.sequence.is_none() && !self.seats.iter().any(|other| other.login == seat.login);
        let over = (login.timed_out || last) && !self.live(&login.device, comets);
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

    fn live(&self, device: &DeviceId, comets: &Comets) -> bool {
        self.seats.iter().any(|seat| seat.device == *device && seat.is_live(comets))
    }

    // The end of an unknown login is told too: an earlier owner may have known it, and a record that is said
    // again after a failure must be.
    fn end_one(&mut self, id: &LoginId, offline: &Offline, timeout: bool, comets: &Comets) -> Vec<LoginId> {
        if timeout && self.seats.iter().any(|seat| seat.login == *id && seat.is_live(comets)) {
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
            if timeout && self.live(&device, comets) {
                return Vec::new();
            }
            self.forget(id);
        }
        vec![id.clone()]
    }

    fn end_older(&mut self, offline: &Offline, timeout: bool, comets: &Comets) -> Vec<LoginId> {
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
            .filter(|login| ends(login) && !(timeout && self.live(&login.device, comets)))
            .map(|login| login.id.clone())
            .collect();
        for id in &ended {
            self.forget(id);
        }
        ended
    }
}

impl End {
    /// Of nobody yet.
    fn at(noted: Millis) -> Self {
        Self { login: None, device: None, at: 0, sequence: 0, timeout: false, noted }
    }

    /// Where it names no login, whoever sat down before it had begun his before it.
    fn ends_login_of(&self, seat: &Seat) -> bool {
        match &self.login {
            Some(login) => *login == seat.login,
            None => self.device.as_ref().is_none_or(|device| *device == seat.device) && seat.since <= self.at,
        }
    }

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
#[path = "presence_tests.rs"]
mod tests;
