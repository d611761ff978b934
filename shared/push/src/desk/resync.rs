//! What a snapshot that is read again has not mentioned yet. Empty except between a watch's restart and its end.

use std::collections::HashSet;

use pushmesh_protocol::{ConnId, Unit, UserId};

use super::roll::Roll;

#[derive(Debug, Default)]
pub(super) struct Resync {
    sessions: Option<HashSet<(UserId, ConnId)>>,
    standing: Option<HashSet<(UserId, ConnId)>>,
    members: Option<HashSet<(UserId, Box<str>)>>,
}

impl Resync {
    pub(super) fn sessions_restarted(&mut self) {
        self.sessions = Some(HashSet::new());
        self.standing = Some(HashSet::new());
    }

    pub(super) fn saw_session(&mut self, user: &UserId, conn: &ConnId) {
        if let Some(seen) = &mut self.sessions {
            seen.insert((user.clone(), conn.clone()));
        }
    }

    pub(super) fn saw_standing(&mut self, user: &UserId, conn: &ConnId) {
        if let Some(seen) = &mut self.standing {
            seen.insert((user.clone(), conn.clone()));
        }
    }

    /// Words of logins that sessions began with that stand on the roll and were not mentioned.
    pub(super) fn standing_missing(&mut self, roll: &Roll) -> Vec<(UserId, ConnId)> {
        let Some(seen) = self.standing.take() else { return Vec::new() };
        let held = roll.present();
        let held = held.flat_map(|(user, presence)| presence.standing().map(move |conn| (user.clone(), conn.clone())));
        held.filter(|word| !seen.contains(word)).collect()
    }

    /// Sessions that stand on the roll and were not mentioned.
    pub(super) fn sessions_missing(&mut self, roll: &Roll) -> Vec<(UserId, ConnId)> {
        let Some(seen) = self.sessions.take() else { return Vec::new() };
        let held =
            roll.present().flat_map(|(user, presence)| presence.conns().map(move |conn| (user.clone(), conn.clone())));
        held.filter(|session| !seen.contains(session)).collect()
    }

    pub(super) fn members_restarted(&mut self) {
        self.members = Some(HashSet::new());
    }

    pub(super) fn saw_member(&mut self, user: &UserId, unit: &str) {
        if let Some(seen) = &mut self.members {
            seen.insert((user.clone(), unit.into()));
        }
    }

    /// Memberships that stand on the roll and were not mentioned.
    pub(super) fn members_missing(&mut self, roll: &Roll) -> Vec<(UserId, Unit)> {
        let Some(seen) = self.members.take() else { return Vec::new() };
        roll.all()
            .filter(|(user, unit)| !seen.contains(&((*user).clone(), Box::from(*unit))))
            .filter_map(|(user, unit)| Some((user.clone(), Unit::from_levels(unit.split('.')).ok()?)))
            .collect()
    }
}
