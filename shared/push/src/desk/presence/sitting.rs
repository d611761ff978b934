//! Who sits where: the sessions of a user, and which logins they are in.

use pushmesh_protocol::{
    ConnId, DeviceId, Instance, LoginId,
    message::{EndedBy, Epoch, Millis, Session, SessionLogin, Successor},
};

use super::{End, Online, Presence, shrink};
use crate::desk::comets::Comets;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seat {
    pub(super) conn: ConnId,
    /// The login that its session began with.
    login: LoginId,
    pub(super) device: DeviceId,
    comet: Instance,
    comet_epoch: Epoch,
    since: Millis,
    left: bool,
}

impl Seat {
    /// Whether somebody sits there: of an unheard start of a comet nobody does.
    pub(super) fn is_live(&self, comets: &Comets) -> bool {
        !self.left && comets.hears(&self.comet, self.comet_epoch)
    }
}

/// The login of a seat: its own, or what stands in its place.
pub(super) struct Sitting {
    pub(super) login: LoginId,
    pub(super) at: Millis,
    /// Of the record that put it there.
    pub(super) sequence: Option<u64>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum SessionVerdict {
    /// Its login is noted, or has ended, or is older than the device's login.
    Known,
    /// A login that no record has told of yet.
    Begins { replaced: Option<LoginId> },
    /// A record ended its login before the session was seen, and nobody has said so.
    Superseded { by: EndedBy },
}

/// What came of a word of the login that a session began with.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stands {
    /// A login that is noted no more, and the record that ended it, where one did.
    pub(crate) ended: Option<(LoginId, Option<EndedBy>)>,
    /// A login that no record has told of here.
    pub(crate) begins: Option<LoginId>,
}

impl Presence {
    /// A session was put: a new one, or a new word of a known one.
    pub(crate) fn session(
        &mut self,
        conn: ConnId,
        session: &Session,
        comets: &Comets,
        told: bool,
        now: Millis,
    ) -> SessionVerdict {
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
        self.sit(&seat, told, now)
    }

    /// A word of the login that a session began with, seen before the session or after it.
    pub(crate) fn stands(&mut self, conn: ConnId, login: SessionLogin, told: bool) -> Stands {
        let SessionLogin { began, device, since, by } = login.clone();
        if !self.standing.put(conn, login) {
            return Stands::default();
        }
        let mut ended = None;
        if let Some(noted) = self.logins.iter_mut().find(|noted| noted.device == device) {
            if Some(&noted.id) == by.current() {
                noted.sequence = noted.sequence.max(Some(by.sequence));
                return Stands::default();
            }
            let overtaken = match noted.sequence {
                Some(sequence) => by.sequence < sequence,
                // Known by its session alone: it gives way to the successor of a later one, and to what ended itself.
                None => noted.id != began && (by.successor.is_none() || noted.at > since),
            };
            if overtaken {
                return Stands::default();
            }
            let by_record = noted.sequence.is_some() || noted.id == began;
            let id = noted.id.clone();
            ended = self.forget(&id).map(|id| (id, by_record.then(|| by.clone())));
        }
        let begins = by.successor.and_then(|Successor { login_id, at }| {
            let online = Online { login: login_id, device, at, sequence: by.sequence };
            if self.overtook(&online) {
                return None;
            }
            self.note(online.login.clone(), online.device, at, Some(by.sequence), told);
            Some(online.login)
        });
        Stands { ended, begins }
    }

    /// Nothing is said any more of the login that a session began with: its session has gone too.
    pub(crate) fn stands_no_more(&mut self, conn: &ConnId) {
        self.standing.remove(conn);
    }

    /// Whether a comet that is heard again may bring a login back.
    pub(crate) fn awaits_a_comet(&self) -> bool {
        self.ends.iter().any(|end| end.timeout) && !self.seats.is_empty()
    }

    /// The logins that timed out while their comet was not heard, and that it has again.
    pub(crate) fn heard_again(&mut self, comets: &Comets, now: Millis) -> Vec<(LoginId, SessionVerdict)> {
        let timed_out = |login: &LoginId| self.ends.iter().any(|end| end.timeout && end.login.as_ref() == Some(login));
        let back =
            |seat: &&Seat| seat.is_live(comets) && self.sitting(seat).is_some_and(|sitting| timed_out(&sitting.login));
        let back: Vec<Seat> = self.seats.iter().filter(back).cloned().collect();
        back.into_iter()
            .filter_map(|seat| {
                let verdict = self.sit(&seat, false, now);
                Some((self.sitting(&seat)?.login, verdict))
            })
            .collect()
    }

