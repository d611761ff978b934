//! What waits for a socket that blocks: three lanes within a bound. It exists only while the socket blocks.

use std::collections::{HashSet, VecDeque};

use bytes::{Buf, Bytes};

use crate::{
    lane::{Class, DropReason, Drops, Outgoing},
    limit::Micros,
};

/// Most that may wait for one connection, over all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogLimits {
    pub messages: usize,
    pub bytes: usize,
}

/// Only high frames are left, and they don't fit: the connection can't be saved by dropping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// Frames of one connection in the order high, normal, low; within a lane in the order they came.
///
/// A frame of which the socket took a part is no longer in a lane: it goes first, and is never dropped.
#[derive(Debug)]
pub struct Backlog {
    limits: BacklogLimits,
    partial: Bytes,
    lanes: [VecDeque<Outgoing>; 3],
    bytes: usize,
    progress: Micros,
    gap: [u32; 3],
}

impl Backlog {
    pub fn new(limits: BacklogLimits, now: Micros) -> Self {
        Self { limits, partial: Bytes::new(), lanes: Default::default(), bytes: 0, progress: now, gap: [0; 3] }
    }

    /// Takes a frame, dropping what is worth least where there is no room.
    pub fn push(&mut self, frame: Outgoing, now: Micros, drops: &mut Drops) -> Result<(), TooSlow> {
        if !self.fits(&frame) {
            self.merge(&frame, drops);
            self.expire(now, drops);
        }
        while !self.fits(&frame) {
            // A frame never drives out one of a class above its own.
            match [Class::Low, Class::Normal].into_iter().find(|class| !self.lanes[*class as usize].is_empty()) {
                Some(class) if class >= frame.class => self.drop_oldest(class, drops),
                _ if frame.class == Class::High => return Err(TooSlow),
                _ => {
                    self.lost(frame.class, DropReason::Full, drops);
                    return Ok(());
                }
            }
        }
        self.bytes += frame.bytes.len();
        self.lanes[frame.class as usize].push_back(frame);
        Ok(())
    }

    /// Appends whole frames, and the rest of a begun one, to `out` up to about `cap` bytes, at least one frame.
    pub fn gather(&self, out: &mut Vec<u8>, cap: usize) {
        out.extend_from_slice(&self.partial);
        for frame in self.lanes.iter().flatten() {
            if !out.is_empty() && out.len() + frame.bytes.len() > cap {
                return;
            }
            out.extend_from_slice(&frame.bytes);
        }
    }

    /// The socket took the first `written` bytes of what [`gather`](Self::gather) gave. Returns the frames now sent whole.
    pub fn advance(&mut self, mut written: usize, now: Micros) -> usize {
        let mut whole = 0;
        self.bytes -= written;
        if !self.partial.is_empty() {
            let part = written.min(self.partial.len());
            self.partial.advance(part);
            written -= part;
            whole += usize::from(self.partial.is_empty());
        }
        while written > 0 {
            let lane = self.lanes.iter_mut().find(|lane| !lane.is_empty()).expect("only gathered bytes are written");
            let mut frame = lane.pop_front().expect("the lane is not empty").bytes;
            if frame.len() > written {
                frame.advance(written);
                self.partial = frame;
                break;
            }
            written -= frame.len();
            whole += 1;
        }
        if whole > 0 {
            self.progress = now;
        }
        whole
    }

    /// Drops what is worth nothing any more.
    pub fn expire(&mut self, now: Micros, drops: &mut Drops) {
        self.retain(DropReason::Expired, drops, |frame| frame.expires.is_none_or(|at| at > now));
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn messages(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + usize::from(!self.partial.is_empty())
    }

    /// Whether the socket is in the middle of a frame: nothing else may be written now.
    pub fn is_mid_frame(&self) -> bool {
        !self.partial.is_empty()
    }

    /// When the last whole frame went out, or the socket began to block.
    pub fn progress(&self) -> Micros {
        self.progress
    }

    /// How many frames of each class the client missed for good (merged ones it doesn't miss).
    pub fn gap(&self) -> Option<[u32; 3]> {
        (self.gap != [0; 3]).then_some(self.gap)
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
            drops.count(frame.class, DropReason::Closed);
        }
    }

    fn fits(&self, frame: &Outgoing) -> bool {
        self.messages() < self.limits.messages && self.bytes + frame.bytes.len() <= self.limits.bytes
    }

    // Of each key only the newest stays; of the new frame's key none does.
    fn merge(&mut self, newest: &Outgoing, drops: &mut Drops) {
        let mut seen: HashSet<(Class, u64)> = newest.key.map(|key| (newest.class, key)).into_iter().collect();
        for lane in &mut self.lanes {
            let before = std::mem::take(lane);
            for frame in before.into_iter().rev() {
                if frame.key.is_some_and(|key| !seen.insert((frame.class, key))) {
                    self.bytes -= frame.bytes.len();
                    drops.count(frame.class, DropReason::Merged);
                } else {
                    lane.push_front(frame);
                }
            }
        }
    }

    fn drop_oldest(&mut self, class: Class, drops: &mut Drops) {
        let frame = self.lanes[class as usize].pop_front().expect("the caller found one");
        self.bytes -= frame.bytes.len();
        self.lost(class, DropReason::Full, drops);
    }

