//! [`Seat`]: where a client stands in its room, and by which rule it takes what comes: the client library's, without its cost.

use std::time::Duration;

use pushmesh_protocol::frame::{Chain, Joined, RoomPosition};

use super::{
    digest::{Digest, Entry, What},
    tally::{Class, Tally},
};

/// How long a recovery waits: whoever missed something is seldom alone.
const RECOVER_AFTER: Duration = Duration::from_millis(200);
/// What heads announce may be on its way for so long.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// A JOIN that has no answer for so long is lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One membership.
#[derive(Debug, Default)]
pub struct Seat {
    /// None until the first JOINED.
    position: Option<RoomPosition>,
    /// Of each chain, up to where something was missed at first sight.
    missed: [u64; 3],
    likes: u64,
    pub joined: bool,
    ask: Option<Duration>,
    announced: Option<(RoomPosition, Duration)>,
}

impl Seat {
    /// From where a JOIN asks for what was missed.
    pub fn position(&self) -> Option<RoomPosition> {
        self.position
    }

    /// Its JOIN was sent.
    pub fn asked(&mut self, now: Duration) {
        self.ask = Some(now + ANSWER_WITHIN);
    }

    /// The connection is gone.
    pub fn parted(&mut self) {
        (self.joined, self.ask, self.announced) = (false, None, None);
    }

    /// Whether a JOIN is to be sent now.
    pub fn is_due(&mut self, now: Duration) -> bool {
        if let Some((position, missed)) = self.announced
            && missed <= now
        {
            self.announced = None;
            if self.position.is_some_and(|here| behind(&here, &position)) {
                self.recover(now);
            }
        }
        self.ask.is_some_and(|at| at <= now)
    }

    pub fn joined(&mut self, told: &Joined, now: Duration) {
        (self.joined, self.ask, self.announced) = (true, None, None);
        let to = told.position;
        match self.position {
            None => (self.position, self.likes) = (Some(to), told.likes_total),
            // It follows.
            Some(from) if told.recovered && from.epoch == to.epoch => {
                self.announced = Some((to, now + 3 * ON_ITS_WAY));
            }
            // Too much: it goes on behind it.
            Some(_) => self.position = Some(to),
        }
    }

    /// The JOIN was refused for now.
    pub fn refused(&mut self, now: Duration) {
        self.ask = Some(now + RECOVER_AFTER);
    }

    /// Takes a frame.
    pub fn take(&mut self, digest: &Digest, now: Duration, tally: &mut Tally) {
        let Some(mut here) = self.position else { return };
        if here.epoch != digest.epoch {
            return self.recover(now);
        }
        let mut gap = false;
        for entry in &digest.entries {
            gap |= self.take_entry(&mut here, entry, now, tally);
        }
        self.position = Some(here);
        if gap {
            self.recover(now);
        }
        if let Some(heads) = digest.heads
            && behind(&here, &heads)
            && self.announced.is_none()
        {
            self.announced = Some((heads, now + ON_ITS_WAY));
        }
    }

    // Whether something before it was missed.
    fn take_entry(&mut self, here: &mut RoomPosition, entry: &Entry, now: Duration, tally: &mut Tally) -> bool {
        let (last, number, class) = match entry.chain {
            Chain::Gifts => (&mut here.gifts, 0, Class::Gift),
            Chain::High => (&mut here.high, 1, Class::High),
            Chain::Normal => (&mut here.normal, 2, Class::Normal),
            Chain::Loose => {
                if let What::Likes { total } = entry.what {
                    tally.liked(self.likes, total, now);
                    self.likes = self.likes.max(total);
                }
                return false;
            }
        };
        if entry.offset <= *last {
            return false;
        }
        if entry.prev > *last {
            let missed = &mut self.missed[number];
            *missed = entry.offset.max(*missed);
            return true;
        }
        *last = entry.offset;
        if let What::Said { due_us } = entry.what {
            tally.said(class, due_us, entry.offset <= self.missed[number], now);
        }
        false
    }

    fn recover(&mut self, now: Duration) {
        self.ask.get_or_insert(now + RECOVER_AFTER);
    }
}

fn behind(here: &RoomPosition, there: &RoomPosition) -> bool {
    here.epoch == there.epoch && (here.gifts < there.gifts || here.high < there.high || here.normal < there.normal)
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::RoomId;

    use super::*;

    fn told(position: RoomPosition, recovered: bool) -> Joined {
        Joined {
            room: RoomId::new("r").unwrap(),
            position,
            recovered,
            state: Default::default(),
            role: None,
            muted_until: None,
            present: 1,
            top: vec![],
            gifts_total: 0,
            likes_total: 10,
        }
    }

    fn frame(entries: &[(u64, u64)]) -> Digest {
        let entry = |&(prev, offset): &(u64, u64)| Entry {
            chain: Chain::High,
            offset,
            prev,
            what: What::Said { due_us: offset * 1000 },
        };
        Digest { room: RoomId::new("r").unwrap(), epoch: 1, entries: entries.iter().map(entry).collect(), heads: None }
    }

    #[test]
    fn what_was_missed_is_asked_for_and_counts_once() {
        let at = |high| RoomPosition { epoch: 1, gifts: 0, high, normal: 0 };
        let (mut seat, mut tally, now) = (Seat::default(), Tally::default(), Duration::from_millis(100));
        seat.joined(&told(at(5), true), now);
        seat.take(&frame(&[(5, 6), (6, 7), (6, 7)]), now, &mut tally);
        assert!(!seat.is_due(now + ANSWER_WITHIN));
        seat.take(&frame(&[(8, 9)]), now, &mut tally);
        assert!(seat.is_due(now + RECOVER_AFTER) && !seat.is_due(now));
        seat.joined(&told(at(9), true), now);
        seat.take(&frame(&[(7, 8), (8, 9), (9, 10)]), now, &mut tally);
        let high = tally.tell(false).classes[Class::High as usize].clone();
        assert_eq!((high.delivered, high.recovered), (5, 2));
        assert_eq!(seat.position(), Some(at(10)));
    }

    #[test]
    fn heads_that_stay_ahead_are_a_gap() {
        let at = |high| RoomPosition { epoch: 1, gifts: 0, high, normal: 0 };
        let (mut seat, mut tally, now) = (Seat::default(), Tally::default(), Duration::from_millis(100));
        seat.joined(&told(at(5), true), now);
        seat.take(&Digest { heads: Some(at(6)), ..frame(&[]) }, now, &mut tally);
        assert!(!seat.is_due(now));
        assert!(!seat.is_due(now + ON_ITS_WAY) && seat.is_due(now + ON_ITS_WAY + RECOVER_AFTER));
    }
}
