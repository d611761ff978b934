//! Likes: a number a room, told as a running total.
//!
//! [`Likes`] counts and is pure; [`Teller`] publishes the totals that have grown, every tick. A total replaces the one before,
//! so that none is lost with a lost or late message; what a crash loses is what was counted since the last tick, and where
//! totals can't be stored no more is counted after a while, so that it stays about that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pushmesh_bus::{Bus, Outgoing};
use pushmesh_protocol::{
    Instance, Partitions, RoomId,
    message::{Epoch, Millis},
    name::{MessageId, Stream, Subject},
    room::LikesTotal,
    wire,
};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, request::now};

/// A room without likes for so long is forgotten, and begins a new life with the next: longer than the owners of rooms remember
/// the total of a life that they hear nothing of would count its likes twice.
const FORGET_AFTER_MS: Millis = 10 * 60 * 1000;
/// How many lives one start of an instance has, as a power of two.
const LIVES_BITS: u32 = 24;

/// How much longer than a tick a total may wait to be stored before no more likes are taken: a crash would lose them all.
const BEHIND_MAX_MS: Millis = 2_000;

/// Counts of one instance.
#[derive(Debug)]
pub struct Likes {
    rooms: HashMap<RoomId, Count>,
    rooms_max: usize,
    /// How long a total may wait to be stored.
    wait_max: Millis,
    /// Since when a total waits, if one does: never later than the oldest like that no stream holds.
    waiting: Option<Millis>,
    /// Grows with every start of this instance, and within one whenever rooms were forgotten.
    life: Epoch,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    life: Epoch,
    total: u64,
    /// That a stream holds.
    told: u64,
    /// Of the first like that no stream holds, or earlier; means nothing where there is none.
    since: Millis,
    at: Millis,
}

/// Why a like is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncounted {
    /// Too many rooms at once.
    Full,
    /// What was counted before has waited too long to be stored.
    Behind,
}

/// A total that has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    pub room: RoomId,
    pub life: Epoch,
    pub total: u64,
    /// When it was that much.
    pub at: Millis,
}

impl Likes {
    /// `epoch` is that of this start of the instance; totals are told every `tick`.
    pub fn new(epoch: Epoch, rooms_max: usize, tick: Duration) -> Self {
        let wait_max = tick.as_millis() as Millis + BEHIND_MAX_MS;
        Self { rooms: HashMap::new(), rooms_max, wait_max, waiting: None, life: epoch << LIVES_BITS }
    }

    pub fn add(&mut self, room: &RoomId, count: u32, now: Millis) -> Result<(), Uncounted> {
        if self.waiting.is_some_and(|since| since + self.wait_max < now) {
            return Err(Uncounted::Behind);
        }
        let is_full = self.rooms.len() >= self.rooms_max;
        let known = match self.rooms.get_mut(room) {
            Some(known) => known,
            None if is_full => return Err(Uncounted::Full),
            None => {
                let new = Count { life: self.life, total: 0, told: 0, since: now, at: now };
                self.rooms.entry(room.clone()).or_insert(new)
            }
        };
        if known.total == known.told {
            known.since = now;
        }
        (known.total, known.at) = (known.total.saturating_add(u64::from(count)), now);
        if known.waits() {
            self.waiting.get_or_insert(now);
        }
        Ok(())
    }

    pub fn grown(&self, now: Millis) -> Vec<Grown> {
        let grown = self.rooms.iter().filter(|(_, count)| count.waits());
        grown.map(|(room, count)| Grown { room: room.clone(), life: count.life, total: count.total, at: now }).collect()
    }

    /// The stream holds these.
    pub fn told<'a>(&mut self, all: impl IntoIterator<Item = &'a Grown>) {
        for grown in all {
            if let Some(count) = self.rooms.get_mut(&grown.room).filter(|count| count.life == grown.life) {
                count.told = count.told.max(grown.total);
                // What is more now came later than that.
                count.since = count.since.max(grown.at);
            }
        }
        self.waiting = self.rooms.values().filter(|count| count.waits()).map(|count| count.since).min();
    }

    /// Forgets rooms that have been silent.
    pub fn forget(&mut self, now: Millis) {
        let before = self.rooms.len();
        self.rooms.retain(|_, count| count.waits() || count.at + FORGET_AFTER_MS > now);
        self.life += u64::from(self.rooms.len() < before);
    }

    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }
}

impl Count {
    fn waits(&self) -> bool {
        self.total > self.told
    }
}

/// Counts that requests and the teller share.
#[derive(Debug, Clone)]
pub struct Tally(Arc<Mutex<Likes>>);

impl Tally {
    pub fn new(likes: Likes) -> Self {
        Self(Arc::new(Mutex::new(likes)))
    }

