//! Who is a member of what, in one partition, and who of them is online. Pure, and lean: users and units are kept once,
//! and named by numbers.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use pushmesh_protocol::{Unit, UserId, message::Millis};

use super::presence::Presence;
use crate::kind::Reach;

pub(crate) type UserIx = u32;
type UnitIx = u32;

#[derive(Debug)]
struct User {
    id: UserId,
    units: Vec<Held>,
    presence: Option<Box<Presence>>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    unit: UnitIx,
    /// When it was written, in seconds since 1970.
    at_s: u32,
}

#[derive(Debug)]
struct Members {
    name: Arc<str>,
    users: Vec<UserIx>,
}

#[derive(Debug, Default)]
pub(crate) struct Roll {
    by_id: HashMap<UserId, UserIx>,
    users: Vec<Option<User>>,
    free_users: Vec<UserIx>,
    by_name: BTreeMap<Arc<str>, UnitIx>,
    units: Vec<Option<Members>>,
    free_units: Vec<UnitIx>,
    memberships: usize,
}

impl Roll {
    pub(crate) fn memberships(&self) -> usize {
        self.memberships
    }

    pub(crate) fn find(&self, id: &UserId) -> Option<UserIx> {
        self.by_id.get(id).copied()
    }

    /// One past the last number in use.
    pub(crate) fn end(&self) -> UserIx {
        self.users.len() as UserIx
    }

    pub(crate) fn id(&self, user: UserIx) -> Option<&UserId> {
        self.user(user).map(|user| &user.id)
    }

    pub(crate) fn presence(&self, user: UserIx) -> Option<&Presence> {
        self.user(user)?.presence.as_deref()
    }

    pub(crate) fn presence_mut(&mut self, id: &UserId) -> (UserIx, &mut Presence) {
        let ix = self.enter(id);
        let user = self.users[ix as usize].as_mut().expect("a user that was just entered");
        (ix, user.presence.get_or_insert_default())
    }

    pub(crate) fn presence_of(&mut self, id: &UserId) -> Option<(UserIx, &mut Presence)> {
        let ix = self.find(id)?;
        let presence = self.users[ix as usize].as_mut()?.presence.as_deref_mut()?;
        Some((ix, presence))
    }

    /// Forgets a user of whom nothing is known any more.
    pub(crate) fn tidy(&mut self, ix: UserIx) {
        let Some(user) = self.users.get_mut(ix as usize).and_then(Option::as_mut) else { return };
        if user.presence.as_ref().is_some_and(|presence| presence.is_empty()) {
            user.presence = None;
        }
        if user.presence.is_none() && user.units.is_empty() {
            let user = self.users[ix as usize].take().expect("looked at just now");
            self.by_id.remove(&user.id);
            self.free_users.push(ix);
        }
    }

    /// Returns the user, and whether the membership is new.
    pub(crate) fn join(&mut self, id: &UserId, unit: &Unit, at: Millis) -> (UserIx, bool) {
        let (ix, unit_ix) = (self.enter(id), self.enter_unit(unit));
        let at_s = u32::try_from(at / 1000).unwrap_or(u32::MAX);
        let user = self.users[ix as usize].as_mut().expect("a user that was just entered");
        if let Some(held) = user.units.iter_mut().find(|held| held.unit == unit_ix) {
            held.at_s = at_s;
            return (ix, false);
        }
        user.units.reserve_exact(1);
        user.units.push(Held { unit: unit_ix, at_s });
        self.units[unit_ix as usize].as_mut().expect("a unit that was just entered").users.push(ix);
        self.memberships += 1;
        (ix, true)
    }

    /// Returns the user, if he was a member.
    pub(crate) fn leave(&mut self, id: &UserId, unit: &str) -> Option<UserIx> {
        let (ix, unit_ix) = (self.find(id)?, *self.by_name.get(unit)?);
        let user = self.users[ix as usize].as_mut()?;
        let at = user.units.iter().position(|held| held.unit == unit_ix)?;
        user.units.swap_remove(at);
        let members = self.units[unit_ix as usize].as_mut().expect("a unit with a member");
        if let Some(at) = members.users.iter().position(|member| *member == ix) {
            members.users.swap_remove(at);
        }
        self.memberships -= 1;
        if members.users.is_empty() {
            let members = self.units[unit_ix as usize].take().expect("looked at just now");
            self.by_name.remove(&members.name);
            self.free_units.push(unit_ix);
        }
        Some(ix)
    }

    /// The units (dotted) of a user.
    pub(crate) fn units_of(&self, user: UserIx) -> impl Iterator<Item = &str> {
        let held = self.user(user).map_or(&[][..], |user| &user.units);
        held.iter().filter_map(|held| Some(&*self.units[held.unit as usize].as_ref()?.name))
    }

