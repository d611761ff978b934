//! Where a user is: his connections, as `sess` has them, and their rooms, as their comets know them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pushmesh_protocol::{
    ConnId, Instance, RoomId, UserId,
    message::Session,
    name::{KeyFilter, Subject, parse},
    room::{CometRooms, CometRoomsAsk},
    wire,
};

use crate::{api::Api, refusal::Refusal};

/// A comet is asked for so long.
const COMET_WITHIN: Duration = Duration::from_millis(500);

impl Api {
    /// The user's sessions, the oldest first.
    pub async fn sessions(&self, user: &UserId) -> Result<Vec<(ConnId, Session)>, Refusal> {
        let filter = KeyFilter::of_user(self.partitions.of_user(user), user);
        let entries = self.reads.sessions.entries(filter).await.map_err(|error| self.unread(&error))?;
        // A key that is written meanwhile comes twice, its newest last.
        let mut newest = BTreeMap::new();
        for entry in entries {
            // What became of its login stands beside a session.
            let Some((_, _, conn)) = parse::session(&entry.key) else { continue };
            match wire::decode::<Session>(&entry.value) {
                Ok(session) => {
                    newest.insert(conn, session);
                }
                Err(error) => {
                    tracing::error!(key = entry.key, %error, "a session can't be read");
                    self.metrics.malformed.increment(1);
                }
            }
        }
        let mut sessions: Vec<_> = newest.into_iter().collect();
        sessions.sort_by(|(_, one), (_, other)| (one.since, &one.device).cmp(&(other.since, &other.device)));
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
