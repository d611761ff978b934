//! What has become of the logins that sessions began with: as LOGIN's records said it, and as it stands in `sess`. Pure.

use std::collections::{HashMap, VecDeque};

use pushmesh_protocol::{
    ConnId, LoginId, UserId,
    message::{EndedBy, SessionLogin},
};

/// Most ends of logins remembered for one user; what stands in `sess` is not forgotten.
pub const ENDED_MAX: usize = 32;

/// One user's logins that ended by a record, each with what stands in its place now.
#[derive(Debug, Default)]
pub struct Ended(VecDeque<(LoginId, EndedBy)>);

impl Ended {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, login: &LoginId) -> Option<&EndedBy> {
        self.0.iter().find(|(ended, _)| ended == login).map(|(_, by)| by)
    }

    /// The login that stands in this one's place; itself where it has not ended, or nothing came after it.
    pub fn current<'a>(&'a self, login: &'a LoginId) -> &'a LoginId {
        self.of(login).and_then(EndedBy::current).unwrap_or(login)
    }

    /// A record ended a login, or a later one put another in the place that its end had left empty. Said again, or late by
    /// another kind, it changes nothing: a login ends once, unless it has come back as a successor.
    pub fn note(&mut self, login: &LoginId, by: &EndedBy) {
        // Its successor's end may have been heard of before.
        let later = by.current().and_then(|next| self.of(next)).filter(|later| later.sequence > by.sequence);
        let by = later.unwrap_or(by).clone();
        for (_, handed) in &mut self.0 {
            if handed.current() == Some(login) && handed.sequence < by.sequence {
                *handed = by.clone();
            }
        }
        match self.0.iter_mut().find(|(ended, _)| ended == login) {
            Some((_, known)) if known.successor.is_none() && by.successor.is_some() && known.sequence < by.sequence => {
                *known = by;
            }
            Some(_) => {}
            None => self.push(login.clone(), by),
        }
    }

    /// What stands in `sess`.
    pub fn adopt(&mut self, login: &SessionLogin) {
        let at = self.0.iter().position(|(ended, _)| *ended == login.began);
        let known = at.and_then(|at| self.0.remove(at)).map(|(_, by)| by);
        let by = known.filter(|by| by.sequence > login.by.sequence).unwrap_or_else(|| login.by.clone());
        self.push(login.began.clone(), by);
    }

    fn push(&mut self, login: LoginId, by: EndedBy) {
        if self.0.len() == ENDED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((login, by));
    }
}

/// One key beside a session's.
#[derive(Debug)]
pub struct Kept {
    pub conn: ConnId,
    /// Its value and revision, as far as is known.
    pub says: Option<(SessionLogin, u64)>,
    /// A write or purge of it is on its way: one at a time.
    pub busy: bool,
    /// Messages of PUSH that may be acknowledged once it says what they said.
    pub waiting: Vec<u64>,
    round: u32,
}

/// The keys of a partition. Few sessions have one.
#[derive(Debug, Default)]
pub struct Logins {
    keys: HashMap<UserId, Vec<Kept>>,
    round: u32,
}

impl Logins {
    pub fn users(&self) -> Vec<UserId> {
        self.keys.keys().cloned().collect()
    }

    pub fn of_user(&self, user: &UserId) -> &[Kept] {
        self.keys.get(user).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, user: &UserId, conn: &ConnId) -> Option<&Kept> {
        self.of_user(user).iter().find(|kept| kept.conn == *conn)
    }

    /// The key of this connection, written or still to be.
    pub fn entry(&mut self, user: &UserId, conn: &ConnId) -> &mut Kept {
        let round = self.round;
        let keys = self.keys.entry(user.clone()).or_default();
        let at = keys.iter().position(|kept| kept.conn == *conn).unwrap_or_else(|| {
            keys.push(Kept { conn: conn.clone(), says: None, busy: false, waiting: Vec::new(), round });
            keys.len() - 1
        });
        &mut keys[at]
    }

    /// What a key says; an older revision is no news.
    pub fn put(&mut self, user: &UserId, conn: &ConnId, login: SessionLogin, revision: u64) {
        let round = self.round;
        let kept = self.entry(user, conn);
        kept.round = round;
        if kept.says.as_ref().is_none_or(|(_, known)| *known <= revision) {
            kept.says = Some((login, revision));
        }
    }

