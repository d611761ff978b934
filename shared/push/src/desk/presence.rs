//! One user's logins and sessions, and the rules by which logins begin and end. Pure.
//!
//! A device has at most one login here. Records may come twice, late, or after what they precede; sessions are seen
//! by a watch of their own, before or after the records of their logins, and so is what has become of the logins that
//! they began with. Whoever sits there is in that login's successor then.

mod sitting;

use pushmesh_protocol::{
    ConnId, DeviceId, LoginId,
    message::{EndedBy, Millis, OfflineCause},
};

use self::sitting::{Seat, Sitting};
pub(crate) use self::sitting::{SessionVerdict, Stands};
use super::{comets::Comets, standing::Standing};

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
    /// Noted: look up its calls. Ends the device's older login, if there was one; else those that sessions of the device
    /// began with have ended before, and it stands in their place.
    Begins { replaced: Vec<LoginId> },
    /// Something newer of this login or device has been applied already.
    Overtaken,
    /// Too old to be told, and nobody is there.
    Stale,
}

#[derive(Debug, Default)]
pub(crate) struct Presence {
    logins: Vec<Login>,
    seats: Vec<Seat>,
    ends: Vec<End>,
    standing: Standing,
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

    /// Connections whose session is known to have begun with a login that has ended.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &ConnId> {
        self.standing.conns()
    }

    /// Logins that ended while a session that began with them stands.
    pub(crate) fn ended_before_their_sessions(&self) -> Vec<(LoginId, EndedBy)> {
        self.standing.ended()
    }

    /// The login that stands in this one's place; itself, where nothing is known of its end.
    pub(crate) fn in_place_of<'a>(&'a self, login: &'a LoginId) -> &'a LoginId {
        self.standing.of(login).and_then(EndedBy::current).unwrap_or(login)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.logins.is_empty() && self.seats.is_empty() && self.ends.is_empty() && self.standing.is_empty()
    }

    /// Forgets ends noted before `before`.
    pub(crate) fn forget_ends(&mut self, before: Millis) {
        self.ends.retain(|end| end.noted >= before);
        shrink(&mut self.ends);
    }

    /// `stale_before`: an older record begins no login of a device without session.
    pub(crate) fn online(&mut self, online: Online, stale_before: Millis, now: Millis) -> OnlineVerdict {
        if self.overtook(&online) {
            return OnlineVerdict::Overtaken;
        }
        if online.at < stale_before && !self.seats.iter().any(|seat| seat.device == online.device) {
            return OnlineVerdict::Stale;
        }
        let Some(noted) = self.logins.iter_mut().find(|login| login.device == online.device) else {
            let replaced = self.began_with(&online);
            for id in &replaced {
                let end = End { login: Some(id.clone()), at: online.at, sequence: online.sequence, ..End::at(now) };
                self.remember(end);
            }
            self.note(online.login, online.device, online.at, Some(online.sequence), true);
            return OnlineVerdict::Begins { replaced };
        };
        if noted.id == online.login {
            // The other door's record, or the same one again: its pushes have the same ids.
            noted.sequence = noted.sequence.max(Some(online.sequence));
            // Its session may have begun a moment later: an offline said in between ends it.
            noted.at = noted.at.min(online.at);
            noted.told = true;
            return OnlineVerdict::Begins { replaced: Vec::new() };
        }
        let overtaken = match noted.sequence {
            Some(sequence) => online.sequence < sequence,
            None => online.at < noted.at,
        };
        if overtaken {
            return OnlineVerdict::Overtaken;
        }
        let older = noted.id.clone();
        let replaced = self.forget(&older).into_iter().collect();
        // Its session may be seen only now: it brings nothing back.
        self.remember(End { login: Some(older), at: online.at, sequence: online.sequence, ..End::at(now) });
        self.note(online.login, online.device, online.at, Some(online.sequence), true);
        OnlineVerdict::Begins { replaced }
    }

    fn overtook(&self, online: &Online) -> bool {
        self.ends.iter().any(|end| end.overtook(online)) || self.standing.overtook(&online.device, online.sequence)
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

    // The end of an unknown login is told too: an earlier owner may have known it, and a record that is said
    // again after a failure must be.
    fn end_one(&mut self, id: &LoginId, offline: &Offline, timeout: bool, comets: &Comets) -> Vec<LoginId> {
        if timeout && self.seats.iter().any(|seat| seat.is_live(comets) && self.sits_in(seat, id)) {
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
    fn ends_login_of(&self, seat: &Seat, sitting: &Sitting) -> bool {
        match &self.login {
            Some(login) => *login == sitting.login,
            None => {
                let device = self.device.as_ref().is_none_or(|device| *device == seat.device);
                let later = sitting.sequence.is_some_and(|sequence| sequence > self.sequence);
                device && !later && sitting.at <= self.at
            }
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
