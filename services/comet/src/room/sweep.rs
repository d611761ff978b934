//! The frames of one room on their way round its members.
//!
//! One hand goes round the members, some at a time, and each gets in one write all frames that have begun and that he
//! has not got yet. A frame begins wherever the hand is, and has been round when the hand is back there. So an idle
//! room sends at once, a busy one gathers by itself what comes while the hand goes round, a gift waits for no round of
//! something else, and nobody is always the last.
//!
//! What has begun is bounded by the bytes of one write; what has not waits in lanes, within a bound.

use std::{collections::VecDeque, sync::Arc};

use pushmesh_protocol::room::Audience;

use super::{crowd::PARTS_MAX, frame::Frame};
use crate::lane::{DropReason, Drops, Lane};

/// Largest frame that shares a write with others, in bytes.
const SHARED_FRAME_BYTES: usize = 1_400;
/// Bytes that begin together, of those that one member gets. Each lane may have one frame under way in any case, so that
/// none starves: a write has at most 16 KB, unless a frame is larger than those are that share.
const WRITE_BYTES: usize = 16 * 1024 - (Lane::ALL.len() - 1) * SHARED_FRAME_BYTES;

/// Most frames, and bytes of them, that may wait to begin in one room.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimits {
    pub frames: usize,
    pub bytes: usize,
}

pub const WAIT_LIMITS: WaitLimits = WaitLimits { frames: 4096, bytes: 4 << 20 };

#[derive(Debug)]
pub struct Begun {
    pub frame: Arc<Frame>,
    /// Where the hand was.
    start: usize,
    /// The hand has been at the end since.
    wrapped: bool,
    /// As which its bytes count.
    share: Share,
}

/// Who gets a frame's bytes, as far as a write's size is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Everybody,
    /// Nobody of a part.
    Overseers,
    Part(usize),
}

/// Bytes that have begun, as members get them: everybody's, and those of their own part or of the overseers.
#[derive(Debug, Default)]
struct Weight {
    everybody: usize,
    overseers: usize,
    /// Into how many the room was cut when these were made, and the bytes of each.
    of: u16,
    parts: Vec<usize>,
}

impl Weight {
    /// Frames of another cut than those under way count as everybody's: a member may be in a part of both.
    fn share(&self, audience: &Audience) -> Share {
        match audience {
            Audience::Overseers => Share::Overseers,
            Audience::Part { part, of } if part < of && *of <= PARTS_MAX => {
                let is_same = *of == self.of || self.parts.iter().all(|bytes| *bytes == 0);
                if is_same { Share::Part(usize::from(*part)) } else { Share::Everybody }
            }
            _ => Share::Everybody,
        }
    }

    /// Most bytes that a member gets who gets those of this share.
    fn with(&self, share: Share) -> usize {
        let apart = match share {
            Share::Everybody => self.parts.iter().copied().max().unwrap_or(0).max(self.overseers),
            Share::Overseers => self.overseers,
            Share::Part(part) => self.parts.get(part).copied().unwrap_or(0),
        };
        self.everybody + apart
    }

    fn add(&mut self, frame: &Frame, share: Share) {
        if let (Share::Part(_), Audience::Part { of, .. }) = (share, &frame.audience) {
            self.of = *of;
            self.parts.resize(usize::from(*of), 0);
        }
        *self.of_share(share) += frame.bytes();
    }

    fn take(&mut self, frame: &Frame, share: Share) {
        *self.of_share(share) -= frame.bytes();
    }

    fn of_share(&mut self, share: Share) -> &mut usize {
        match share {
            Share::Everybody => &mut self.everybody,
            Share::Overseers => &mut self.overseers,
            Share::Part(part) => &mut self.parts[part],
        }
    }
}

#[derive(Debug, Default)]
pub struct Sweep {
    waiting: [VecDeque<Arc<Frame>>; Lane::ALL.len()],
    waiting_bytes: usize,
    /// By lane, then by age.
    begun: Vec<Begun>,
    begun_bytes: Weight,
    hand: usize,
    /// What members missed because too much waited, by class.
    missed: [u32; 3],
}