    // A panic while it was held has left every sum whole.
    pub fn lock(&self) -> MutexGuard<'_, Likes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who tells what was counted, and where.
pub struct Teller {
    pub bus: Bus,
    pub partitions: Partitions,
    pub instance: Instance,
    pub tally: Tally,
    pub tick: Duration,
    pub metrics: Arc<Metrics>,
}

impl Teller {
    /// Tells every tick until `stop`, then once more.
    pub async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.tell().await;
            let mut likes = self.tally.lock();
            likes.forget(now());
            self.metrics.like_rooms.set(likes.rooms() as f64);
        }
        self.tell().await;
    }

    async fn tell(&self) {
        let grown = self.tally.lock().grown(now());
        if grown.is_empty() {
            return;
        }
        let messages = grown.iter().map(|grown| self.outgoing(grown)).collect();
        let outcomes = self.bus.store_all(&Stream::ROOM_LOW, messages).await;
        let (mut told, mut first_error) = (Vec::with_capacity(grown.len()), None);
        for (grown, outcome) in grown.iter().zip(outcomes) {
            match outcome {
                Ok(_) => told.push(grown),
                Err(error) => {
                    self.metrics.likes_untold.increment(1);
                    first_error.get_or_insert(error);
                }
            }
        }
        self.tally.lock().told(told);
        if let Some(error) = first_error {
            tracing::warn!(%error, "likes could not be told; the next tick tells them again");
        }
    }

    fn outgoing(&self, Grown { room, life, total, .. }: &Grown) -> Outgoing {
        let partition = self.partitions.of_room(room);
        let likes = LikesTotal { room: room.clone(), total: *total, at: now() };
        Outgoing {
            subject: Subject::room_likes(partition, room, &self.instance, *life),
            payload: wire::encode(&likes).into(),
            id: MessageId::likes(room, &self.instance, *life, *total),
            trace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(number: usize) -> RoomId {
        RoomId::new(&format!("r{number}")).unwrap()
    }

    const TICK: Duration = Duration::from_millis(200);

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut likes = Likes::new(3, 10, TICK);
        likes.add(&room(1), 5, 0).unwrap();
        let grown = likes.grown(1);
        assert_eq!(grown, [Grown { room: room(1), life: 3 << LIVES_BITS, total: 5, at: 1 }]);
        likes.add(&room(1), 2, 0).unwrap();
        likes.told(&grown);
        assert_eq!(likes.grown(2)[0].total, 7);
        likes.told(&likes.grown(2));
        assert_eq!(likes.grown(3), []);
    }

    #[test]
    fn rooms_are_bounded_and_silent_ones_forgotten() {
        let mut likes = Likes::new(1, 2, TICK);
        likes.add(&room(1), 1, FORGET_AFTER_MS).unwrap();
        likes.add(&room(2), 1, FORGET_AFTER_MS).unwrap();
        assert_eq!(likes.add(&room(3), 1, FORGET_AFTER_MS), Err(Uncounted::Full));
        likes.told(likes.grown(FORGET_AFTER_MS).iter().filter(|grown| grown.room == room(1)));
        likes.forget(2 * FORGET_AFTER_MS);
        assert_eq!(likes.rooms(), 1, "what was not told stays");
        likes.told(&likes.grown(2 * FORGET_AFTER_MS));
        likes.add(&room(1), 1, 2 * FORGET_AFTER_MS).unwrap();
        let again = likes.grown(2 * FORGET_AFTER_MS).remove(0);
        assert_eq!((again.life, again.total), ((1 << LIVES_BITS) + 1, 1), "a new life");
    }

    #[test]
    fn while_totals_can_not_be_stored_likes_are_taken_for_a_while_and_again_once_they_are() {
        let mut likes = Likes::new(1, 10, TICK);
        let last = 1_000 + TICK.as_millis() as Millis + BEHIND_MAX_MS;
        likes.add(&room(1), 1, 1_000).unwrap();
        let waiting = likes.grown(1_200);
        // The room's own total or another's: a crash would lose both.
        likes.add(&room(1), 1, last).unwrap();
        likes.add(&room(2), 1, last).unwrap();
        assert_eq!(likes.add(&room(1), 1, last + 1), Err(Uncounted::Behind));
        assert_eq!(likes.add(&room(3), 1, last + 1), Err(Uncounted::Behind));
        assert_eq!(
            likes.grown(last + 1).iter().map(|grown| grown.total).sum::<u64>(),
            3,
            "what is refused is not counted"
        );
        // What was counted while it was stored waits since then.
        likes.told(&waiting);
        likes.add(&room(1), 1, last + 1).unwrap();
        assert_eq!(likes.add(&room(1), 1, last + 1_201), Err(Uncounted::Behind));
        likes.told(&likes.grown(last + 1_201));
        assert_eq!(likes.waiting, None);
        likes.add(&room(1), 1, last + 99_999).unwrap();
    }

    #[test]
    fn one_total_that_is_refused_again_and_again_is_behind_too() {
        let mut likes = Likes::new(1, 10, TICK);
        for now in (0..=2_200).step_by(100) {
            likes.add(&room(1), 1, now).unwrap();
            likes.add(&room(2), 1, now).unwrap();
            likes.told(likes.grown(now).iter().filter(|grown| grown.room == room(1)));
        }
        assert_eq!(likes.add(&room(1), 1, 2_201), Err(Uncounted::Behind));
    }

    proptest! {
        #[test]
        fn the_last_totals_of_all_lives_are_the_sum(
            steps in proptest::collection::vec((0usize..3, 0u32..5, 0u64..400_000, any::<bool>()), 0..200)
        ) {
            let mut likes = Likes::new(7, 10, TICK);
            let (mut now, mut sum) = (0, 0u64);
            let mut stream = HashMap::new();
            let tell = |likes: &mut Likes, stream: &mut HashMap<_, _>, now| {
                let grown = likes.grown(now);
                likes.told(&grown);
                stream.extend(grown.into_iter().map(|grown| ((grown.room, grown.life), grown.total)));
            };
            for (at, count, passed, tells) in steps {
                now += passed;
                if likes.add(&room(at), count, now).is_ok() {
                    sum += u64::from(count);
                }
                if tells {
                    tell(&mut likes, &mut stream, now);
                    likes.forget(now);
                }
            }
            tell(&mut likes, &mut stream, now);
            prop_assert_eq!(stream.values().sum::<u64>(), sum);
        }
    }
}
