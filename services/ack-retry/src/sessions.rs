//! The sessions of a partition, as the bucket `sess` tells them, and which of them can be reached.
//!
//! A session is *live* while it has not left, its comet's epoch is alive, and the comet has not denied it. The newest of
//! a user's device is the one with the latest `since`; the key's revision decides between equals. Between others it can't:
//! a comet that was unheard puts its sessions again, and an older one would be the newest by that.

use std::collections::HashMap;

use pushmesh_protocol::{
    ConnId, DeviceId, Instance, UserId,
    message::{Epoch, Millis, Session},
};

use crate::{
    logins::Ended,
    slab::{Id, Slab},
    wheel::TimerId,
};

/// A session whose key stands.
#[derive(Debug)]
pub struct Known {
    pub user: UserId,
    pub conn: ConnId,
    pub session: Session,
    revision: u64,
    live: bool,
    /// The comet answered that it has no such connection.
    denied: bool,
    /// A newer connection of the device took over.
    pub kicked: bool,
    /// Since when it cannot be reached.
    pub absent_since: Option<Millis>,
    /// Its end is being reported or purged.
    pub ending: bool,
    /// The revision of its key that is being purged.
    pub purging: Option<u64>,
    /// When its end was first reported: said again, it is the same report.
    pub reported_at: Option<Millis>,
    pub timer: Option<TimerId>,
    round: u32,
}

impl Known {
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Of its key, as last seen.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn age(&self) -> (Millis, u64) {
        (self.session.since, self.revision)
    }
}

/// What a put, a view or a denial made of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    BecameLive(Id),
    BecameAbsent(Id),
}