    /// `None`: its login has ended, and nothing stands in its place.
    fn sitting(&self, seat: &Seat) -> Option<Sitting> {
        match self.standing.of(&seat.login) {
            None => Some(Sitting { login: seat.login.clone(), at: seat.since, sequence: None }),
            Some(EndedBy { sequence, successor }) => {
                let Successor { login_id, at } = successor.clone()?;
                Some(Sitting { login: login_id, at, sequence: Some(*sequence) })
            }
        }
    }

    /// The logins that the device's sessions began with, other than this one.
    pub(super) fn began_with(&self, online: &Online) -> Vec<LoginId> {
        let others = self.seats.iter().filter(|seat| seat.device == online.device && seat.login != online.login);
        let mut others: Vec<_> = others.map(|seat| seat.login.clone()).collect();
        others.dedup();
        others
    }

    pub(super) fn sits_in(&self, seat: &Seat, login: &LoginId) -> bool {
        self.sitting(seat).is_some_and(|sitting| sitting.login == *login)
    }

    fn sit(&mut self, seat: &Seat, told: bool, now: Millis) -> SessionVerdict {
        let Some(sitting) = self.sitting(seat) else { return SessionVerdict::Known };
        if self.logins.iter().any(|login| login.id == sitting.login) {
            return SessionVerdict::Known;
        }
        // Only a timeout is undone by a session that has not left: it may have been resumed at the last moment.
        let ended = |end: &End| end.ends_login_of(seat, &sitting) && (!end.timeout || seat.left);
        if self.ends.iter().any(ended) {
            return SessionVerdict::Known;
        }
        let noted = self.logins.iter().find(|login| login.device == seat.device);
        if let Some(noted) = noted {
            let handed = self.standing.seated(&noted.id);
            let overtaken = match (sitting.sequence, noted.sequence) {
                (Some(own), Some(noted)) => own < noted,
                _ => seat.since < handed.unwrap_or(noted.at),
            };
            if overtaken {
                // Where something stands beside a session, its end was told; of two sessions the newer one stays.
                let of_session = self.seats.iter().any(|other| self.sits_in(other, &noted.id));
                let untold = sitting.sequence.is_none() && handed.is_none() && !of_session;
                let Some(sequence) = noted.sequence.filter(|_| untold) else { return SessionVerdict::Known };
                let successor = Successor { login_id: noted.id.clone(), at: noted.at };
                self.remember(End { login: Some(sitting.login), at: successor.at, sequence, ..End::at(now) });
                return SessionVerdict::Superseded { by: EndedBy { sequence, successor: Some(successor) } };
            }
        }
        let replaced = noted.map(|noted| noted.id.clone()).and_then(|id| self.forget(&id));
        self.note(sitting.login, seat.device.clone(), sitting.at, sitting.sequence, told);
        SessionVerdict::Begins { replaced }
    }

    /// A session is gone. Returns the login that ended by it: one that had timed out before, or that nothing else told of. (A
    /// session's key is purged when its login's end is stored; an owner that came in between knows of neither.)
    pub(crate) fn session_gone(&mut self, conn: &ConnId, comets: &Comets) -> Option<LoginId> {
        let at = self.seats.iter().position(|seat| seat.conn == *conn)?;
        let seat = self.seats.swap_remove(at);
        shrink(&mut self.seats);
        let sitting = self.sitting(&seat)?.login;
        let login = self.logins.iter().find(|login| login.id == sitting)?;
        let last = login.sequence.is_none() && !self.seats.iter().any(|other| self.sits_in(other, &sitting));
        let over = (login.timed_out || last) && !self.live(&login.device, comets);
        over.then_some(sitting).and_then(|id| self.forget(&id))
    }

    pub(super) fn live(&self, device: &DeviceId, comets: &Comets) -> bool {
        self.seats.iter().any(|seat| seat.device == *device && seat.is_live(comets))
    }
}
