//! What stands in the buckets `rooms` and `mutes`: states, roles, mutes, as this instance knows them.
//!
//! The watch tells all of it; what this instance wrote itself it knows at once. A lock, and no task: every send asks, nobody
//! holds it across an await, and a change takes as long as a table's insert.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use pushmesh_bus::{Entry, KvEvent};
use pushmesh_protocol::{
    RoomId, UserId,
    frame::{Role, RoomState},
    message::Millis,
    name::parse,
    room::{MuteRecord, RoleRecord, StateRecord},
    wire::{self, WireError},
};

use crate::refusal::{Code, Refusal};

/// Which of the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Rooms,
    Mutes,
}

/// Shared by every request.
#[derive(Debug, Default)]
pub struct Standing(RwLock<Book>);

#[derive(Debug, Default)]
struct Book {
    rooms: HashMap<RoomId, Room>,
    everywhere: HashMap<UserId, Kept<Millis>>,
    /// How often each bucket was told from the beginning.
    rounds: [u32; 2],
    current: [bool; 2],
}

#[derive(Debug, Default)]
struct Room {
    state: Option<Kept<RoomState>>,
    roles: HashMap<UserId, Kept<Role>>,
    mutes: HashMap<UserId, Kept<Millis>>,
}

#[derive(Debug, Clone, Copy)]
struct Kept<T> {
    value: T,
    revision: u64,
    round: u32,
}

/// Something that stands, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    State {
        room: RoomId,
        state: RoomState,
    },
    Role {
        room: RoomId,
        user: UserId,
        role: Role,
    },
    /// Without a room: in every one.
    Mute {
        room: Option<RoomId>,
        user: UserId,
        until: Millis,
    },
}

impl Standing {
    /// What the room is: of nobody's making, as rooms are by default.
    pub fn state(&self, room: &RoomId) -> RoomState {
        self.read().rooms.get(room).and_then(|room| room.state).map(|kept| kept.value).unwrap_or_default()
    }

    pub fn role(&self, room: &RoomId, user: &UserId) -> Option<Role> {
        self.read().rooms.get(room)?.roles.get(user).map(|kept| kept.value)
    }

    /// Hosts and admins.
    pub fn roles(&self, room: &RoomId) -> usize {
        self.read().rooms.get(room).map_or(0, |room| room.roles.len())
    }

    pub fn mutes(&self, room: &RoomId) -> usize {
        self.read().rooms.get(room).map_or(0, |room| room.mutes.len())
    }

    /// Until when the user may not speak there, if he may not.
    pub fn muted(&self, room: &RoomId, user: &UserId, now: Millis) -> Option<Millis> {
        let book = self.read();
        let here = book.rooms.get(room).and_then(|room| room.mutes.get(user));
        let untils = [here, book.everywhere.get(user)].into_iter().flatten().map(|kept| kept.value);
        untils.max().filter(|until| *until > now)
    }

    /// That something may be sent into the room.
    pub fn admits(&self, room: &RoomId) -> Result<(), Refusal> {
        let refused = |code, message: &str| Err(Refusal { field: Some("room".into()), ..Refusal::new(code, message) });
        match self.state(room) {
            RoomState { banned: true, .. } => {
                refused(Code::RoomBanned, "the room is banned: nothing may be sent there")
            }
            RoomState { open: false, .. } => refused(Code::RoomClosed, "the room is closed: nothing may be sent there"),
            RoomState { .. } => Ok(()),
        }
    }

    /// That the user may speak in the room.
    pub fn lets_speak(&self, room: &RoomId, user: &UserId, now: Millis) -> Result<(), Refusal> {
        match self.muted(room, user, now) {
            None => Ok(()),
            Some(until) => Err(Refusal {
                field: Some("from".into()),
                until: Some(until),
                ..Refusal::new(Code::Muted, format!("{user} is muted for another {} s", (until - now).div_ceil(1000)))
            }),
        }
    }

    /// Whether both buckets are known.
    pub fn is_current(&self) -> bool {
        self.read().current == [true; 2]
    }

    /// What a watch told. An error: a record nobody can read, which changes nothing.
    pub fn apply(&self, half: Half, event: KvEvent) -> Option<WireError> {
        let mut book = self.write();
        match event {
            KvEvent::Put(entry) => match read(half, &entry) {
                Ok(Some(fact)) => book.put(half, fact, entry.revision),
                // Somebody else's key.
                Ok(None) => {}
                Err(error) => return Some(error),
            },
            KvEvent::Gone { key, revision, .. } => book.gone(half, &key, revision),
            KvEvent::Restarted => book.rounds[half as usize] += 1,
            KvEvent::Current => {
                book.sweep(half);
                book.current[half as usize] = true;
            }
        }
        None
    }