#[derive(Debug, Default)]
pub struct Sessions {
    all: Slab<Known>,
    by_user: HashMap<UserId, Vec<Id>>,
    comets: HashMap<Instance, Epoch>,
    round: u32,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, id: Id) -> Option<&Known> {
        self.all.get(id)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut Known> {
        self.all.get_mut(id)
    }

    pub fn find(&self, user: &UserId, conn: &ConnId) -> Option<Id> {
        let ids = self.by_user.get(user)?;
        ids.iter().copied().find(|id| self.all.get(*id).is_some_and(|known| known.conn == *conn))
    }

    /// A key was put. A new session is a change, and so is an old one that left or came back.
    pub fn put(&mut self, user: UserId, conn: ConnId, session: Session, revision: u64, now: Millis) -> Option<Change> {
        let id = match self.find(&user, &conn) {
            Some(id) => id,
            None => {
                let known = Known {
                    user: user.clone(),
                    conn,
                    session: session.clone(),
                    revision,
                    live: false,
                    denied: false,
                    kicked: false,
                    absent_since: None,
                    ending: false,
                    purging: None,
                    reported_at: None,
                    timer: None,
                    round: self.round,
                };
                let id = self.all.insert(known);
                self.by_user.entry(user).or_default().push(id);
                id
            }
        };
        let known = self.all.get_mut(id).expect("found or inserted above");
        if revision > known.revision {
            known.denied = false;
            // Its comet says that it stands: whether another one has taken over is decided anew.
            known.kicked &= session.left.is_some();
            // A purge of what stood before has taken place, or takes nothing: its key ends anew.
            if known.purging.take().is_some() {
                known.ending = false;
            }
        }
        (known.session, known.revision, known.round) = (session, revision, self.round);
        refresh(id, known, &self.comets, now)
    }

    /// A key is gone.
    pub fn remove(&mut self, user: &UserId, conn: &ConnId) -> Option<Known> {
        let id = self.find(user, conn)?;
        self.take(id)
    }

    fn take(&mut self, id: Id) -> Option<Known> {
        let known = self.all.remove(id)?;
        if let Some(ids) = self.by_user.get_mut(&known.user) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_user.remove(&known.user);
            }
        }
        Some(known)
    }

    /// The watch begins anew: what it does not mention until [`Sessions::caught_up`] is gone.
    pub fn restart(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// The watch has mentioned everything: returns what it did not.
    pub fn caught_up(&mut self) -> Vec<Known> {
        let unmentioned: Vec<_> =
            self.all.iter().filter(|(_, known)| known.round != self.round).map(|(id, _)| id).collect();
        unmentioned.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// The comets that are alive, with their epochs.
    pub fn set_comets(&mut self, comets: HashMap<Instance, Epoch>, now: Millis) -> Vec<Change> {
        if self.comets == comets {
            return Vec::new();
        }
        self.comets = comets;
        let ids = self.all.ids();
        ids.into_iter().filter_map(|id| refresh(id, self.all.get_mut(id)?, &self.comets, now)).collect()
    }

    /// A comet denied a connection: it counts as absent until its key is put again.
    pub fn deny(&mut self, user: &UserId, conn: &ConnId, now: Millis) -> Option<Change> {
        let id = self.find(user, conn)?;
        let known = self.all.get_mut(id)?;
        known.denied = true;
        refresh(id, known, &self.comets, now)
    }

    /// A newer connection took over.
    pub fn kick(&mut self, id: Id, now: Millis) {
        if let Some(known) = self.all.get_mut(id) {
            known.kicked = true;
            refresh(id, known, &self.comets, now);
        }
    }

    pub fn of_user(&self, user: &UserId) -> impl Iterator<Item = (Id, &Known)> {
        self.by_user.get(user).into_iter().flatten().filter_map(|id| Some((*id, self.all.get(*id)?)))
    }

    /// Whether any key of the user stands, live or not.
    pub fn knows_user(&self, user: &UserId) -> bool {
        self.by_user.contains_key(user)
    }

    pub fn knows_device(&self, user: &UserId, device: &DeviceId) -> bool {
        self.of_user(user).any(|(_, known)| known.session.device == *device)
    }

    /// The newest live session of a device.
    pub fn newest(&self, user: &UserId, device: &DeviceId) -> Option<(Id, &Known)> {
        self.live(user).filter(|(_, known)| known.session.device == *device).max_by_key(|(_, known)| known.age())
    }

    /// The newest live session of each of the user's devices.
    pub fn newest_of_each(&self, user: &UserId) -> Vec<(Id, &Known)> {
        self.live(user)
            .filter(|(id, known)| self.newest(user, &known.session.device).is_some_and(|(newest, _)| newest == *id))
            .collect()
    }

    /// The live sessions of a device that a newer live one has taken over from.
    pub fn superseded(&self, user: &UserId, device: &DeviceId) -> Vec<Id> {
        let Some((newest, _)) = self.newest(user, device) else { return Vec::new() };
        let of_device = self.live(user).filter(|(_, known)| known.session.device == *device);
        of_device.map(|(id, _)| id).filter(|id| *id != newest).collect()
    }

    /// Whether the end of this absent session ends the login that it is in: no live session of the device, nor a later one
    /// in the same login.
    pub fn ends_login(&self, id: Id, ended: &Ended) -> bool {
        let Some(ending) = self.all.get(id) else { return false };
        let login = ended.current(&ending.session.login_id);
        !self.of_user(&ending.user).any(|(other, known)| {
            let same_device = known.session.device == ending.session.device;
            let goes_on = ended.current(&known.session.login_id) == login && known.age() > ending.age();
            other != id && same_device && !known.kicked && (known.live || goes_on)
        })
    }

    /// All users with a session.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.by_user.keys()
    }

    fn live(&self, user: &UserId) -> impl Iterator<Item = (Id, &Known)> {
        self.of_user(user).filter(|(_, known)| known.live)
    }
}

