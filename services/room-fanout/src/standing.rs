//! What stands in the buckets `rooms` and `mutes`: state, roles, mutes. One watch for all partitions of the process.
//!
//! A partition gets everything of its rooms once, then what changes. One that is slow to read misses changes, and gets
//! everything again as soon as it has room: it never holds up the others.

mod book;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use pushmesh_bus::{Bus, KvError, KvWatch};
use pushmesh_protocol::{
    Partition, Partitions, RoomId, UserId,
    frame::{Role, RoomState},
    name::{Bucket, KeyFilter},
    room::MuteRecord,
};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use book::{Book, Half, ended, key};

/// Changes that wait for one partition.
const TOLD_MAX: usize = 1024;
/// Partitions that ask for their part at the same time; more wait.
const ASKED_MAX: usize = 64;
/// How often a partition that was behind is looked after again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Between two tries to open a watch.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Something that stands until it is changed. `None` is what holds where nothing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    State {
        room: RoomId,
        state: Option<RoomState>,
    },
    Role {
        room: RoomId,
        user: UserId,
        role: Option<Role>,
    },
    /// Without a room: in every one.
    Mute {
        room: Option<RoomId>,
        user: UserId,
        mute: Option<MuteRecord>,
    },
}

/// What a partition is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// All that stands; what is not in it does not.
    All(Vec<Fact>),
    Changed(Fact),
}

/// What a partition has been told, so that what is not told again can be told to have ended.
#[derive(Debug, Default)]
pub struct Known {
    /// By key, what would be told of its end.
    ends: HashMap<String, Fact>,
}

impl Known {
    /// What changes for who has heard all that was told before.
    pub fn apply(&mut self, told: Told) -> Vec<Fact> {
        match told {
            Told::Changed(fact) => {
                self.note(&fact);
                vec![fact]
            }
            Told::All(facts) => {
                let mut before = std::mem::take(&mut self.ends);
                for fact in &facts {
                    before.remove(&key(fact));
                    self.note(fact);
                }
                before.into_values().chain(facts).collect()
            }
        }
    }

    fn note(&mut self, fact: &Fact) {
        let end = ended(fact.clone());
        if end == *fact {
            self.ends.remove(&key(fact));
        } else {
            self.ends.insert(key(fact), end);
        }
    }
}

/// Where partitions ask for their part.
#[derive(Clone)]
pub struct Standing {
    asked: mpsc::Sender<Asked>,
}

struct Asked {
    partition: Partition,
    told: mpsc::Sender<Told>,
}

impl Standing {
    /// A partition's part, then its changes. The first word may take until the buckets are known.
    pub async fn of(&self, partition: Partition) -> mpsc::Receiver<Told> {
        let (told, receiver) = mpsc::channel(TOLD_MAX);
        // Closed: the service ends, and the receiver says so.
        let _ = self.asked.send(Asked { partition, told }).await;
        receiver
    }
}

/// The watch and the task behind it, which ends with the connection or the last [`Standing`].
pub fn standing(
    bus: Bus,
    partitions: Partitions,
    metrics: Arc<Metrics>,
) -> (Standing, impl Future<Output = ()> + Send) {
    let (asked, asking) = mpsc::channel(ASKED_MAX);
    (Standing { asked }, run(bus, partitions, metrics, asking))
}

async fn run(bus: Bus, partitions: Partitions, metrics: Arc<Metrics>, mut asking: mpsc::Receiver<Asked>) {
    let (mut rooms, mut mutes) = tokio::join!(open(&bus, Bucket::ROOMS), open(&bus, Bucket::MUTES));
    let mut book = Book::new(partitions);
    let mut readers: Vec<Reader> = Vec::new();
    let mut look = tokio::time::interval(LOOK_AGAIN);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_current = book.is_current();
        let behind = readers.iter().any(|reader| reader.is_behind);
        let changes = tokio::select! {
            event = rooms.next() => match event {
                Some(event) => book.apply(Half::Rooms, event, &metrics),
                None => return,
            },
            event = mutes.next() => match event {
                Some(event) => book.apply(Half::Mutes, event, &metrics),
                None => return,
            },
            asked = asking.recv(), if is_current => match asked {
                Some(Asked { partition, told }) => {
                    readers.push(Reader { partition, told, is_behind: true });
                    Vec::new()
                }
                None => return,
            },
            _ = look.tick(), if behind => Vec::new(),
        };
        readers.retain_mut(|reader| reader.tell(&book, &changes, &metrics));
    }
}

async fn open(bus: &Bus, bucket: Bucket) -> KvWatch {
    let once = async || -> Result<KvWatch, KvError> { bus.bucket(&bucket).await?.watch(KeyFilter::all()).await };
    loop {
        match once().await {
            Ok(watch) => return watch,
            Err(error) => tracing::warn!(%bucket, %error, "could not watch a bucket; again"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// A partition that listens.
struct Reader {
    partition: Partition,
    told: mpsc::Sender<Told>,
    /// It has not been told all yet, or missed something since.
    is_behind: bool,
}

impl Reader {
    /// `false`: nobody listens any more.
    fn tell(&mut self, book: &Book, changes: &[(Option<Partition>, Fact)], metrics: &Metrics) -> bool {
        if self.is_behind {
            // One place is enough for everything, these changes included.
            match self.told.try_reserve() {
                Ok(place) => {
                    place.send(Told::All(book.of(self.partition)));
                    self.is_behind = false;
                }
                Err(mpsc::error::TrySendError::Full(())) => {}
                Err(mpsc::error::TrySendError::Closed(())) => return false,
            }
            return true;
        }
        for (partition, fact) in changes {
            if partition.is_some_and(|partition| partition != self.partition) {
                continue;
            }
            match self.told.try_send(Told::Changed(fact.clone())) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    metrics.standing_behind.increment(1);
                    self.is_behind = true;
                    return true;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
        }
        !self.told.is_closed()
    }
}
