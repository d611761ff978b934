//! Where a user is: his connections, as `sess` has them, and their rooms, as their comets know them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pushmesh_bus::Entry;
use pushmesh_protocol::{
    ConnId, Instance, RoomId, UserId,
    message::Session,
    name::{KeyFilter, Subject, parse},
    room::{CometRooms, CometRoomsAsk},
    wire::{self, WireError},
};

use crate::{api::Api, refusal::Refusal};

/// A comet is asked for so long.
const COMET_WITHIN: Duration = Duration::from_secs(2);

/// What a user's keys of `sess` say.
struct Found {
    /// The oldest first.
    sessions: Vec<(ConnId, Session)>,
    malformed: Vec<(String, WireError)>,
}

impl Found {
    fn in_keys(entries: Vec<Entry>) -> Self {
        let (mut newest, mut malformed) = (BTreeMap::new(), Vec::new());
        for Entry { key, value, .. } in entries {
            // What became of its login stands beside a session, and is none.
            let Some((_, _, conn)) = parse::session(&key) else { continue };
            match wire::decode::<Session>(&value) {
                // A key that is written meanwhile comes twice, its newest last.
                Ok(session) => drop(newest.insert(conn, session)),
                Err(error) => malformed.push((key, error)),
            }
        }
        let mut sessions: Vec<_> = newest.into_iter().collect();
        sessions.sort_by(|(_, one), (_, other)| (one.since, &one.device).cmp(&(other.since, &other.device)));
        Self { sessions, malformed }
    }
}

impl Api {
    /// The user's sessions, the oldest first.
    pub async fn sessions(&self, user: &UserId) -> Result<Vec<(ConnId, Session)>, Refusal> {
        let filter = KeyFilter::of_user(self.partitions.of_user(user), user);
        let entries = self.reads.sessions.entries(filter).await.map_err(|error| self.unread(&error))?;
        let Found { sessions, malformed } = Found::in_keys(entries);
        for (key, error) in malformed {
            tracing::error!(key, %error, "a session can't be read");
            self.metrics.malformed.increment(1);
        }
        Ok(sessions)
    }

    /// The rooms where the user is now, or that he is entering. Those at a comet that does not say so in time are missing.
    pub async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomId>, Refusal> {
        let mut comets: BTreeMap<Instance, Vec<ConnId>> = BTreeMap::new();
        for (conn, session) in self.sessions(user).await? {
            if session.left.is_none() {
                comets.entry(session.comet).or_default().push(conn);
            }
        }
        // Of a comet that died the sessions stand for a while.
        let living = self.reads.comets.lock().seen(Instant::now());
        comets.retain(|comet, _| living.iter().any(|seen| seen.comet == *comet));
        let asked = comets.into_iter().map(|(comet, connections)| self.rooms_at(comet, connections));
        let rooms: BTreeSet<_> = join_all(asked).await.into_iter().flatten().collect();
        Ok(rooms.into_iter().collect())
    }

    async fn rooms_at(&self, comet: Instance, connections: Vec<ConnId>) -> Vec<RoomId> {
        let ask = wire::encode(&CometRoomsAsk { connections });
        let answer = self.bus.request(Subject::comet_rooms(&comet), ask.into(), COMET_WITHIN).await;
        let problem = match answer.map(|answer| wire::decode::<CometRooms>(&answer)) {
            Ok(Ok(CometRooms { rooms })) => return rooms,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(%comet, problem, "a comet did not say in which rooms a user is: they are not told of his mute");
        self.metrics.comets_silent.increment(1);
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{
        DeviceId, LoginId, Partition,
        message::{EndedBy, SessionLogin},
        name::Key,
    };

    use super::*;

    fn user() -> UserId {
        UserId::new("alice").unwrap()
    }

    fn session(device: &str, since: u64) -> Session {
        Session {
            login_id: LoginId::new("l1").unwrap(),
            device: DeviceId::new(device).unwrap(),
            comet: Instance::new("comet-1").unwrap(),
            comet_epoch: 3,
            since,
            left: None,
        }
    }

    fn entry(key: Key, value: Vec<u8>) -> Entry {
        Entry { key: key.to_string(), value: value.into(), revision: 1, at: 1 }
    }

    fn put(conn: &str, session: &Session) -> Entry {
        entry(Key::session(Partition(0), &user(), &ConnId::new(conn).unwrap()), wire::encode(session))
    }

    #[test]
    fn what_stands_beside_a_session_is_none_and_nothing_malformed() {
        let conn = ConnId::new("c1").unwrap();
        let Session { login_id, device, since, .. } = session("phone", 10);
        let became = SessionLogin { began: login_id, device, since, by: EndedBy { sequence: 5, successor: None } };
        let beside = entry(Key::session_login(Partition(0), &user(), &conn), wire::encode(&became));
        let found = Found::in_keys(vec![beside.clone(), put("c1", &session("phone", 10)), beside]);
        assert_eq!(found.sessions, [(conn, session("phone", 10))]);
        assert!(found.malformed.is_empty(), "{:?}", found.malformed);
    }

    #[test]
    fn the_newest_word_of_each_connection_counts_and_the_oldest_session_is_the_first() {
        let unreadable = entry(Key::session(Partition(0), &user(), &ConnId::new("c3").unwrap()), b"x".to_vec());
        let left = Session { left: Some(30), ..session("phone", 20) };
        let entries =
            vec![put("c1", &session("phone", 20)), put("c2", &session("laptop", 10)), put("c1", &left), unreadable];
        let Found { sessions, malformed } = Found::in_keys(entries);
        let conn = |name| ConnId::new(name).unwrap();
        assert_eq!(sessions, [(conn("c2"), session("laptop", 10)), (conn("c1"), left)]);
        assert_eq!(malformed.len(), 1);
    }
}