fn refresh(id: Id, known: &mut Known, comets: &HashMap<Instance, Epoch>, now: Millis) -> Option<Change> {
    let heard = comets.get(&known.session.comet) == Some(&known.session.comet_epoch);
    let live = heard && known.session.left.is_none() && !known.denied && !known.kicked;
    // `None` for a session that was just inserted: it is neither yet.
    let was = (known.live || known.absent_since.is_some()).then_some(known.live);
    known.live = live;
    if live {
        known.reported_at = None;
    }
    known.absent_since = match (live, known.session.left) {
        (true, _) => None,
        (false, Some(left)) => Some(known.absent_since.map_or(left, |since| since.min(left))),
        (false, None) => Some(known.absent_since.unwrap_or(now)),
    };
    match (was, live) {
        (Some(true), true) | (Some(false), false) => None,
        (_, true) => Some(Change::BecameLive(id)),
        (_, false) => Some(Change::BecameAbsent(id)),
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::LoginId;

    use super::*;

    fn session(device: &str, comet: &str, epoch: Epoch, since: Millis) -> Session {
        Session {
            login_id: LoginId::new("l").unwrap(),
            device: DeviceId::new(device).unwrap(),
            comet: Instance::new(comet).unwrap(),
            comet_epoch: epoch,
            since,
            left: None,
        }
    }

    fn book() -> (Sessions, UserId, DeviceId) {
        let mut sessions = Sessions::default();
        sessions.set_comets([(Instance::new("c1").unwrap(), 7)].into(), 0);
        (sessions, UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap())
    }

    fn conn(name: &str) -> ConnId {
        ConnId::new(name).unwrap()
    }

    #[test]
    fn the_newest_live_session_of_a_device_counts() {
        let (mut all, alice, phone) = book();
        all.put(alice.clone(), conn("a"), session("phone", "c1", 7, 10), 1, 10);
        all.put(alice.clone(), conn("b"), session("phone", "c1", 7, 20), 2, 20);
        all.put(alice.clone(), conn("c"), session("phone", "c1", 6, 30), 3, 30);
        assert_eq!(all.newest(&alice, &phone).unwrap().1.conn, conn("b"));
        assert_eq!(all.superseded(&alice, &phone), vec![all.find(&alice, &conn("a")).unwrap()]);
        let left = Session { left: Some(40), ..session("phone", "c1", 7, 20) };
        assert!(matches!(all.put(alice.clone(), conn("b"), left, 4, 41), Some(Change::BecameAbsent(_))));
        assert_eq!(all.newest(&alice, &phone).unwrap().1.conn, conn("a"));
    }

    #[test]
    fn an_unheard_epoch_is_absent_until_it_is_heard_again() {
        let (mut all, alice, phone) = book();
        all.put(alice.clone(), conn("a"), session("phone", "c1", 7, 10), 1, 10);
        assert_eq!(all.set_comets(HashMap::new(), 50).len(), 1);
        assert!(all.newest(&alice, &phone).is_none() && all.knows_device(&alice, &phone));
        let id = all.find(&alice, &conn("a")).unwrap();
        assert_eq!(all.get(id).unwrap().absent_since, Some(50));
        let back = all.set_comets([(Instance::new("c1").unwrap(), 7)].into(), 60);
        assert_eq!(back, [Change::BecameLive(id)]);
    }

    #[test]
    fn a_new_snapshot_forgets_what_it_does_not_mention() {
        let (mut all, alice, phone) = book();
        all.put(alice.clone(), conn("a"), session("phone", "c1", 7, 10), 1, 10);
        all.put(alice.clone(), conn("b"), session("phone", "c1", 7, 20), 2, 20);
        all.restart();
        all.put(alice.clone(), conn("a"), session("phone", "c1", 7, 10), 1, 30);
        assert_eq!(all.caught_up().len(), 1);
        assert_eq!(all.newest(&alice, &phone).unwrap().1.conn, conn("a"));
    }

    #[test]
    fn a_login_that_goes_on_elsewhere_does_not_end() {
        let (mut all, alice, _) = book();
        all.put(alice.clone(), conn("a"), Session { left: Some(15), ..session("phone", "c1", 7, 10) }, 1, 15);
        let id = all.find(&alice, &conn("a")).unwrap();
        assert!(all.ends_login(id, &Ended::default()));
        all.put(alice.clone(), conn("b"), Session { left: Some(30), ..session("phone", "c1", 7, 20) }, 2, 30);
        assert!(!all.ends_login(id, &Ended::default()), "the later connection of the same login is not over yet");
    }
}