    /// What this instance wrote: it holds from now on, whatever the watch still has to tell of before.
    pub fn wrote(&self, fact: Fact, revision: u64) {
        let half = match fact {
            Fact::State { .. } | Fact::Role { .. } => Half::Rooms,
            Fact::Mute { .. } => Half::Mutes,
        };
        self.write().put(half, fact, revision);
    }

    // A panic while it was held has left no table half written.
    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn put(&mut self, half: Half, fact: Fact, revision: u64) {
        let round = self.rounds[half as usize];
        match fact {
            Fact::State { room, state } => {
                let kept = &mut self.rooms.entry(room).or_default().state;
                if kept.is_none_or(|kept| kept.revision <= revision) {
                    *kept = Some(Kept { value: state, revision, round });
                }
            }
            Fact::Role { room, user, role } => {
                newer(&mut self.rooms.entry(room).or_default().roles, user, role, revision, round);
            }
            Fact::Mute { room: Some(room), user, until } => {
                newer(&mut self.rooms.entry(room).or_default().mutes, user, until, revision, round);
            }
            Fact::Mute { room: None, user, until } => newer(&mut self.everywhere, user, until, revision, round),
        }
    }

    fn gone(&mut self, half: Half, key: &str, revision: u64) {
        let room = match half {
            Half::Rooms => match (parse::room_state(key), parse::room_role(key)) {
                (Some(room), _) => {
                    if let Some(known) = self.rooms.get_mut(&room) {
                        known.state = known.state.filter(|kept| kept.revision > revision);
                    }
                    room
                }
                (None, Some((room, user))) => {
                    if let Some(known) = self.rooms.get_mut(&room) {
                        older(&mut known.roles, &user, revision);
                    }
                    room
                }
                (None, None) => return,
            },
            Half::Mutes => match parse::mute(key) {
                Some((Some(room), user)) => {
                    if let Some(known) = self.rooms.get_mut(&room) {
                        older(&mut known.mutes, &user, revision);
                    }
                    room
                }
                Some((None, user)) => return older(&mut self.everywhere, &user, revision),
                None => return,
            },
        };
        if self.rooms.get(&room).is_some_and(Room::is_empty) {
            self.rooms.remove(&room);
        }
    }

    /// The bucket has been told from the beginning: what it did not mention is gone.
    fn sweep(&mut self, half: Half) {
        let round = self.rounds[half as usize];
        self.rooms.retain(|_, room| {
            match half {
                Half::Rooms => {
                    room.state = room.state.filter(|kept| kept.round == round);
                    room.roles.retain(|_, kept| kept.round == round);
                }
                Half::Mutes => room.mutes.retain(|_, kept| kept.round == round),
            }
            !room.is_empty()
        });
        if half == Half::Mutes {
            self.everywhere.retain(|_, kept| kept.round == round);
        }
    }
}

impl Room {
    fn is_empty(&self) -> bool {
        self.state.is_none() && self.roles.is_empty() && self.mutes.is_empty()
    }
}

fn newer<T>(table: &mut HashMap<UserId, Kept<T>>, user: UserId, value: T, revision: u64, round: u32) {
    if table.get(&user).is_none_or(|kept| kept.revision <= revision) {
        table.insert(user, Kept { value, revision, round });
    }
}

fn older<T>(table: &mut HashMap<UserId, Kept<T>>, user: &UserId, revision: u64) {
    if table.get(user).is_some_and(|kept| kept.revision <= revision) {
        table.remove(user);
    }
}