    fn retain(&mut self, reason: DropReason, drops: &mut Drops, keep: impl Fn(&Outgoing) -> bool) {
        for class in Class::ALL {
            let mut lane = std::mem::take(&mut self.lanes[class as usize]);
            lane.retain(|frame| {
                let kept = keep(frame);
                if !kept {
                    self.bytes -= frame.bytes.len();
                    self.lost(class, reason, drops);
                }
                kept
            });
            self.lanes[class as usize] = lane;
        }
    }

    fn lost(&mut self, class: Class, reason: DropReason, drops: &mut Drops) {
        self.gap[class as usize] = self.gap[class as usize].saturating_add(1);
        drops.count(class, reason);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BacklogLimits = BacklogLimits { messages: 4, bytes: 100 };

    fn frame(class: Class, text: &str) -> Outgoing {
        Outgoing { class, ..Outgoing::high(Bytes::copy_from_slice(text.as_bytes())) }
    }

    fn text(backlog: Backlog) -> String {
        String::from_utf8(backlog.into_bytes()).unwrap()
    }

    #[test]
    fn a_full_backlog_drops_low_then_normal_and_then_gives_up() {
        let (mut backlog, mut drops) = (Backlog::new(LIMITS, 0), Drops::default());
        for (class, name) in [(Class::Low, "l1"), (Class::Normal, "n1"), (Class::Low, "l2"), (Class::Normal, "n2")] {
            backlog.push(frame(class, name), 0, &mut drops).unwrap();
        }
        for name in ["h1", "h2", "h3", "h4"] {
            backlog.push(frame(Class::High, name), 0, &mut drops).unwrap();
        }
        assert_eq!(drops.of(Class::Low, DropReason::Full), 2);
        assert_eq!(drops.of(Class::Normal, DropReason::Full), 2);
        backlog.push(frame(Class::Low, "l3"), 0, &mut drops).unwrap();
        assert_eq!(drops.of(Class::Low, DropReason::Full), 3);
        assert_eq!(backlog.push(frame(Class::High, "h5"), 0, &mut drops), Err(TooSlow));
        assert_eq!(backlog.gap(), Some([0, 2, 3]));
        assert_eq!(text(backlog), "h1h2h3h4");
    }

    #[test]
    fn a_normal_frame_never_drives_out_a_high_one_nor_a_low_one_a_normal_one() {
        let (mut backlog, mut drops) = (Backlog::new(LIMITS, 0), Drops::default());
        for name in ["n1", "n2", "n3", "n4"] {
            backlog.push(frame(Class::Normal, name), 0, &mut drops).unwrap();
        }
        backlog.push(frame(Class::Low, "l1"), 0, &mut drops).unwrap();
        backlog.push(frame(Class::Normal, "n5"), 0, &mut drops).unwrap();
        assert_eq!(text(backlog), "n2n3n4n5");
    }

    #[test]
    fn conflation_and_expiry_come_before_any_loss() {
        let (mut backlog, mut drops) = (Backlog::new(LIMITS, 0), Drops::default());
        let likes = |text: &str| Outgoing { key: Some(7), ..frame(Class::Low, text) };
        backlog.push(frame(Class::Normal, "n1"), 0, &mut drops).unwrap();
        backlog.push(likes("10"), 0, &mut drops).unwrap();
        backlog.push(Outgoing { expires: Some(5), ..frame(Class::Normal, "n2") }, 0, &mut drops).unwrap();
        backlog.push(likes("20"), 0, &mut drops).unwrap();
        backlog.push(likes("30"), 9, &mut drops).unwrap();
        assert_eq!(drops.of(Class::Low, DropReason::Merged), 2);
        assert_eq!(drops.of(Class::Normal, DropReason::Expired), 1);
        assert_eq!(backlog.gap(), Some([0, 1, 0]));
        assert_eq!(text(backlog), "n130");
    }

    #[test]
    fn a_begun_frame_goes_first_and_is_never_dropped() {
        let mut drops = Drops::default();
        let mut backlog = Backlog::new(BacklogLimits { messages: 2, bytes: 100 }, 0);
        backlog.push(frame(Class::Low, "a rest"), 0, &mut drops).unwrap();
        assert_eq!(backlog.advance(2, 0), 0);
        assert!(backlog.is_mid_frame());
        backlog.push(frame(Class::High, "h1"), 0, &mut drops).unwrap();
        assert_eq!(backlog.push(frame(Class::High, "h2"), 0, &mut drops), Err(TooSlow));
        assert_eq!(text(backlog), "resth1");
    }

    proptest! {
        #[test]
        fn bounds_hold_and_no_frame_is_ever_cut(
            steps in prop::collection::vec((0usize..3, 1usize..40, 0usize..60, any::<bool>()), 1..200),
        ) {
            let limits = BacklogLimits { messages: 8, bytes: 200 };
            let (mut backlog, mut drops, mut sent) = (Backlog::new(limits, 0), Drops::default(), Vec::new());
            for (number, (class, size, write, keyed)) in steps.into_iter().enumerate() {
                // Each frame is its size followed by that many bytes of its class: a cut one can't be parsed.
                let bytes = [vec![size as u8], vec![class as u8; size]].concat();
                let key = keyed.then_some(number as u64 % 3);
                let _ = backlog.push(
                    Outgoing { class: Class::ALL[class], key, bytes: bytes.into(), expires: None }, 0, &mut drops);
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
