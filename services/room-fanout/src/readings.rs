//! [`Readings`]: who waits until the streams have been read, and what was read a moment ago.
//!
//! After a stall everybody in a room comes back at once, from a few positions that lie close together. Of a room one reading is
//! under way at a time; those who come meanwhile wait for the next one, and what it brings serves all who stand at its
//! beginning or behind it, also those who ask a moment later. Pure: time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use pushmesh_protocol::RoomId;

use crate::room::{Past, PastAsk, Span};

/// How long what was read serves others.
const KEPT_FOR: Duration = Duration::from_secs(3);
/// Rooms of which something is kept: each is a few hundred kilobytes at most.
const KEPT_MAX: usize = 32;

/// The readings of one partition, for what waits for them.
#[derive(Debug)]
pub struct Readings<T> {
    rooms: HashMap<RoomId, Reading<T>>,
    waiting: usize,
    waiting_max: usize,
}

#[derive(Debug)]
struct Reading<T> {
    waiting: Vec<(PastAsk, T)>,
    is_under_way: bool,
    /// Since somebody waits.
    rounds: u32,
    /// Until when it serves others.
    kept: Option<(Past, Instant)>,
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), is_under_way: false, rounds: 0, kept: None }
    }
}

impl<T> Readings<T> {
    pub fn new(waiting_max: usize) -> Self {
        Self { rooms: HashMap::new(), waiting: 0, waiting_max }
    }

    /// What was read of a room a moment ago.
    pub fn kept(&self, room: &RoomId) -> Option<&Past> {
        self.rooms.get(room)?.kept.as_ref().map(|(past, _)| past)
    }

    /// Waits until what it needs has been read. `Err`: too many wait.
    pub fn wait(&mut self, room: &RoomId, needs: PastAsk, what: T) -> Result<(), T> {
        if self.waiting >= self.waiting_max {
            return Err(what);
        }
        self.waiting += 1;
        self.rooms.entry(room.clone()).or_default().waiting.push((needs, what));
        Ok(())
    }

    /// What is to be read of a room now: nothing while a reading is under way, or nobody waits.
    pub fn next(&mut self, room: &RoomId) -> Option<PastAsk> {
        let reading = self.rooms.get_mut(room)?;
        if reading.is_under_way || reading.waiting.is_empty() {
            return None;
        }
        let rounds = reading.rounds;
        (reading.rounds, reading.is_under_way) = (rounds + 1, true);
        let all =
            |of: fn(&PastAsk) -> Option<Span>| joint(reading.waiting.iter().filter_map(|(ask, _)| of(ask)), rounds);
        Some(PastAsk { gifts: all(|ask| ask.gifts), high: all(|ask| ask.high), normal: all(|ask| ask.normal) })
    }

    /// What a reading brought, if anything: all who wait are to ask again.
    pub fn read(&mut self, room: &RoomId, past: Option<Past>, now: Instant) -> Vec<T> {
        self.forget(now);
        let is_kept =
            self.kept(room).is_some() || self.rooms.values().filter(|of| of.kept.is_some()).count() < KEPT_MAX;
        let Some(reading) = self.rooms.get_mut(room) else { return Vec::new() };
        reading.is_under_way = false;
        if let Some(past) = past {
            let merged = reading.kept.take().map_or(past.clone(), |(before, _)| past.or(before));
            // Too many rooms at once: it serves those who wait, and nobody after them.
            reading.kept = Some((merged, if is_kept { now + KEPT_FOR } else { now }));
        }
        let waiting = std::mem::take(&mut reading.waiting);
        self.waiting -= waiting.len();
        waiting.into_iter().map(|(_, what)| what).collect()
    }

    /// Nobody waits in this room any more: the next one begins anew.
    pub fn rest(&mut self, room: &RoomId) {
        if let Some(reading) = self.rooms.get_mut(room).filter(|of| of.waiting.is_empty() && !of.is_under_way) {
            reading.rounds = 0;
        }
    }

    /// Lets go of what was read too long ago.
    pub fn forget(&mut self, now: Instant) {
        self.rooms.retain(|_, of| {
            of.kept = of.kept.take().filter(|(_, until)| *until > now);
            of.is_under_way || !of.waiting.is_empty() || of.kept.is_some()
        });
    }

