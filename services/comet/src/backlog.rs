//! What waits for a socket that blocks: lanes within a bound. It exists only while the socket blocks.

use std::collections::{HashSet, VecDeque};

use bytes::Buf;
use pushmesh_protocol::RoomId;

use crate::{
    lane::{Class, DropReason, Drops, Lane, Outgoing},
    limit::Micros,
};

/// Most rooms that are named in gaps; what is missed of more is told without one.
const GAPS_MAX: usize = 32;

/// Most that may wait for one connection, over all lanes; answers aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogLimits {
    pub messages: usize,
    pub bytes: usize,
}

impl BacklogLimits {
    /// Bytes of answers that may wait besides: what was missed in a room, when JSON doubles it.
    pub fn answer_bytes(&self) -> usize {
        2 * self.bytes
    }
}

/// Only high frames are left, and they don't fit: the connection can't be saved by dropping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// How many frames the client missed for good, by class (merged ones it doesn't miss), of one room or of none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub room: Option<RoomId>,
    pub missed: [u32; 3],
}

/// What the socket has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Whole frames.
    pub frames: u64,
    /// Those of them that are of rooms, by class.
    pub of_rooms: [u64; 3],
}

impl Sent {
    pub fn count(&mut self, frame: &Outgoing) {
        self.frames += 1;
        self.of_rooms[frame.lane.class() as usize] += u64::from(frame.room.is_some());
    }
}

/// Frames of one connection in the order of their lanes; within a lane in the order they came.
///
/// A frame of which the socket took a part is no longer in a lane: it goes first, and is never dropped.
#[derive(Debug)]
pub struct Backlog {
    limits: BacklogLimits,
    /// What is left of it.
    partial: Option<Outgoing>,
    lanes: [VecDeque<Outgoing>; Lane::ALL.len()],
    bytes: usize,
    /// Answers have an allowance of their own.
    answers: usize,
    answer_bytes: usize,
    progress: Micros,
    gaps: Vec<Gap>,
}

impl Backlog {
    pub fn new(limits: BacklogLimits, now: Micros) -> Self {
        Self {
            limits,
            partial: None,
            lanes: Default::default(),
            bytes: 0,
            answers: 0,
            answer_bytes: 0,
            progress: now,
            gaps: Vec::new(),
        }
    }

    /// Takes a frame, dropping what is worth least where there is no room. The answers' allowance is the caller's to keep.
    pub fn push(&mut self, frame: Outgoing, now: Micros, drops: &mut Drops) -> Result<(), TooSlow> {
        if self.replace(&frame, drops) {
            return Ok(());
        }
        if !self.fits(&frame) {
            self.merge(&frame, drops);
            self.expire(now, drops);
        }
        let class = frame.lane.class();
        while !self.fits(&frame) {
            // A frame never drives out one of a class above its own.
            match [Lane::Low, Lane::Normal].into_iter().find(|lane| !self.lanes[*lane as usize].is_empty()) {
                Some(lane) if lane.class() >= class => self.drop_oldest(lane, drops),
                _ if class == Class::High => return Err(TooSlow),
                _ => {
                    self.lost(&frame, DropReason::Full, drops);
                    return Ok(());
                }
            }
        }
        self.came(&frame);
        self.lanes[frame.lane as usize].push_back(frame);
        Ok(())
    }

    /// Takes a frame of which the socket has already taken `sent` bytes, and more than none are left: before all others.
    pub fn push_begun(&mut self, mut frame: Outgoing, sent: usize) {
        debug_assert!(self.partial.is_none() && sent < frame.bytes.len());
        frame.bytes.advance(sent);
        self.came(&frame);
        self.partial = Some(frame);
    }

    /// Appends whole frames, and the rest of a begun one, to `out` up to about `cap` bytes, at least one frame.
    pub fn gather(&self, out: &mut Vec<u8>, cap: usize) {
        for frame in self.each() {
            if !out.is_empty() && out.len() + frame.bytes.len() > cap {
                return;
            }
            out.extend_from_slice(&frame.bytes);
        }
    }

