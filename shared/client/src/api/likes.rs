//! Likes that wait to be sent: sums, so that a storm of taps is one request a second.

use std::collections::HashMap;

use pushmesh_protocol::RoomId;

/// Most rooms that likes may wait for.
const ROOMS_MAX: usize = 256;
/// Most likes that may wait for one room: a client that is offline doesn't come back with a day's worth.
const WAITING_MAX: u32 = 10_000;

/// How many likes were given, and what became of them; the rest still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LikeStats {
    pub given: u64,
    /// Counted by the mesh.
    pub accepted: u64,
    /// Not counted: more than the mesh takes of one user, or than may wait here.
    pub refused: u64,
    /// Sent and not answered: counted or not. They are not sent again, so that none counts twice.
    pub unknown: u64,
}

/// What became of likes that were sent.
pub(super) enum Fate {
    Accepted(u32),
    Refused,
    NotSent,
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Likes {
    waiting: HashMap<RoomId, u32>,
    /// A task sends them.
    pub sending: bool,
    pub stats: LikeStats,
}

impl Likes {
    pub fn add(&mut self, room: &RoomId, count: u32) {
        self.stats.given += u64::from(count);
        self.wait(room, count);
    }

    fn wait(&mut self, room: &RoomId, count: u32) {
        if self.waiting.len() == ROOMS_MAX && !self.waiting.contains_key(room) {
            self.stats.refused += u64::from(count);
            return;
        }
        let waiting = self.waiting.entry(room.clone()).or_default();
        let taken = count.min(WAITING_MAX - *waiting);
        *waiting += taken;
        self.stats.refused += u64::from(count - taken);
    }

    /// What is to be sent now.
    pub fn take(&mut self) -> Vec<(RoomId, u32)> {
        self.waiting.drain().filter(|(_, count)| *count > 0).collect()
    }

    pub fn sent(&mut self, room: &RoomId, count: u32, fate: Fate) {
        match fate {
            Fate::Accepted(accepted) => {
                let accepted = accepted.min(count);
                self.stats.accepted += u64::from(accepted);
                self.stats.refused += u64::from(count - accepted);
            }
            Fate::Refused => self.stats.refused += u64::from(count),
            Fate::NotSent => self.wait(room, count),
            Fate::Unknown => self.stats.unknown += u64::from(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Option<u8>> {
        prop::option::of(0..4u8)
    }

    proptest! {
        // Every like is accounted for exactly once, whatever becomes of it.
        #[test]
        fn likes_are_conserved(acts in prop::collection::vec((0..400usize, 0..5_000u32, outcome()), 1..600)) {
            let mut likes = Likes::default();
            for (room, count, outcome) in acts {
                likes.add(&RoomId::new(&format!("r{room}")).unwrap(), count);
                let Some(outcome) = outcome else { continue };
                for (room, count) in likes.take() {
                    let fate = match outcome {
                        0 => Fate::Accepted(count / 2),
                        1 => Fate::Refused,
                        2 => Fate::NotSent,
                        _ => Fate::Unknown,
                    };
                    likes.sent(&room, count, fate);
                }
                prop_assert!(likes.waiting.len() <= ROOMS_MAX);
            }
            let waiting: u64 = likes.take().iter().map(|(_, count)| u64::from(*count)).sum();
            let LikeStats { given, accepted, refused, unknown } = likes.stats;
            prop_assert_eq!(given, accepted + refused + unknown + waiting);
        }
    }
}
