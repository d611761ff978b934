//! Likes: a number a room, told as a running total.
//!
//! [`Likes`] counts and is pure; [`tell`] publishes the totals that have grown, every tick. A total replaces the one before,
//! so that none is lost with a lost or late message; what a crash loses is what was counted since the last tick.

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

/// Counts of one instance.
#[derive(Debug)]
pub struct Likes {
    rooms: HashMap<RoomId, Count>,
    rooms_max: usize,
    /// Grows with every start of this instance, and within one whenever rooms were forgotten.
    life: Epoch,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    life: Epoch,
    total: u64,
    /// That a stream holds.
    told: u64,
    at: Millis,
}

/// Too many rooms at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A total that has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    pub room: RoomId,
    pub life: Epoch,
    pub total: u64,
}

impl Likes {
    /// `epoch` is that of this start of the instance.
    pub fn new(epoch: Epoch, rooms_max: usize) -> Self {
        Self { rooms: HashMap::new(), rooms_max, life: epoch << LIVES_BITS }
    }

    pub fn add(&mut self, room: &RoomId, count: u32, now: Millis) -> Result<(), Full> {
        if let Some(known) = self.rooms.get_mut(room) {
            (known.total, known.at) = (known.total.saturating_add(u64::from(count)), now);
            return Ok(());
        }
        if self.rooms.len() >= self.rooms_max {
            return Err(Full);
        }
        let count = Count { life: self.life, total: u64::from(count), told: 0, at: now };
        self.rooms.insert(room.clone(), count);
        Ok(())
    }

    pub fn grown(&self) -> Vec<Grown> {
        let grown = self.rooms.iter().filter(|(_, count)| count.total > count.told);
        grown.map(|(room, count)| Grown { room: room.clone(), life: count.life, total: count.total }).collect()
    }

    /// The stream holds it.
    pub fn told(&mut self, grown: &Grown) {
        if let Some(count) = self.rooms.get_mut(&grown.room).filter(|count| count.life == grown.life) {
            count.told = count.told.max(grown.total);
        }
    }

    /// Forgets rooms that have been silent.
    pub fn forget(&mut self, now: Millis) {
        let before = self.rooms.len();
        self.rooms.retain(|_, count| count.total > count.told || count.at + FORGET_AFTER_MS > now);
        self.life += u64::from(self.rooms.len() < before);
    }

    pub fn rooms(&self) -> usize {
        self.rooms.len()
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
        let grown = self.tally.lock().grown();
        if grown.is_empty() {
            return;
        }
        let messages = grown.iter().map(|grown| self.outgoing(grown)).collect();
        let outcomes = self.bus.store_all(&Stream::ROOM_LOW, messages).await;
        let mut first_error = None;
        let mut likes = self.tally.lock();
        for (grown, outcome) in grown.iter().zip(outcomes) {
            match outcome {
                Ok(_) => likes.told(grown),
                Err(error) => {
                    self.metrics.likes_untold.increment(1);
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error {
            tracing::warn!(%error, "likes could not be told; the next tick tells them again");
        }
    }

    fn outgoing(&self, Grown { room, life, total }: &Grown) -> Outgoing {
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

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut likes = Likes::new(3, 10);
        likes.add(&room(1), 5, 0).unwrap();
        let grown = likes.grown();
        assert_eq!(grown, [Grown { room: room(1), life: 3 << LIVES_BITS, total: 5 }]);
        likes.add(&room(1), 2, 0).unwrap();
        likes.told(&grown[0]);
        assert_eq!(likes.grown()[0].total, 7);
        likes.told(&likes.grown()[0].clone());
        assert_eq!(likes.grown(), []);
    }

    #[test]
    fn rooms_are_bounded_and_silent_ones_forgotten() {
        let mut likes = Likes::new(1, 2);
        likes.add(&room(1), 1, 0).unwrap();
        likes.add(&room(2), 1, 0).unwrap();
        assert_eq!(likes.add(&room(3), 1, 0), Err(Full));
        likes.told(&likes.grown().into_iter().find(|grown| grown.room == room(1)).unwrap());
        likes.forget(FORGET_AFTER_MS);
        assert_eq!(likes.rooms(), 1, "what was not told stays");
        likes.add(&room(1), 1, FORGET_AFTER_MS).unwrap();
        let again = likes.grown().into_iter().find(|grown| grown.room == room(1)).unwrap();
        assert_eq!((again.life, again.total), ((1 << LIVES_BITS) + 1, 1), "a new life");
    }

    proptest! {
        #[test]
        fn the_last_totals_of_all_lives_are_the_sum(
            steps in proptest::collection::vec((0usize..3, 0u32..5, 0u64..400_000, any::<bool>()), 0..200)
        ) {
            let mut likes = Likes::new(7, 10);
            let (mut now, mut sum) = (0, 0u64);
            let mut stream = HashMap::new();
            let tell = |likes: &mut Likes, stream: &mut HashMap<_, _>| {
                for grown in likes.grown() {
                    likes.told(&grown);
                    stream.insert((grown.room, grown.life), grown.total);
                }
            };
            for (at, count, passed, tells) in steps {
                now += passed;
                likes.add(&room(at), count, now).unwrap();
                sum += u64::from(count);
                if tells {
                    tell(&mut likes, &mut stream);
                    likes.forget(now);
                }
            }
            tell(&mut likes, &mut stream);
            prop_assert_eq!(stream.values().sum::<u64>(), sum);
        }
    }
}