fn read(half: Half, entry: &Entry) -> Result<Option<Fact>, WireError> {
    let (key, value) = (entry.key.as_str(), &entry.value);
    Ok(match half {
        Half::Rooms => match (parse::room_state(key), parse::room_role(key)) {
            (Some(room), _) => Some(Fact::State { room, state: wire::decode::<StateRecord>(value)?.state }),
            (None, Some((room, user))) => {
                Some(Fact::Role { room, user, role: wire::decode::<RoleRecord>(value)?.role })
            }
            (None, None) => None,
        },
        Half::Mutes => match parse::mute(key) {
            Some((room, user)) => Some(Fact::Mute { room, user, until: wire::decode::<MuteRecord>(value)?.until }),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use pushmesh_bus::GoneReason;
    use pushmesh_protocol::name::Key;

    use super::*;

    fn room() -> RoomId {
        RoomId::new("stage").unwrap()
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn put(standing: &Standing, half: Half, key: &Key, value: Vec<u8>, revision: u64) {
        let entry = Entry { key: key.to_string(), value: value.into(), revision, at: 1 };
        assert!(standing.apply(half, KvEvent::Put(entry)).is_none());
    }

    fn gone(standing: &Standing, half: Half, key: &Key, revision: u64) {
        let event = KvEvent::Gone { key: key.to_string(), revision, reason: GoneReason::Deleted };
        assert!(standing.apply(half, event).is_none());
    }

    fn mute(until: Millis) -> Vec<u8> {
        wire::encode(&MuteRecord { until, by: None, at: 1 })
    }

    #[test]
    fn a_mute_here_or_everywhere_holds_until_its_time() {
        let standing = Standing::default();
        let here = Key::mute_in(&room(), &user("troll"));
        put(&standing, Half::Mutes, &here, mute(100), 1);
        put(&standing, Half::Mutes, &Key::mute_everywhere(&user("troll")), mute(50), 2);
        assert_eq!(standing.muted(&room(), &user("troll"), 99), Some(100));
        assert_eq!(standing.muted(&room(), &user("troll"), 100), None, "whether or not the key has gone");
        assert_eq!(standing.muted(&RoomId::new("other").unwrap(), &user("troll"), 49), Some(50));
        assert_eq!(standing.muted(&room(), &user("alice"), 1), None);
        gone(&standing, Half::Mutes, &here, 3);
        assert_eq!(standing.muted(&room(), &user("troll"), 1), Some(50));
        let refused = standing.lets_speak(&room(), &user("troll"), 1).unwrap_err();
        assert_eq!((refused.code, refused.until), (Code::Muted, Some(50)));
        assert_eq!(refused.message, "troll is muted for another 1 s");
    }

    #[test]
    fn a_banned_or_closed_room_takes_nothing() {
        let standing = Standing::default();
        assert!(standing.admits(&room()).is_ok());
        let state = |open, banned| {
            let state = RoomState { open, banned, ..RoomState::default() };
            wire::encode(&StateRecord { state, at: 1 })
        };
        let key = Key::room_state(&room());
        put(&standing, Half::Rooms, &key, state(false, true), 1);
        assert_eq!(standing.admits(&room()).unwrap_err().code, Code::RoomBanned);
        put(&standing, Half::Rooms, &key, state(false, false), 2);
        assert_eq!(standing.admits(&room()).unwrap_err().code, Code::RoomClosed);
        gone(&standing, Half::Rooms, &key, 3);
        assert!(standing.admits(&room()).is_ok());
        assert!(standing.read().rooms.is_empty(), "nothing stays of a room of which nothing stands");
    }

    #[test]
    fn what_was_written_here_is_not_undone_by_what_the_watch_tells_of_before() {
        let standing = Standing::default();
        let key = Key::room_role(&room(), &user("alice"));
        let role = |role| wire::encode(&RoleRecord { role, at: 1 });
        standing.wrote(Fact::Role { room: room(), user: user("alice"), role: Role::Host }, 10);
        put(&standing, Half::Rooms, &key, role(Role::Admin), 8);
        gone(&standing, Half::Rooms, &key, 9);
        assert_eq!(standing.role(&room(), &user("alice")), Some(Role::Host));
        assert_eq!(standing.roles(&room()), 1);
        gone(&standing, Half::Rooms, &key, 11);
        assert_eq!(standing.role(&room(), &user("alice")), None);
    }

    #[test]
    fn a_bucket_told_again_ends_what_it_does_not_mention() {
        let standing = Standing::default();
        let (here, there) = (Key::mute_in(&room(), &user("a")), Key::mute_everywhere(&user("b")));
        put(&standing, Half::Mutes, &here, mute(9), 1);
        put(&standing, Half::Mutes, &there, mute(9), 2);
        standing.apply(Half::Mutes, KvEvent::Current);
        assert!(!standing.is_current());
        standing.apply(Half::Rooms, KvEvent::Current);
        assert!(standing.is_current());
        standing.apply(Half::Mutes, KvEvent::Restarted);
        put(&standing, Half::Mutes, &there, mute(9), 2);
        standing.apply(Half::Mutes, KvEvent::Current);
        assert_eq!(standing.muted(&room(), &user("a"), 1), None);
        assert_eq!(standing.muted(&room(), &user("b"), 1), Some(9));
    }

    #[test]
    fn what_nobody_can_read_changes_nothing() {
        let standing = Standing::default();
        let entry = |key: &str| Entry { key: key.into(), value: vec![0xc1].into(), revision: 1, at: 1 };
        assert!(standing.apply(Half::Rooms, KvEvent::Put(entry("state.stage"))).is_some());
        assert!(standing.apply(Half::Rooms, KvEvent::Put(entry("another.key.than.ours"))).is_none());
        assert!(standing.admits(&room()).is_ok());
    }
}
