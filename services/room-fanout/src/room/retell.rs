//! [`Retell`]: whether a room was told last what the buckets say.
//!
//! A mute or a role is written to its bucket and then told, and of two that change it at the same time the one whose word
//! stands may be told first. The bucket is right: a while after a room was told something of a user it is compared, and where
//! it says something else the room is told again. In no chain: what the stream holds stays as it was said.

use std::collections::HashMap;

use pushmesh_protocol::{
    RoomId, UserId,
    content::Content,
    frame::{Chain, Role, RoomItem},
    message::Millis,
    room::{RoomEvent, RoomHappening},
};

use super::standing::Standing;

/// How long after it was told, and then again: the bucket's own word may come later than the stream's. Where its watch has to
/// be made anew (silence is noticed after 5 s, another leader may take 9) what is seen until then is old, and what it makes the
/// room be told is wrong: the last look is after that.
const LOOKS: [Millis; 3] = [1_000, 5_000, 30_000];
/// Told so many things that were not looked at yet, a room looks at once.
const WAITING_MAX: usize = 256;

/// What was told of whom, and not compared for the last time.
#[derive(Debug, Default)]
pub(super) struct Retell {
    told: HashMap<(UserId, Of), Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Mute { everywhere: bool },
    Role,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    what: What,
    at: Millis,
    looks: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Until when; 0: no more.
    Muted(Millis),
    Role(Option<Role>),
}

impl Retell {
    /// The room is told this.
    pub fn note(&mut self, what: &RoomHappening, now: Millis) {
        let (user, of, what) = match what {
            RoomHappening::Mute { user, until, everywhere } => {
                (user, Of::Mute { everywhere: *everywhere }, What::Muted(*until))
            }
            RoomHappening::Role { user, role } => (user, Of::Role, What::Role(*role)),
            RoomHappening::State(_) | RoomHappening::Kick { .. } | RoomHappening::Message { .. } => return,
        };
        self.told.insert((user.clone(), of), Told { what, at: now, looks: 0 });
    }

    /// When something has to be compared.
    pub fn due(&self) -> Option<Millis> {
        if self.told.len() > WAITING_MAX {
            return Some(0);
        }
        self.told.values().map(Told::due).min()
    }

    /// What has to be told again.
    pub fn look(&mut self, room: &RoomId, standing: &Standing, now: Millis) -> Vec<RoomItem> {
        let is_full = self.told.len() > WAITING_MAX;
        let mut again = Vec::new();
        self.told.retain(|(user, of), told| {
            if !is_full && told.due() > now {
                return true;
            }
            let stands = match of {
                Of::Mute { everywhere } => {
                    What::Muted(standing.mute_until((!everywhere).then_some(room), user).unwrap_or(0))
                }
                Of::Role => What::Role(standing.role(room, user)),
            };
            if stands.now(now) != told.what.now(now) {
                again.push(item(room, user, stands.now(now), *of == Of::Mute { everywhere: true }, now));
                told.what = stands;
            }
            told.looks += 1;
            !is_full && told.looks < LOOKS.len()
        });
        again
    }

    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl Told {
    fn due(&self) -> Millis {
        self.at + LOOKS[self.looks.min(LOOKS.len() - 1)]
    }
}

impl What {
    /// A mute whose time is over is none.
    fn now(self, now: Millis) -> Self {
        match self {
            Self::Muted(until) if until <= now => Self::Muted(0),
            what => what,
        }
    }
}

fn item(room: &RoomId, user: &UserId, what: What, everywhere: bool, now: Millis) -> RoomItem {
    let user = user.clone();
    let what = match what {
        What::Muted(until) => RoomHappening::Mute { user, until, everywhere },
        What::Role(role) => RoomHappening::Role { user, role },
    };
    Content::from(&RoomEvent { room: room.clone(), by: None, at: now, what, trace: None }).at(Chain::Loose, 0, 0)
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::room::MuteRecord;

    use super::*;

    fn room() -> RoomId {
        RoomId::new("room").unwrap()
    }

    fn user(n: usize) -> UserId {
        UserId::new(&format!("user{n}")).unwrap()
    }

    fn told(items: Vec<RoomItem>) -> Vec<(String, String)> {
        items
            .into_iter()
            .map(|item| (item.kind.to_string(), String::from_utf8(item.data.0.to_vec()).unwrap()))
            .collect()
    }

    fn muted(n: usize, until: Millis) -> RoomHappening {
        RoomHappening::Mute { user: user(n), until, everywhere: false }
    }

    #[test]
    fn what_was_told_in_the_wrong_order_is_told_again_as_it_stands() {
        let (mut retell, mut standing) = (Retell::default(), Standing::default());
        let stands = |until| Some(MuteRecord { until, by: None, at: 0 });
        standing.set_mute(Some(room()), user(1), stands(90_000));
        standing.set_mute(Some(room()), user(2), stands(50_000));
        standing.set_role(&room(), user(3), Some(Role::Admin));
        // His longer mute stands, and was told first.
        retell.note(&muted(1, 90_000), 100);
        retell.note(&muted(1, 50_000), 110);
        retell.note(&muted(2, 50_000), 120);
        retell.note(&RoomHappening::Role { user: user(3), role: None }, 130);
        assert_eq!(retell.due(), Some(1_110));
        let again = told(retell.look(&room(), &standing, 1_500));
        assert_eq!(again.len(), 2, "{again:?}");
        assert!(again.iter().any(|(kind, data)| kind == "mute" && data.contains("90000")), "{again:?}");
        assert!(again.iter().any(|(kind, data)| kind == "role" && data.contains("admin")), "{again:?}");
        // The bucket's word may come last.
        assert_eq!(retell.due(), Some(5_110));
        standing.set_role(&room(), user(3), None);
        let again = told(retell.look(&room(), &standing, 6_000));
        assert!(again.len() == 1 && again[0].0 == "role" && !again[0].1.contains("admin"), "{again:?}");
        assert_eq!(retell.due(), Some(30_110));
        assert_eq!(told(retell.look(&room(), &standing, 30_200)), []);
        assert!(retell.is_empty() && retell.due().is_none());
    }

    #[test]
    fn what_an_old_view_of_the_bucket_made_a_room_be_told_does_not_stay() {
        let (mut retell, mut standing) = (Retell::default(), Standing::default());
        // The bucket holds it, and its watch has nothing to say for a while.
        retell.note(&muted(1, 90_000), 100);
        let again = told(retell.look(&room(), &standing, 1_200));
        assert!(again.len() == 1 && !again[0].1.contains("90000"), "{again:?}");
        assert_eq!(told(retell.look(&room(), &standing, 5_200)), [], "as it was told last");
        standing.set_mute(Some(room()), user(1), Some(MuteRecord { until: 90_000, by: None, at: 100 }));
        let again = told(retell.look(&room(), &standing, retell.due().unwrap()));
        assert!(again.len() == 1 && again[0].1.contains("90000"), "{again:?}");
        assert!(retell.is_empty());
    }

    #[test]
    fn a_mute_that_has_ended_is_none_and_a_flood_is_looked_at_at_once() {
        let (mut retell, standing) = (Retell::default(), Standing::default());
        retell.note(&muted(1, 1_000), 100);
        assert_eq!(told(retell.look(&room(), &standing, 1_200)), []);
        for n in 0..=WAITING_MAX {
            retell.note(&muted(n, 0), 2_000);
        }
        assert_eq!(retell.due(), Some(0));
        assert_eq!(told(retell.look(&room(), &standing, 2_000)), []);
        assert!(retell.is_empty());
    }
}