    /// All who wait: nothing is read for them any more.
    pub fn take_all(&mut self) -> Vec<T> {
        self.waiting = 0;
        let rooms = self.rooms.drain().flat_map(|(_, of)| of.waiting);
        rooms.map(|(_, what)| what).collect()
    }
}

// From the farthest back first: mostly that is not too much, and all are served by it. Where it was, from the middle: too much
// from there is too much for half of them, and if it is not, the other half is served. So few readings sort out many.
fn joint(spans: impl Iterator<Item = Span>, rounds: u32) -> Option<Span> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_unstable_by_key(|span| span.after);
    let from = spans.get(if rounds == 0 { 0 } else { spans.len() / 2 })?.after;
    let most = |of: fn(&Span) -> usize| spans.iter().map(of).max().unwrap_or_default();
    Some(Span {
        after: from,
        upto: spans.iter().map(|span| span.upto).max()?,
        max_messages: most(|span| span.max_messages),
        max_bytes: most(|span| span.max_bytes),
    })
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::room::RoomMessage;

    use super::*;
    use crate::room::PastOf;

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    fn needs(after: u64, upto: u64) -> PastAsk {
        let high = Some(Span { after, upto, max_messages: 10, max_bytes: 1000 });
        PastAsk { high, ..PastAsk::default() }
    }

    fn past(ask: PastAsk) -> Past {
        let of = |span| PastOf::<RoomMessage> { span, messages: vec![], to_end: true, first: 1 };
        Past { high: ask.high.map(of), ..Past::default() }
    }

    #[test]
    fn all_who_wait_in_a_room_are_served_by_one_reading_at_a_time() {
        let (mut readings, now, a) = (Readings::new(4), Instant::now(), room("a"));
        readings.wait(&a, needs(50, 90), 1).unwrap();
        assert_eq!(readings.next(&a), Some(needs(50, 90)));
        readings.wait(&a, needs(70, 91), 2).unwrap();
        readings.wait(&a, needs(60, 95), 3).unwrap();
        assert_eq!(readings.next(&a), None, "one is under way");
        readings.wait(&room("b"), needs(1, 2), 4).unwrap();
        assert_eq!(readings.wait(&a, needs(80, 96), 5), Err(5), "four wait");
        assert!(readings.kept(&a).is_none());
        assert_eq!(readings.read(&a, Some(past(needs(50, 90))), now), [1, 2, 3]);
        assert_eq!(readings.kept(&a), Some(&past(needs(50, 90))));
        // Who is not served by it waits again; the others are remembered no more.
        readings.wait(&a, needs(60, 95), 3).unwrap();
        assert_eq!(readings.next(&a), Some(needs(60, 95)));
        assert_eq!(readings.read(&a, None, now), [3]);
        assert_eq!(readings.kept(&a), Some(&past(needs(50, 90))), "a reading that failed takes nothing away");
        readings.forget(now + KEPT_FOR);
        assert!(readings.kept(&a).is_none());
        assert_eq!((readings.take_all(), readings.rooms.len(), readings.waiting), (vec![4], 0, 0));
    }

    #[test]
    fn where_it_is_too_much_from_the_oldest_a_few_readings_sort_out_all() {
        let (mut readings, now, a) = (Readings::new(1_000), Instant::now(), room("a"));
        // Those at 700 or before are too far back.
        for after in 0..1_000 {
            readings.wait(&a, needs(after, 2_000), after).unwrap();
        }
        let (mut rounds, mut far) = (0, 0);
        while let Some(ask) = readings.next(&a) {
            rounds += 1;
            let from = ask.high.unwrap().after;
            for after in readings.read(&a, Some(past(ask)), now) {
                let is_far = from <= 700;
                if is_far && after <= from {
                    far += 1;
                } else if is_far || after < from {
                    readings.wait(&a, needs(after, 2_000), after).unwrap();
                }
            }
        }
        assert_eq!(far, 701);
        assert!(rounds <= 12, "{rounds}");
        readings.rest(&a);
        readings.wait(&a, needs(5, 2_000), 5).unwrap();
        readings.wait(&a, needs(9, 2_000), 9).unwrap();
        assert_eq!(readings.next(&a).unwrap().high.unwrap().after, 5, "the oldest first again");
    }
}