impl Sweep {
    /// Takes a frame, dropping what is worth least where too much waits.
    pub fn push(&mut self, frame: Arc<Frame>, limits: WaitLimits, drops: &mut Drops) {
        let (lane, class) = (frame.lane, frame.lane.class());
        if frame.key.is_some()
            && let Some(older) = self.waiting[lane as usize].iter_mut().find(|older| older.key == frame.key)
        {
            self.waiting_bytes = self.waiting_bytes - older.bytes() + frame.bytes();
            *older = frame;
            return drops.count(class, DropReason::Merged);
        }
        let fits = |sweep: &Self| {
            sweep.frames_waiting() < limits.frames && sweep.waiting_bytes + frame.bytes() <= limits.bytes
        };
        while !fits(self) {
            let victims = [Lane::Low, Lane::Normal].into_iter().filter(|victim| *victim >= lane);
            let mut victims = victims.filter(|victim| !self.waiting[*victim as usize].is_empty());
            let Some(victim) = victims.next() else {
                self.missed[class as usize] = self.missed[class as usize].saturating_add(1);
                return drops.count(class, DropReason::Full);
            };
            let dropped = self.waiting[victim as usize].pop_front().expect("it is not empty");
            self.waiting_bytes -= dropped.bytes();
            let class = victim.class();
            self.missed[class as usize] = self.missed[class as usize].saturating_add(1);
            drops.count(class, DropReason::Full);
        }
        self.waiting_bytes += frame.bytes();
        self.waiting[lane as usize].push_back(frame);
    }

    /// Lets begin what there is room for, the most urgent first. `places`: of the members, holes among them.
    pub fn begin(&mut self, places: usize) {
        if self.begun.is_empty() && places > 0 {
            // Not always from the same one.
            self.hand = (self.hand + places / 3 + 1) % places;
        }
        for lane in Lane::ALL {
            while let Some(next) = self.waiting[lane as usize].front() {
                let at = self.begun.partition_point(|begun| begun.frame.lane <= lane);
                let has_none = at == 0 || self.begun[at - 1].frame.lane != lane;
                let share = self.begun_bytes.share(&next.audience);
                if !has_none && self.begun_bytes.with(share) + next.bytes() > WRITE_BYTES {
                    break;
                }
                let frame = self.waiting[lane as usize].pop_front().expect("it was there above");
                self.waiting_bytes -= frame.bytes();
                self.begun_bytes.add(&frame, share);
                self.begun.insert(at, Begun { frame, start: self.hand, wrapped: false, share });
            }
        }
    }

    /// The next places, at most `most` of them: all frames that have begun are for all of these.
    pub fn next(&self, places: usize, most: usize) -> std::ops::Range<usize> {
        let starts = self.begun.iter().filter(|begun| begun.wrapped && begun.start > self.hand);
        let end = starts.map(|begun| begun.start).fold(places, usize::min);
        self.hand..end.min(self.hand + most)
    }

    /// The hand is at `to`; frames that have been round go into `round`.
    pub fn advance(&mut self, to: usize, places: usize, round: &mut Vec<Arc<Frame>>) {
        self.hand = to;
        self.take_round(round);
        if to >= places {
            self.hand = 0;
            self.begun.iter_mut().for_each(|begun| begun.wrapped = true);
            self.take_round(round);
        }
    }

    fn take_round(&mut self, round: &mut Vec<Arc<Frame>>) {
        let hand = self.hand;
        for done in self.begun.extract_if(.., |begun| begun.wrapped && hand >= begun.start) {
            self.begun_bytes.take(&done.frame, done.share);
            round.push(done.frame);
        }
    }

    /// The members have closed ranks over these holes. Where only holes were left of a frame's round, it is over.
    pub fn closed_ranks(&mut self, holes: &[u32], round: &mut Vec<Arc<Frame>>) {
        let shifted = |place: usize| place - holes.partition_point(|hole| (*hole as usize) < place);
        self.hand = shifted(self.hand);
        self.begun.iter_mut().for_each(|begun| begun.start = shifted(begun.start));
        self.take_round(round);
    }