    /// A key is gone, as far as it stood at this revision.
    pub fn gone(&mut self, user: &UserId, conn: &ConnId, revision: u64) {
        let keys = self.keys.get_mut(user).into_iter().flatten();
        for kept in keys.filter(|kept| kept.conn == *conn) {
            kept.says.take_if(|(_, known)| *known <= revision);
        }
    }

    /// Forgets keys that neither stand nor are about to.
    pub fn tidy(&mut self, user: &UserId) {
        let Some(keys) = self.keys.get_mut(user) else { return };
        keys.retain(|kept| kept.says.is_some() || kept.busy || !kept.waiting.is_empty());
        if keys.is_empty() {
            self.keys.remove(user);
        }
    }

    /// The watch begins anew: what it does not mention until [`Logins::caught_up`] is gone.
    pub fn restart(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    pub fn caught_up(&mut self) {
        let round = self.round;
        for kept in self.keys.values_mut().flatten().filter(|kept| kept.round != round) {
            kept.says = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::message::Successor;

    use super::*;

    fn login(name: &str) -> LoginId {
        LoginId::new(name).unwrap()
    }

    fn by(sequence: u64, successor: &str) -> EndedBy {
        let successor = (!successor.is_empty()).then(|| Successor { login_id: login(successor), at: 0 });
        EndedBy { sequence, successor }
    }

    #[test]
    fn the_last_of_a_chain_stands_in_the_place_of_all() {
        let mut ended = Ended::default();
        ended.note(&login("l1"), &by(5, "l2"));
        ended.note(&login("l2"), &by(9, "l3"));
        assert_eq!((ended.of(&login("l1")), ended.of(&login("l2"))), (Some(&by(9, "l3")), Some(&by(9, "l3"))));
        ended.note(&login("l1"), &by(5, "l2"));
        ended.note(&login("l1"), &by(12, ""));
        assert_eq!(ended.current(&login("l1")), &login("l3"), "another kind is late; its old login's offline");
        ended.note(&login("l3"), &by(13, ""));
        assert_eq!(ended.of(&login("l1")), Some(&by(13, "")));
        assert_eq!(ended.current(&login("l4")), &login("l4"));
    }

    #[test]
    fn ends_that_come_in_the_wrong_order_make_the_same_chain() {
        let mut ended = Ended::default();
        ended.note(&login("l2"), &by(9, "l3"));
        ended.note(&login("l1"), &by(5, "l2"));
        assert_eq!(ended.of(&login("l1")), Some(&by(9, "l3")));
    }

    #[test]
    fn what_comes_online_in_an_empty_place_stands_there() {
        let mut ended = Ended::default();
        ended.note(&login("l1"), &by(5, ""));
        ended.note(&login("l1"), &by(7, "l2"));
        assert_eq!(ended.of(&login("l1")), Some(&by(7, "l2")));
        ended.note(&login("l2"), &by(8, ""));
        ended.note(&login("l1"), &by(7, "l2"));
        assert_eq!(ended.of(&login("l1")), Some(&by(8, "")), "another kind is late");
    }

    #[test]
    fn a_login_that_came_back_may_end_again() {
        let mut ended = Ended::default();
        ended.note(&login("l1"), &by(5, "l2"));
        ended.note(&login("l2"), &by(6, "l1"));
        assert_eq!(ended.of(&login("l1")), Some(&by(6, "l1")));
        ended.note(&login("l1"), &by(8, ""));
        assert_eq!(ended.of(&login("l1")), Some(&by(8, "")));
    }

    #[test]
    fn what_stands_in_the_bucket_outlives_many_ends() {
        let (began, device) = (login("l0"), "phone".parse().unwrap());
        let mut ended = Ended::default();
        let mut key = SessionLogin { began: began.clone(), device, since: 0, by: by(1, "l1") };
        for n in 1..100 {
            ended.adopt(&key);
            ended.note(&login(&format!("l{n}")), &by(n + 1, &format!("l{}", n + 1)));
            key.by = ended.of(&began).unwrap().clone();
            assert_eq!(key.by.sequence, n + 1);
        }
        assert_eq!(ended.0.len(), ENDED_MAX);
    }
}
