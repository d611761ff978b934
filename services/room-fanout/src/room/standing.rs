//! [`Standing`]: what the buckets say of rooms and users: states, roles, mutes.

use std::collections::HashMap;

use pushmesh_protocol::{
    RoomId, UserId,
    frame::{Role, RoomState},
    message::Millis,
    room::MuteRecord,
};

/// Known for all rooms, asleep or not. Mutes leave it when the bucket says so; each also knows its own end.
#[derive(Debug, Default)]
pub(super) struct Standing {
    states: HashMap<RoomId, RoomState>,
    roles: HashMap<RoomId, HashMap<UserId, Role>>,
    muted: HashMap<RoomId, HashMap<UserId, Mute>>,
    muted_everywhere: HashMap<UserId, Mute>,
}

#[derive(Debug, Clone, Copy)]
struct Mute {
    at: Millis,
    until: Millis,
}

impl Standing {
    pub fn state(&self, room: &RoomId) -> RoomState {
        self.states.get(room).copied().unwrap_or_default()
    }

    pub fn set_state(&mut self, room: RoomId, state: Option<RoomState>) {
        match state {
            Some(state) if state != RoomState::default() => self.states.insert(room, state),
            _ => self.states.remove(&room),
        };
    }

    pub fn role(&self, room: &RoomId, user: &UserId) -> Option<Role> {
        self.roles.get(room)?.get(user).copied()
    }

    pub fn has_overseers(&self, room: &RoomId) -> bool {
        self.roles.contains_key(room)
    }

    pub fn overseers(&self, room: &RoomId) -> Vec<UserId> {
        self.roles.get(room).into_iter().flat_map(|users| users.keys().cloned()).collect()
    }

    /// Returns whether he had a role.
    pub fn set_role(&mut self, room: &RoomId, user: UserId, role: Option<Role>) -> bool {
        match role {
            Some(role) => self.roles.entry(room.clone()).or_default().insert(user, role).is_some(),
            None => remove(&mut self.roles, room, &user),
        }
    }

    pub fn set_mute(&mut self, room: Option<RoomId>, user: UserId, mute: Option<MuteRecord>) {
        let mute = mute.map(|mute| {
            // A mute that is made longer began when it began.
            let goes_on = self.mutes_of(room.as_ref(), &user).filter(|known| known.until >= mute.at);
            Mute { at: goes_on.map_or(mute.at, |known| known.at.min(mute.at)), until: mute.until }
        });
        match (room, mute) {
            (None, Some(mute)) => drop(self.muted_everywhere.insert(user, mute)),
            (None, None) => drop(self.muted_everywhere.remove(&user)),
            (Some(room), Some(mute)) => drop(self.muted.entry(room).or_default().insert(user, mute)),
            (Some(room), None) => drop(remove(&mut self.muted, &room, &user)),
        }
    }

    /// Whether he was muted when he said something at `at`: the same answer whenever it is asked.
    pub fn was_muted(&self, room: &RoomId, user: &UserId, at: Millis) -> bool {
        self.mutes(room, user).any(|mute| (mute.at..mute.until).contains(&at))
    }

    pub fn muted_until(&self, room: &RoomId, user: &UserId, now: Millis) -> Option<Millis> {
        self.mutes(room, user).map(|mute| mute.until).filter(|until| *until > now).max()
    }

    /// The end of his mute here, or of that in every room.
    pub fn mute_until(&self, room: Option<&RoomId>, user: &UserId) -> Option<Millis> {
        self.mutes_of(room, user).map(|mute| mute.until)
    }

    fn mutes(&self, room: &RoomId, user: &UserId) -> impl Iterator<Item = &Mute> {
        self.mutes_of(Some(room), user).into_iter().chain(self.mutes_of(None, user))
    }

    fn mutes_of(&self, room: Option<&RoomId>, user: &UserId) -> Option<&Mute> {
        match room {
            Some(room) => self.muted.get(room)?.get(user),
            None => self.muted_everywhere.get(user),
        }
    }
}

fn remove<T>(rooms: &mut HashMap<RoomId, HashMap<UserId, T>>, room: &RoomId, user: &UserId) -> bool {
    let Some(users) = rooms.get_mut(room) else { return false };
    let was_there = users.remove(user).is_some();
    if users.is_empty() {
        rooms.remove(room);
    }
    was_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_counts_from_its_own_time_to_its_end_here_or_everywhere() {
        let mut standing = Standing::default();
        let (room, other) = (RoomId::new("a").unwrap(), RoomId::new("b").unwrap());
        let user = UserId::new("u").unwrap();
        let mute = |at, until| Some(MuteRecord { until, by: None, at });
        standing.set_mute(Some(room.clone()), user.clone(), mute(100, 200));
        let muted: Vec<_> = [99, 100, 199, 200].iter().map(|at| standing.was_muted(&room, &user, *at)).collect();
        assert_eq!(muted, [false, true, true, false]);
        assert!(!standing.was_muted(&other, &user, 150));
        standing.set_mute(None, user.clone(), mute(150, 300));
        assert_eq!(standing.muted_until(&room, &user, 120), Some(300));
        assert!(standing.was_muted(&other, &user, 150));
        standing.set_mute(None, user.clone(), mute(250, 400));
        assert!(standing.was_muted(&other, &user, 150), "it was made longer");
        standing.set_mute(None, user.clone(), None);
        standing.set_mute(Some(room.clone()), user.clone(), None);
        assert_eq!(standing.muted_until(&room, &user, 120), None);
        assert!(standing.muted.is_empty());
    }
}
