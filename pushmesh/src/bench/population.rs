//! Who the clients are, and by which push a login of theirs is known.
//!
//! Users stand in blocks. Each block is a group, a discussion and a department, so that every record is evaluated by all
//! three push services; a call goes on in one of them alone, another one from block to block: one push a login.

use pushmesh_protocol::{CallId, DeviceId, Kind, LoginId, PushId, Unit, UserId};
use serde::{Deserialize, Serialize};

/// Users that are in the same units.
pub const BLOCK: u64 = 50;
pub const KINDS: [&str; 3] = ["group", "discuss", "org"];

pub fn user(number: u64) -> UserId {
    UserId::new(&format!("u{number}")).expect("a token")
}

/// The one that everybody has.
pub fn device() -> DeviceId {
    DeviceId::new("phone").expect("a token")
}

pub fn unit(block: u64) -> Unit {
    Unit::new(&format!("b{block}")).expect("a unit")
}

/// The kind in which a block's calls are.
pub fn kind(block: u64) -> Kind {
    Kind::new(KINDS[(block % 3) as usize]).expect("a token")
}

/// A round of calls is one in each block.
pub fn call(round: &str, block: u64) -> CallId {
    CallId::new(&format!("{round}-{block}")).expect("a token")
}

/// The login that a client's token names.
pub fn own_login(number: u64) -> LoginId {
    LoginId::new(&format!("c{number}")).expect("a token")
}

/// The login of a record: of a run, and of its place in it.
pub fn record_login(run: u64, sequence: u64) -> LoginId {
    LoginId::new(&format!("r{run}-{sequence}")).expect("a token")
}

/// Which logins are told of a round of calls.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logins {
    /// Those of the clients' tokens, once each.
    Own,
    /// Those of a run's records, users in turn.
    Records { run: u64, users: u64 },
}

impl Logins {
    /// The user's `turn`th login: its number among all of them, and its id.
    fn of(self, user: u64, turn: u64) -> Option<(u64, LoginId)> {
        match self {
            Self::Own => (turn == 0).then(|| (user, own_login(user))),
            Self::Records { run, users } => {
                let sequence = turn * users + user;
                Some((sequence, record_login(run, sequence)))
            }
        }
    }

    /// Which login a push is for, and whose turn comes after; `None` if it is for none of the next.
    ///
    /// A push's id is a hash: the user's logins are tried, from the one that he has not seen yet.
    pub fn find(self, round: &str, user: u64, turn: u64, push: PushId) -> Option<(u64, u64)> {
        let block = user / BLOCK;
        let (kind, call, of) = (kind(block), call(round, block), self::user(user));
        let late = turn.saturating_sub(LATE)..turn;
        (turn..turn + EARLY).chain(late).find_map(|turn| {
            let (sequence, login) = self.of(user, turn)?;
            (PushId::of_call(&kind, &call, &of, &login) == push).then_some((sequence, turn + 1))
        })
    }
}

/// How many logins of a user may have been skipped, and how far back one may lie that comes late.
const EARLY: u64 = 256;
const LATE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_known_by_its_login() {
        let logins = Logins::Records { run: 3, users: 100 };
        let push = |sequence: u64, round| {
            PushId::of_call(&kind(1), &call(round, 1), &user(sequence % 100), &record_login(3, sequence))
        };
        assert_eq!(logins.find("a", 70, 0, push(70, "a")), Some((70, 1)));
        assert_eq!(logins.find("a", 70, 0, push(270, "a")), Some((270, 3)), "two were skipped");
        assert_eq!(logins.find("a", 70, 9, push(170, "a")), Some((170, 2)), "late");
        assert_eq!(logins.find("a", 70, 0, push(71, "a")), None, "another user's");
        assert_eq!(logins.find("a", 70, 0, push(70, "b")), None, "another call's");
    }

    #[test]
    fn a_clients_own_login_is_told_once() {
        let push = PushId::of_call(&kind(0), &call("a", 0), &user(7), &own_login(7));
        assert_eq!(Logins::Own.find("a", 7, 0, push), Some((7, 1)));
        assert_eq!(Logins::Own.find("a", 7, 1, push), Some((7, 1)), "a second time is seen as such");
    }
}
