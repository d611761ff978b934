//! What is over, remembered for a while: a late duplicate is not sent again.

use std::collections::VecDeque;

use pushmesh_protocol::{Kind, LoginId, PushId, message::Millis};

/// Most ids remembered within one login, and within the user's own pushes.
pub const IDS_MAX: usize = 256;
/// Most logins of one user whose ids are remembered; the one settled longest ago goes first.
pub const LOGINS_MAX: usize = 8;
/// Most ends of logins remembered for one user.
pub const ENDED_MAX: usize = 32;

/// One user's settled pushes and ended logins.
#[derive(Debug, Default)]
pub struct Settled {
    /// `None`: pushes to the user himself, and ids whose login is not known.
    logins: VecDeque<(Option<LoginId>, VecDeque<PushId>)>,
    ended: VecDeque<(LoginId, Kind, Millis)>,
}

impl Settled {
    pub fn remember(&mut self, login: Option<&LoginId>, id: PushId) {
        let at = self.logins.iter().position(|(known, _)| known.as_ref() == login);
        let (login, mut ids) = match at.and_then(|at| self.logins.remove(at)) {
            Some(known) => known,
            None => (login.cloned(), VecDeque::new()),
        };
        if !ids.contains(&id) {
            push_bounded(&mut ids, id, IDS_MAX);
        }
        push_bounded(&mut self.logins, (login, ids), LOGINS_MAX);
    }

    pub fn contains(&self, id: PushId) -> bool {
        self.logins.iter().any(|(_, ids)| ids.contains(&id))
    }

    /// A login ended in one kind.
    pub fn end(&mut self, login: LoginId, kind: Kind, at: Millis) {
        match self.ended.iter_mut().find(|(ended, in_kind, _)| *ended == login && *in_kind == kind) {
            Some((.., known)) => *known = at.max(*known),
            None => push_bounded(&mut self.ended, (login, kind, at), ENDED_MAX),
        }
    }

    /// When a login ended in a kind.
    pub fn ended_at(&self, login: &LoginId, kind: &Kind) -> Option<Millis> {
        self.ended.iter().find(|(ended, in_kind, _)| ended == login && in_kind == kind).map(|(.., at)| *at)
    }
}

fn push_bounded<T>(list: &mut VecDeque<T>, value: T, limit: usize) {
    if list.len() == limit {
        list.pop_front();
    }
    list.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> PushId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PushId::from_bytes(bytes)
    }

    #[test]
    fn the_last_256_of_a_login_and_the_last_8_logins_are_remembered() {
        let mut settled = Settled::default();
        let login = |name: &str| LoginId::new(name).unwrap();
        for number in 0..257 {
            settled.remember(Some(&login("a")), id(number));
        }
        assert!(!settled.contains(id(0)));
        assert!(settled.contains(id(1)) && settled.contains(id(256)));
        for other in 0..LOGINS_MAX as u64 {
            settled.remember(Some(&login(&format!("b{other}"))), id(1_000 + other));
        }
        assert!(!settled.contains(id(256)));
        assert!(settled.contains(id(1_000)));
    }
}
