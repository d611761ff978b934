//! [`Book`]: all that stands in both buckets, by where it belongs.

use std::collections::{HashMap, HashSet};

use pushmesh_bus::KvEvent;
use pushmesh_protocol::{
    Partition, Partitions, RoomId,
    name::{Key, parse},
    room::{MuteRecord, RoleRecord, StateRecord},
    wire::{self, WireError},
};

use super::Fact;
use crate::metrics::Metrics;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Rooms,
    Mutes,
}

/// All that stands, by where it belongs.
pub(super) struct Book {
    partitions: Partitions,
    rooms: Shelf,
    mutes: Shelf,
}

/// One bucket's facts, by key.
#[derive(Default)]
struct Shelf {
    facts: HashMap<String, (Option<Partition>, Fact)>,
    is_current: bool,
    /// While a snapshot is told again: the keys that it has not mentioned yet.
    unmentioned: Option<HashSet<String>>,
}

impl Book {
    pub fn new(partitions: Partitions) -> Self {
        Self { partitions, rooms: Shelf::default(), mutes: Shelf::default() }
    }

    pub fn is_current(&self) -> bool {
        self.rooms.is_current && self.mutes.is_current
    }

    pub fn of(&self, partition: Partition) -> Vec<Fact> {
        let all = self.rooms.facts.values().chain(self.mutes.facts.values());
        let here = all.filter(|(of, _)| of.is_none_or(|of| of == partition));
        here.map(|(_, fact)| fact.clone()).collect()
    }

    /// What changed, and for which partition; `None`: for all.
    pub fn apply(&mut self, half: Half, event: KvEvent, metrics: &Metrics) -> Vec<(Option<Partition>, Fact)> {
        let partitions = self.partitions;
        let shelf = match half {
            Half::Rooms => &mut self.rooms,
            Half::Mutes => &mut self.mutes,
        };
        match event {
            KvEvent::Put(entry) => match read(half, &entry.key, &entry.value) {
                Ok(Some(fact)) => {
                    let partition = room_of(&fact).map(|room| partitions.of_room(room));
                    shelf.put(entry.key, partition, fact).into_iter().collect()
                }
                // Somebody else's key.
                Ok(None) => Vec::new(),
                Err(error) => {
                    tracing::error!(key = entry.key, %error, "a key of rooms or mutes can't be read");
                    metrics.malformed_standing.increment(1);
                    Vec::new()
                }
            },
            KvEvent::Gone { key, .. } => shelf.remove(&key).into_iter().collect(),
            KvEvent::Restarted => {
                shelf.unmentioned = Some(shelf.facts.keys().cloned().collect());
                Vec::new()
            }
            KvEvent::Current => {
                shelf.is_current = true;
                let gone = shelf.unmentioned.take().unwrap_or_default();
                gone.iter().filter_map(|key| shelf.remove(key)).collect()
            }
        }
    }
}

impl Shelf {
    fn put(&mut self, key: String, partition: Option<Partition>, fact: Fact) -> Option<(Option<Partition>, Fact)> {
        if let Some(unmentioned) = &mut self.unmentioned {
            unmentioned.remove(&key);
        }
        let entry = (partition, fact);
        if self.facts.get(&key) == Some(&entry) {
            return None;
        }
        self.facts.insert(key, entry.clone());
        Some(entry)
    }

    fn remove(&mut self, key: &str) -> Option<(Option<Partition>, Fact)> {
        let (partition, fact) = self.facts.remove(key)?;
        Some((partition, ended(fact)))
    }
}

fn read(half: Half, key: &str, value: &[u8]) -> Result<Option<Fact>, WireError> {
    Ok(match half {
        Half::Rooms => {
            if let Some(room) = parse::room_state(key) {
                let record: StateRecord = wire::decode(value)?;
                Some(Fact::State { room, state: Some(record.state) })
            } else if let Some((room, user)) = parse::room_role(key) {
                let record: RoleRecord = wire::decode(value)?;
                Some(Fact::Role { room, user, role: Some(record.role) })
            } else {
                None
            }
        }
        Half::Mutes => match parse::mute(key) {
            Some((room, user)) => {
                let record: MuteRecord = wire::decode(value)?;
                Some(Fact::Mute { room, user, mute: Some(record) })
            }
            None => None,
        },
    })
}

/// In its bucket.
pub(super) fn key(fact: &Fact) -> String {
    let key = match fact {
        Fact::State { room, .. } => Key::room_state(room),
        Fact::Role { room, user, .. } => Key::room_role(room, user),
        Fact::Mute { room: Some(room), user, .. } => Key::mute_in(room, user),
        Fact::Mute { room: None, user, .. } => Key::mute_everywhere(user),
    };
    key.to_string()
}

fn room_of(fact: &Fact) -> Option<&RoomId> {
    match fact {
        Fact::State { room, .. } | Fact::Role { room, .. } => Some(room),
        Fact::Mute { room, .. } => room.as_ref(),
    }
}

/// That it does not stand any more.
pub(super) fn ended(fact: Fact) -> Fact {
    match fact {
        Fact::State { room, .. } => Fact::State { room, state: None },
        Fact::Role { room, user, .. } => Fact::Role { room, user, role: None },
        Fact::Mute { room, user, .. } => Fact::Mute { room, user, mute: None },
    }
}