    /// The socket took the first `written` bytes of what [`gather`](Self::gather) gave.
    pub fn advance(&mut self, mut written: usize, now: Micros) -> Sent {
        let mut sent = Sent::default();
        while written > 0 {
            let next = self.partial.take().or_else(|| self.lanes.iter_mut().find_map(VecDeque::pop_front));
            let mut frame = next.expect("only gathered bytes are written");
            self.went(&frame);
            if frame.bytes.len() > written {
                frame.bytes.advance(written);
                self.came(&frame);
                self.partial = Some(frame);
                break;
            }
            written -= frame.bytes.len();
            sent.count(&frame);
        }
        if sent.frames > 0 {
            self.progress = now;
        }
        sent
    }

    /// Drops what is worth nothing any more.
    pub fn expire(&mut self, now: Micros, drops: &mut Drops) {
        for lane in Lane::ALL {
            let before = std::mem::take(&mut self.lanes[lane as usize]);
            for frame in before {
                if frame.expires.is_none_or(|at| at > now) {
                    self.lanes[lane as usize].push_back(frame);
                } else {
                    self.went(&frame);
                    self.lost(&frame, DropReason::Expired, drops);
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of answers in it.
    pub fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Answers aside.
    pub fn messages(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + usize::from(self.partial.is_some()) - self.answers
    }

    /// When the last whole frame went out, or the socket began to block.
    pub fn progress(&self) -> Micros {
        self.progress
    }

    /// What the client missed for good.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Everything left, in order, whole frames all.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes);
        self.gather(&mut out, usize::MAX);
        out
    }

    /// All that is left is lost with its connection.
    pub fn discard(self, drops: &mut Drops) {
        for frame in self.lanes.iter().flatten() {
            drops.count(frame.lane.class(), DropReason::Closed);
        }
    }

    fn each(&self) -> impl Iterator<Item = &Outgoing> {
        self.partial.iter().chain(self.lanes.iter().flatten())
    }

    fn came(&mut self, frame: &Outgoing) {
        self.bytes += frame.bytes.len();
        if frame.answer {
            self.answers += 1;
            self.answer_bytes += frame.bytes.len();
        }
    }

    fn went(&mut self, frame: &Outgoing) {
        self.bytes -= frame.bytes.len();
        if frame.answer {
            self.answers -= 1;
            self.answer_bytes -= frame.bytes.len();
        }
    }

    fn fits(&self, frame: &Outgoing) -> bool {
        let bytes = self.bytes - self.answer_bytes + frame.bytes.len();
        frame.answer || (self.messages() < self.limits.messages && bytes <= self.limits.bytes)
    }

    // The newest takes the place of the one with its key, where that is no heavier than what may wait.
    fn replace(&mut self, newest: &Outgoing, drops: &mut Drops) -> bool {
        let Some(key) = newest.key else { return false };
        let lane = &mut self.lanes[newest.lane as usize];
        let Some(at) = lane.iter().position(|frame| frame.key == Some(key)) else { return false };
        let older = lane[at].bytes.len();
        if self.bytes - self.answer_bytes - older + newest.bytes.len() > self.limits.bytes {
            return false;
        }
        lane[at] = newest.clone();
        self.bytes = self.bytes - older + newest.bytes.len();
        drops.count(newest.lane.class(), DropReason::Merged);
        true
    }

    // Of each key only the newest stays; of the new frame's key none does.
    fn merge(&mut self, newest: &Outgoing, drops: &mut Drops) {
        let mut seen: HashSet<(Lane, u64)> = newest.key.map(|key| (newest.lane, key)).into_iter().collect();
        for lane in Lane::ALL {
            let before = std::mem::take(&mut self.lanes[lane as usize]);
            for frame in before.into_iter().rev() {
                if frame.key.is_some_and(|key| !seen.insert((lane, key))) {
                    self.went(&frame);
                    drops.count(lane.class(), DropReason::Merged);
                } else {
                    self.lanes[lane as usize].push_front(frame);
                }
            }
        }
    }

    fn drop_oldest(&mut self, lane: Lane, drops: &mut Drops) {
        let frame = self.lanes[lane as usize].pop_front().expect("the caller found one");
        self.went(&frame);
        self.lost(&frame, DropReason::Full, drops);
    }

    fn lost(&mut self, frame: &Outgoing, reason: DropReason, drops: &mut Drops) {
        let class = frame.lane.class();
        drops.count(class, reason);
        let named = self.gaps.iter().position(|gap| gap.room == frame.room);
        let at = named.unwrap_or_else(|| {
            let room = if self.gaps.len() < GAPS_MAX { frame.room.clone() } else { None };
            let unnamed = if room.is_none() { self.gaps.iter().position(|gap| gap.room.is_none()) } else { None };
            unnamed.unwrap_or_else(|| {
                self.gaps.push(Gap { room, missed: [0; 3] });
                self.gaps.len() - 1
            })
        });
        let missed = &mut self.gaps[at].missed[class as usize];
        *missed = missed.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BacklogLimits = BacklogLimits { messages: 4, bytes: 100 };

    fn frame(lane: Lane, text: &str) -> Outgoing {
        Outgoing { lane, ..Outgoing::high(Bytes::copy_from_slice(text.as_bytes())) }
    }

    fn text(backlog: Backlog) -> String {
        String::from_utf8(backlog.into_bytes()).unwrap()
    }

    fn gap(room: Option<&str>, missed: [u32; 3]) -> Gap {
        Gap { room: room.map(|room| room.parse().unwrap()), missed }
    }

    #[test]
    fn a_full_backlog_drops_low_then_normal_and_then_gives_up() {
        let (mut backlog, mut drops) = (Backlog::new(LIMITS, 0), Drops::default());
        for (lane, name) in [(Lane::Low, "l1"), (Lane::Normal, "n1"), (Lane::Low, "l2"), (Lane::Normal, "n2")] {
            backlog.push(frame(lane, name), 0, &mut drops).unwrap();
        }
        for (lane, name) in [(Lane::High, "h1"), (Lane::High, "h2"), (Lane::Urgent, "u1"), (Lane::High, "h3")] {
            backlog.push(frame(lane, name), 0, &mut drops).unwrap();
        }
        assert_eq!(drops.of(Class::Low, DropReason::Full), 2);
        assert_eq!(drops.of(Class::Normal, DropReason::Full), 2);
        backlog.push(frame(Lane::Low, "l3"), 0, &mut drops).unwrap();
        assert_eq!(drops.of(Class::Low, DropReason::Full), 3);
        assert_eq!(backlog.push(frame(Lane::High, "h4"), 0, &mut drops), Err(TooSlow));
        assert_eq!(backlog.gaps(), [gap(None, [0, 2, 3])]);
        assert_eq!(text(backlog), "u1h1h2h3");
    }

    #[test]
    fn a_normal_frame_never_drives_out_a_high_one_nor_a_low_one_a_normal_one() {
        let (mut backlog, mut drops) = (Backlog::new(LIMITS, 0), Drops::default());
        for name in ["n1", "n2", "n3", "n4"] {
            backlog.push(frame(Lane::Normal, name), 0, &mut drops).unwrap();
        }
        backlog.push(frame(Lane::Low, "l1"), 0, &mut drops).unwrap();
        backlog.push(frame(Lane::Normal, "n5"), 0, &mut drops).unwrap();
        assert_eq!(text(backlog), "n2n3n4n5");
    }

    #[test]
    fn the_newest_of_a_key_takes_the_others_place_and_expiry_comes_before_any_loss() {
        let (mut backlog, mut drops) = (Backlog::new(LIMITS, 0), Drops::default());
        let likes = |text: &str| Outgoing { key: Some(7), ..frame(Lane::Low, text) };
        backlog.push(frame(Lane::Normal, "n1"), 0, &mut drops).unwrap();
        backlog.push(likes("10"), 0, &mut drops).unwrap();
        backlog.push(Outgoing { expires: Some(5), ..frame(Lane::Normal, "n2") }, 0, &mut drops).unwrap();
        backlog.push(likes("20"), 0, &mut drops).unwrap();
        backlog.push(likes("300"), 0, &mut drops).unwrap();
        assert_eq!((backlog.messages(), backlog.bytes()), (3, 7));
        for name in ["n3", "n4"] {
            backlog.push(frame(Lane::Normal, name), 9, &mut drops).unwrap();
        }
        assert_eq!(drops.of(Class::Low, DropReason::Merged), 2);
        assert_eq!(drops.of(Class::Normal, DropReason::Expired), 1);
        assert_eq!(backlog.gaps(), [gap(None, [0, 1, 0])]);
        assert_eq!(text(backlog), "n1n3n4300");
    }

    #[test]
    fn a_begun_frame_goes_first_and_is_never_dropped() {
        let mut drops = Drops::default();
        let mut backlog = Backlog::new(BacklogLimits { messages: 2, bytes: 100 }, 0);
        backlog.push(frame(Lane::Low, "a rest"), 0, &mut drops).unwrap();
        assert_eq!(backlog.advance(2, 0), Sent::default());
        backlog.push(frame(Lane::High, "h1"), 0, &mut drops).unwrap();
        assert_eq!(backlog.push(frame(Lane::High, "h2"), 0, &mut drops), Err(TooSlow));
        assert_eq!(text(backlog), "resth1");
        let mut backlog = Backlog::new(LIMITS, 0);
        backlog.push(frame(Lane::Urgent, "u1"), 0, &mut drops).unwrap();
        backlog.push_begun(frame(Lane::Low, "a rest"), 2);
        assert_eq!((backlog.messages(), backlog.bytes()), (2, 6));
        assert_eq!(text(backlog), "restu1");
    }

    #[test]
    fn gaps_name_their_room_as_long_as_they_are_few() {
        let mut drops = Drops::default();
        let mut backlog = Backlog::new(BacklogLimits { messages: 1, bytes: 100 }, 0);
        backlog.push(frame(Lane::High, "h1"), 0, &mut drops).unwrap();
        for number in 0..40 {
            let room = Some(format!("r{number}").parse().unwrap());
            backlog.push(Outgoing { room, ..frame(Lane::Low, "l") }, 0, &mut drops).unwrap();
        }
        assert_eq!((backlog.gaps().len(), &backlog.gaps()[3]), (33, &gap(Some("r3"), [0, 0, 1])));
        assert_eq!(backlog.gaps()[32], gap(None, [0, 0, 8]));
    }

    #[test]
    fn answers_wait_beside_the_limits_and_what_is_of_rooms_is_counted() {
        let mut drops = Drops::default();
        let mut backlog = Backlog::new(BacklogLimits { messages: 1, bytes: 4 }, 0);
        let of_room = |frame: Outgoing| Outgoing { room: Some("r".parse().unwrap()), ..frame };
        for name in ["JOINED", "missed"] {
            backlog.push(Outgoing { answer: true, ..frame(Lane::Urgent, name) }, 0, &mut drops).unwrap();
        }
        backlog.push(of_room(frame(Lane::High, "h1")), 0, &mut drops).unwrap();
        assert_eq!((backlog.messages(), backlog.bytes(), backlog.answer_bytes()), (1, 14, 12));
        assert_eq!(backlog.advance(8, 0), Sent { frames: 1, of_rooms: [0; 3] });
        assert_eq!((backlog.messages(), backlog.bytes(), backlog.answer_bytes()), (1, 6, 4));
        assert_eq!(backlog.advance(6, 0), Sent { frames: 2, of_rooms: [1, 0, 0] });
        assert!(backlog.is_empty());
    }

    proptest! {
        #[test]
        fn bounds_hold_and_no_frame_is_ever_cut(
            steps in prop::collection::vec((0usize..4, 1usize..40, 0usize..60, any::<bool>()), 1..200),
        ) {
            let limits = BacklogLimits { messages: 8, bytes: 200 };
            let (mut backlog, mut drops, mut sent) = (Backlog::new(limits, 0), Drops::default(), Vec::new());
            for (number, (lane, size, write, keyed)) in steps.into_iter().enumerate() {
                // Each frame is its size followed by that many bytes of its lane: a cut one can't be parsed.
                let bytes = [vec![size as u8], vec![lane as u8; size]].concat();
                let key = keyed.then_some(number as u64 % 3);
                let frame = Outgoing { key, ..Outgoing::high(bytes.into()) };
                let _ = backlog.push(Outgoing { lane: Lane::ALL[lane], ..frame }, 0, &mut drops);
                prop_assert!(backlog.messages() <= limits.messages && backlog.bytes() <= limits.bytes);
                let mut out = Vec::new();
                backlog.gather(&mut out, 64);
                out.truncate(write);
                backlog.advance(out.len(), 0);
                sent.extend_from_slice(&out);
            }
            sent.extend(backlog.into_bytes());
            let mut rest = &sent[..];
            while let [size, tail @ ..] = rest {
                let (body, later) = tail.split_at(usize::from(*size));
                prop_assert!(body.iter().all(|byte| *byte == body[0]));
                rest = later;
            }
        }
    }
}