    /// What has begun, in the order it is written.
    pub fn begun(&self) -> &[Begun] {
        &self.begun
    }

    /// All frames that the member at `at` has not got yet, in the order it would.
    pub fn owed(&self, at: usize) -> impl Iterator<Item = &Arc<Frame>> {
        let not_got = move |begun: &&Begun| match begun.wrapped {
            false => at < begun.start || at >= self.hand,
            true => at < begun.start && at >= self.hand,
        };
        Lane::ALL.into_iter().flat_map(move |lane| {
            let begun = self.begun.iter().filter(move |begun| begun.frame.lane == lane).filter(not_got);
            begun.map(|begun| &begun.frame).chain(&self.waiting[lane as usize])
        })
    }

    pub fn is_under_way(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Whether there is anything to do, and how urgent it is.
    pub fn urgency(&self) -> Option<Urgency> {
        let begun = self.begun.first().map(|begun| begun.frame.lane);
        let waiting = Lane::ALL.into_iter().find(|lane| !self.waiting[*lane as usize].is_empty());
        let first = begun.into_iter().chain(waiting).min()?;
        Some(if first <= Lane::High { Urgency::High } else { Urgency::Low })
    }

    pub fn frames_waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What members must be told they missed, once that is over: gaps in the classes that have an order.
    pub fn take_missed(&mut self, limits: WaitLimits) -> Option<[u32; 3]> {
        let is_over = self.frames_waiting() < limits.frames / 2 && self.waiting_bytes < limits.bytes / 2;
        let [high, normal, _] = self.missed;
        (is_over && high + normal > 0).then(|| std::mem::take(&mut self.missed))
    }

    /// Nobody is left.
    pub fn clear(&mut self) {
        *self = Self { hand: 0, ..Self::default() };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    High,
    Low,
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use pushmesh_protocol::room::{RoomClass, RoomFrame};

    use super::*;
    use crate::lane::Class;

    const FEW: WaitLimits = WaitLimits { frames: 4, bytes: 100_000 };

    fn frame(class: RoomClass, urgent: bool, key: Option<&str>, bytes: usize) -> Arc<Frame> {
        let conflate = key.map(|key| key.parse().unwrap());
        frame_of(class, RoomFrame { audience: Audience::Everybody, urgent, conflate, frame: vec![0; bytes].into() })
    }

    fn frame_of(class: RoomClass, frame: RoomFrame) -> Arc<Frame> {
        Arc::new(Frame::new(&"r".parse().unwrap(), class, frame, Instant::now(), None))
    }

    fn chat(part: u16, of: u16, bytes: usize) -> Arc<Frame> {
        let audience = Audience::Part { part, of };
        frame_of(RoomClass::High, RoomFrame { audience, urgent: false, conflate: None, frame: vec![0; bytes].into() })
    }

    /// Bytes under way for a member of this part.
    fn begun_for(sweep: &Sweep, mine: u16) -> usize {
        let is_mine = |begun: &&Begun| match begun.frame.audience {
            Audience::Part { part, of } => mine % of == part,
            _ => true,
        };
        sweep.begun().iter().filter(is_mine).map(|begun| begun.frame.bytes()).sum()
    }

    fn lanes(sweep: &Sweep) -> Vec<Lane> {
        sweep.begun().iter().map(|begun| begun.frame.lane).collect()
    }

    #[test]
    fn gifts_begin_before_the_rest_and_every_lane_may_have_one_under_way() {
        let (mut sweep, mut drops) = (Sweep::default(), Drops::default());
        for class in [RoomClass::Low, RoomClass::Normal, RoomClass::High] {
            (0..40).for_each(|_| sweep.push(frame(class, false, None, 1_400), WAIT_LIMITS, &mut drops));
        }
        sweep.push(frame(RoomClass::High, true, None, 60_000), WAIT_LIMITS, &mut drops);
        sweep.begin(10);
        assert_eq!(lanes(&sweep), [Lane::Urgent, Lane::High, Lane::Normal, Lane::Low], "a giant leaves one place each");
        let mut round = Vec::new();
        let (places, mut visits) = (10, 0);
        while sweep.is_under_way() {
            let next = sweep.next(places, 4);
            assert!(!next.is_empty());
            visits += next.len();
            sweep.advance(next.end, places, &mut round);
        }
        assert_eq!((visits, round.len()), (10, 4));
        sweep.begin(10);
        let bytes: usize = sweep.begun().iter().map(|begun| begun.frame.bytes()).sum();
        assert!((14_000..=16 * 1024).contains(&bytes), "{bytes}");
        assert_eq!(lanes(&sweep)[..8], [Lane::High; 8]);
        assert_eq!(lanes(&sweep)[8..], [Lane::Normal, Lane::Low]);
        assert_eq!(drops, Drops::default());
    }

    #[test]
    fn each_part_of_a_room_may_have_a_write_under_way_and_no_member_gets_more() {
        let (mut sweep, mut drops, mut round) = (Sweep::default(), Drops::default(), Vec::new());
        for number in 0..320 {
            sweep.push(chat(number % 16, 16, 1_000), WAIT_LIMITS, &mut drops);
        }
        sweep.begin(10);
        assert!((0..16).all(|part| (10_000..=WRITE_BYTES).contains(&begun_for(&sweep, part))));
        // The room is merged: members get of both.
        (0..320).for_each(|number| sweep.push(chat(number % 8, 8, 1_000), WAIT_LIMITS, &mut drops));
        sweep.push(frame(RoomClass::Normal, false, None, 1_000), WAIT_LIMITS, &mut drops);
        let mut brought = 0;
        while sweep.is_under_way() {
            assert!((0..16).all(|part| begun_for(&sweep, part) <= 16 * 1024));
            let next = sweep.next(10, 3);
            sweep.advance(next.end, 10, &mut round);
            brought += round.drain(..).count();
            sweep.begin(10);
        }
        assert_eq!((brought, sweep.begun_bytes.with(Share::Everybody), drops), (641, 0, Drops::default()));
    }

    #[test]
    fn too_much_waiting_costs_low_then_normal_and_is_told_once_it_is_over() {
        let (mut sweep, mut drops) = (Sweep::default(), Drops::default());
        let likes = || frame(RoomClass::Low, false, Some("likes"), 10);
        for one in [likes(), likes(), frame(RoomClass::Low, false, None, 10), frame(RoomClass::Normal, false, None, 10)]
        {
            sweep.push(one, FEW, &mut drops);
        }
        assert_eq!((sweep.frames_waiting(), drops.of(Class::Low, DropReason::Merged)), (3, 1));
        (0..5).for_each(|_| sweep.push(frame(RoomClass::High, false, None, 10), FEW, &mut drops));
        assert_eq!(
            Class::ALL.map(|class| drops.of(class, DropReason::Full)),
            [1, 1, 2],
            "a frame never drives out one of a class above its own"
        );
        assert_eq!((sweep.frames_waiting(), sweep.waiting_bytes()), (4, 40));
        assert_eq!(sweep.take_missed(FEW), None);
        sweep.begin(1);
        assert_eq!(sweep.take_missed(FEW), Some([1, 1, 2]));
        assert_eq!(sweep.take_missed(FEW), None);
    }

    #[test]
    fn what_a_member_is_owed_is_what_the_hand_has_not_brought_it() {
        let (mut sweep, mut drops, mut round) = (Sweep::default(), Drops::default(), Vec::new());
        let owed = |sweep: &Sweep| (0..4).map(|at| sweep.owed(at).count()).collect::<Vec<_>>();
        sweep.push(frame(RoomClass::High, false, None, 1), WAIT_LIMITS, &mut drops);
        sweep.begin(4);
        let start = sweep.next(4, 1).start;
        assert_eq!((start, owed(&sweep)), (2, vec![1; 4]));
        sweep.advance(3, 4, &mut round);
        assert_eq!(owed(&sweep), [1, 1, 0, 1]);
        sweep.push(frame(RoomClass::High, true, None, 1), WAIT_LIMITS, &mut drops);
        assert_eq!(owed(&sweep), [2, 2, 1, 2]);
        sweep.begin(4);
        sweep.advance(4, 4, &mut round);
        assert_eq!(owed(&sweep), [2, 2, 1, 0]);
        sweep.advance(1, 4, &mut round);
        assert_eq!(owed(&sweep), [0, 2, 1, 0]);
        sweep.advance(2, 4, &mut round);
        assert_eq!((owed(&sweep), round.len()), (vec![0, 0, 1, 0], 1));
        assert_eq!(sweep.next(4, 100), 2..3);
        sweep.advance(3, 4, &mut round);
        assert_eq!((round.len(), sweep.urgency()), (2, None));
    }

    // Who, and what he got: lane and number.
    type Got = (usize, Vec<(usize, usize)>);

    proptest! {
        // Whatever is pushed when, whoever leaves or comes: each member there from a frame's beginning to its end gets it
        // once, in the order of its lane; nobody gets one twice.
        #[test]
        fn everybody_gets_every_frame_once_and_in_order(
            count in 1usize..40,
            steps in prop::collection::vec((0u8..8, 0usize..4, 1usize..9), 1..300),
        ) {
            let (mut sweep, mut drops, mut round) = (Sweep::default(), Drops::default(), Vec::new());
            // Each place: who, with what he got; None is a hole.
            let mut members: Vec<Option<Got>> =
                (0..count).map(|who| Some((who, Vec::new()))).collect();
            let mut pushed: Vec<Arc<Frame>> = Vec::new();
            let mut here_since = vec![0usize; count];
            let mut next_who = count;
            let number = |pushed: &[Arc<Frame>], frame: &Arc<Frame>| {
                pushed.iter().position(|known| Arc::ptr_eq(known, frame)).unwrap()
            };
            let mut left: Vec<Got> = Vec::new();
            let mut steps = steps.into_iter();
            let mut ending = 0;
            while ending < 400 {
                let (what, lane, size) = steps.next().unwrap_or_else(|| { ending += 1; (7, 0, 5) });
                match what {
                    0..=2 => {
                        let class = [RoomClass::High, RoomClass::High, RoomClass::Normal, RoomClass::Low][lane];
                        let one = frame(class, lane == 0, None, size * 300);
                        pushed.push(one.clone());
                        sweep.push(one, WAIT_LIMITS, &mut drops);
                    }
                    3 => {
                        let at = (size * 7 + lane) % members.len();
                        if let Some(gone) = members[at].take() {
                            left.push(gone);
                        }
                    }
                    4 => {
                        members.push(Some((next_who, Vec::new())));
                        here_since.push(pushed.len());
                        next_who += 1;
                    }
                    5 => {
                        let holes: Vec<u32> =
                            (0..members.len() as u32).filter(|at| members[*at as usize].is_none()).collect();
                        members.retain(Option::is_some);
                        sweep.closed_ranks(&holes, &mut round);
                        if members.is_empty() {
                            members.push(Some((next_who, Vec::new())));
                            here_since.push(pushed.len());
                            next_who += 1;
                        }
                    }
                    _ => {
                        sweep.begin(members.len());
                        let next = sweep.next(members.len(), size);
                        for at in next.clone() {
                            if let Some((_, got)) = &mut members[at] {
                                for begun in sweep.begun() {
                                    got.push((begun.frame.lane as usize, number(&pushed, &begun.frame)));
                                }
                            }
                        }
                        sweep.advance(next.end, members.len(), &mut round);
                    }
                }
            }
            prop_assert_eq!(sweep.urgency(), None);
            prop_assert_eq!(round.len(), pushed.len());
            for (who, got) in members.iter().flatten().chain(&left) {
                for lane in 0..4 {
                    let mine: Vec<_> = got.iter().filter(|(of, _)| *of == lane).map(|(_, number)| *number).collect();
                    prop_assert!(mine.is_sorted_by(|a, b| a < b), "{} got {:?} in lane {}", who, mine, lane);
                }
            }
            for (who, got) in members.iter().flatten() {
                let since = here_since[*who];
                let all = got.iter().filter(|(_, number)| *number >= since).count();
                prop_assert_eq!(all, pushed.len() - since, "{} of {}", who, pushed.len());
            }
        }
    }
}