    /// The users whom a call in `unit` reaches, each once.
    pub(crate) fn reached(&self, reach: Reach, unit: &Unit) -> Vec<UserIx> {
        let exact = self.by_name.get(unit.dotted()).copied();
        match reach {
            Reach::Unit => exact.map_or_else(Vec::new, |ix| self.members(ix).to_vec()),
            Reach::Below => {
                // '/' follows '.' in ASCII: between them lies everything below, and nothing else.
                let (from, to) = (format!("{}.", unit.dotted()), format!("{}/", unit.dotted()));
                let range = (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()));
                let below = self.by_name.range::<str, _>(range).map(|(_, ix)| *ix);
                let mut users: Vec<_> =
                    exact.into_iter().chain(below).flat_map(|ix| self.members(ix).iter().copied()).collect();
                users.sort_unstable();
                users.dedup();
                users
            }
        }
    }

    /// Members of exactly `unit` whose membership was written at or before `until`.
    pub(crate) fn members_until(&self, unit: &Unit, until: Millis) -> Vec<UserId> {
        let Some(&unit_ix) = self.by_name.get(unit.dotted()) else { return Vec::new() };
        let old = |ix: &&UserIx| {
            let held = self.user(**ix).and_then(|user| user.units.iter().find(|held| held.unit == unit_ix));
            held.is_some_and(|held| u64::from(held.at_s) * 1000 <= until)
        };
        self.members(unit_ix).iter().filter(old).filter_map(|ix| self.id(*ix).cloned()).collect()
    }

    /// The names (dotted) of all units with a member.
    pub(crate) fn unit_names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// Every membership.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&UserId, &str)> {
        self.users.iter().enumerate().flat_map(move |(ix, user)| {
            user.iter().flat_map(move |user| self.units_of(ix as UserIx).map(|unit| (&user.id, unit)))
        })
    }

    /// Every user with a login, a session or a remembered end.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&UserId, &Presence)> {
        self.users.iter().flatten().filter_map(|user| Some((&user.id, user.presence.as_deref()?)))
    }

    fn user(&self, ix: UserIx) -> Option<&User> {
        self.users.get(ix as usize)?.as_ref()
    }

    fn members(&self, unit: UnitIx) -> &[UserIx] {
        self.units[unit as usize].as_ref().map_or(&[], |members| &members.users)
    }

    fn enter(&mut self, id: &UserId) -> UserIx {
        if let Some(ix) = self.by_id.get(id) {
            return *ix;
        }
        let user = Some(User { id: id.clone(), units: Vec::new(), presence: None });
        let ix = place(&mut self.users, &mut self.free_users, user);
        self.by_id.insert(id.clone(), ix);
        ix
    }

    fn enter_unit(&mut self, unit: &Unit) -> UnitIx {
        if let Some(ix) = self.by_name.get(unit.dotted()) {
            return *ix;
        }
        let name: Arc<str> = unit.dotted().into();
        let members = Some(Members { name: name.clone(), users: Vec::new() });
        let ix = place(&mut self.units, &mut self.free_units, members);
        self.by_name.insert(name, ix);
        ix
    }
}

fn place<T>(list: &mut Vec<Option<T>>, free: &mut Vec<u32>, item: Option<T>) -> u32 {
    match free.pop() {
        Some(ix) => {
            list[ix as usize] = item;
            ix
        }
        None => {
            list.push(item);
            (list.len() - 1) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn unit(name: &str) -> Unit {
        Unit::new(name).unwrap()
    }

    #[test]
    fn a_call_above_reaches_all_below_once() {
        let mut roll = Roll::default();
        let (a, _) = roll.join(&user("a"), &unit("net"), 0);
        roll.join(&user("a"), &unit("net/verizon"), 0);
        let (b, _) = roll.join(&user("b"), &unit("net/verizon/res"), 0);
        roll.join(&user("c"), &unit("net-x/verizon"), 0);
        roll.join(&user("d"), &unit("network"), 0);
        assert_eq!(roll.reached(Reach::Below, &unit("net")), [a, b]);
        assert_eq!(roll.reached(Reach::Unit, &unit("net")), [a]);
        assert!(roll.reached(Reach::Below, &unit("net/verizon/res/x")).is_empty());
    }

    #[test]
    fn what_is_left_is_forgotten() {
        let mut roll = Roll::default();
        let (first, new) = roll.join(&user("a"), &unit("g"), 5_000);
        assert!(new && !roll.join(&user("a"), &unit("g"), 9_000).1);
        assert_eq!(roll.members_until(&unit("g"), 8_999), []);
        assert_eq!(roll.members_until(&unit("g"), 9_000), [user("a")]);
        assert_eq!(roll.leave(&user("a"), "g"), Some(first));
        assert_eq!(roll.leave(&user("a"), "g"), None);
        roll.tidy(first);
        assert_eq!((roll.memberships(), roll.by_id.len(), roll.by_name.len()), (0, 0, 0));
        assert_eq!(roll.join(&user("b"), &unit("h"), 0).0, first, "numbers are used again");
    }
}
