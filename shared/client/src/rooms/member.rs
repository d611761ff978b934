//! One room, as a client stands in it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    RoomId,
    frame::{Error, ErrorCode, Join, Joined, Room, RoomItem, RoomPosition},
};

use super::{ANSWER_WITHIN, RoomCounts};
use crate::{
    backoff::Backoff,
    event::Event,
    position::{self, Sight},
};

/// Wait before a recovery: a comet that lost a frame has as many clients that miss it as the room has.
const RECOVER_FIRST: Duration = Duration::from_millis(200);
const RECOVER_CAP: Duration = Duration::from_secs(5);
/// A room without a gap for so long begins its waits anew.
const STEADY: Duration = Duration::from_secs(10);
/// How long what heads announce may be on its way, and as much again at random, before it counts as missed: gifts
/// overtake chat, and chat what is normal.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The same for what follows a JOINED.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(3);
/// How often in a row not everything followed, although JOINED said so, until that is no longer believed.
pub(super) const IN_VAIN_MAX: u8 = 4;
/// How often in a row a recovery may be refused or go unanswered; then what was missed is told as a gap.
pub(super) const REFUSALS_MAX: u8 = 5;
/// For how long after that every gap is told at once, and nothing is asked for: whoever has to answer has enough to do.
const ADRIFT_FOR: Duration = Duration::from_secs(10);
/// How many loose items with an offset are remembered: a new owner may tell the last ones again.
const LOOSE_SEEN: usize = 32;

pub(super) struct Member {
    pub room: RoomId,
    /// None until the first JOINED.
    position: Option<RoomPosition>,
    /// This connection's comet has the client in the room.
    pub joined: bool,
    ask: Ask,
    /// Announced and not here yet: missed, if it isn't by then.
    announced: Option<(RoomPosition, Instant)>,
    backoff: Backoff,
    /// Since the last JOINED.
    since: Option<Instant>,
    /// The farthest that was seen beyond a gap, in the position's epoch.
    beyond: RoomPosition,
    /// Where the last JOINED promised to lead, and how many promises before it were not kept.
    promised: Option<RoomPosition>,
    in_vain: u8,
    /// Recoveries in a row that nobody answered as they should.
    refusals: u8,
    /// Until then gaps are told and not asked for.
    adrift_until: Option<Instant>,
    /// Offset and time of the last loose items that have one.
    loose: VecDeque<(u64, u64)>,
}

/// The one JOIN of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Nothing,
    /// To be sent then; whether because of something missed.
    At(Instant, bool),
    /// Sent; unanswered by then it counts as lost.
    Sent(Instant),
}

impl Member {
    pub fn new(room: RoomId, position: Option<RoomPosition>, now: Instant) -> Self {
        Self {
            room,
            position,
            joined: false,
            ask: Ask::At(now, false),
            announced: None,
            backoff: Backoff::new(RECOVER_FIRST, RECOVER_CAP),
            since: None,
            beyond: RoomPosition::default(),
            promised: None,
            in_vain: 0,
            refusals: 0,
            adrift_until: None,
            loose: VecDeque::new(),
        }
    }

    /// Joins now, unless that is under way.
    pub fn ask(&mut self, now: Instant) {
        if self.ask == Ask::Nothing {
            self.ask = Ask::At(now, false);
        }
    }

    /// The comet may know of this membership.
    pub fn known(&self) -> bool {
        self.joined || matches!(self.ask, Ask::Sent(_))
    }

    pub fn parted(&mut self) {
        (self.joined, self.ask, self.announced) = (false, Ask::Nothing, None);
        // Broken by the connection, not by the room.
        self.promised = None;
        (self.refusals, self.adrift_until) = (0, None);
    }

    /// Takes the answer to a JOIN; the gap, if not everything will follow.
    pub fn joined(&mut self, told: &Joined, now: Instant) -> Option<Event> {
        let to = told.position;
        (self.joined, self.ask, self.announced) = (true, Ask::Nothing, None);
        self.since = Some(now);
        (self.refusals, self.adrift_until) = (0, None);
        let Some(from) = self.position else {
            self.position = Some(to);
            return None;
        };
        if told.recovered && from.epoch == to.epoch && self.in_vain < IN_VAIN_MAX {
            let promised = position::farther(&self.beyond, &to);
            if position::behind(&from, &promised) {
                self.announced = Some((promised, now + FOLLOWS_WITHIN));
            }
            self.promised = Some(promised);
            return None;
        }
        let to = position::farther(&position::farther(&self.beyond, &from), &to);
        self.position = Some(to);
        self.promised = None;
        let missed = from.epoch != to.epoch || position::behind(&from, &to);
        missed.then(|| Event::RoomGap { room: told.room.clone(), from, to })
    }

    /// Shows what is next.
    pub fn take(
        &mut self,
        frame: Room,
        now: Instant,
        random: &mut fastrand::Rng,
        counts: &mut RoomCounts,
        events: &mut VecDeque<Event>,
    ) {
        // Before the first JOINED nothing is due, and what comes is of a membership before this one.
        let is_adrift = self.is_adrift(now);
        let Some(here) = &mut self.position else { return };
        let pass_over = |from: RoomPosition, to: RoomPosition, events: &mut VecDeque<Event>| {
            events.push_back(Event::RoomGap { room: frame.room.clone(), from, to });
        };
        if here.epoch != frame.epoch {
            if !is_adrift {
                return self.recover(now, random);
            }
            let from = std::mem::replace(here, RoomPosition { epoch: frame.epoch, ..RoomPosition::default() });
            pass_over(from, *here, events);
        }
        let mut gap = false;
        for item in frame.items {
            let show = match position::sight(here, &item) {
                Sight::Next => {
                    position::follow(here, &item);
                    true
                }
                Sight::Loose => first_sight(&mut self.loose, &item),
                Sight::Behind => false,
                Sight::Gap if is_adrift => {
                    let from = *here;
                    position::pass_over(here, &item);
                    pass_over(from, *here, events);
                    position::follow(here, &item);
                    true
                }
                Sight::Gap => {
                    gap = true;
                    self.beyond = position::farther(&self.beyond, here);
                    position::follow(&mut self.beyond, &item);
                    continue;
                }
            };
            if show {
                counts.items += 1;
                events.push_back(Event::Room { room: frame.room.clone(), item });
            } else {
                counts.repeated += 1;
            }
        }
        let here = *here;
        if self.announced.is_some_and(|(there, _)| !position::behind(&here, &there)) {
            self.announced = None;
        }
        match frame.heads {
            Some(heads) if heads.epoch != here.epoch => gap = true,
            Some(heads) if self.announced.is_none() && position::behind(&here, &heads) => {
                self.announced = Some((heads, now + on_its_way(random)));
            }
            _ => {}
        }
        if gap {
            self.recover(now, random);
        }
    }

    /// Something was missed: joins again soon, unless that is under way already.
    pub fn recover(&mut self, now: Instant, random: &mut fastrand::Rng) {
        // Without JOINED, the connection's first JOIN is under way, or is to be.
        if self.ask != Ask::Nothing || !self.joined || self.is_adrift(now) {
            return;
        }
        if self.since.is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.backoff.reset();
        }
        self.ask = Ask::At(now + self.backoff.next(random.f64()), true);
    }

    /// A JOIN was refused.
    pub fn refused(&mut self, error: &Error, now: Instant, random: f64) -> Refused {
        let again_in = match (error.error, error.retry_after_ms) {
            (_, Some(after)) => {
                let after = Duration::from_millis(after.into());
                // The owner says the same to everybody in the room.
                self.backoff.said(after.mul_f64(1.0 + random / 2.0), random)
            }
            (ErrorCode::Unavailable | ErrorCode::TooFast, None) => self.backoff.next(random),
            _ => return Refused::Out,
        };
        self.again(again_in, now)
    }

    // Who is in the room and only missed something gives that up after a while, and goes on with what comes; who is not has to
    // ask until he is.
    fn again(&mut self, again_in: Duration, now: Instant) -> Refused {
        self.refusals = if self.joined { self.refusals + 1 } else { 0 };
        if self.refusals < REFUSALS_MAX {
            self.ask = Ask::At(now + again_in, false);
            return Refused::Again(again_in);
        }
        (self.refusals, self.ask) = (0, Ask::Nothing);
        self.adrift_until = Some(now + ADRIFT_FOR);
        let announced = self.announced.take().map(|(there, _)| there);
        Refused::GivenUp(self.move_on(announced))
    }

    // Up to the farthest that is known of; the gap, if that lies ahead.
    fn move_on(&mut self, announced: Option<RoomPosition>) -> Option<Event> {
        let from = self.position?;
        let seen = position::farther(&self.beyond, &from);
        let to =
            announced.filter(|there| there.epoch == from.epoch).map_or(seen, |there| position::farther(&seen, &there));
        self.position = Some(to);
        self.promised = None;
        position::behind(&from, &to).then(|| Event::RoomGap { room: self.room.clone(), from, to })
    }

    fn is_adrift(&self, now: Instant) -> bool {
        self.adrift_until.is_some_and(|until| now < until)
    }

    /// The JOIN that is due, or that the last one is lost.
    pub fn due(&mut self, now: Instant, random: &mut fastrand::Rng, counts: &mut RoomCounts) -> Option<Due> {
        if let Some((there, _)) = self.announced.filter(|(_, missed)| *missed <= now) {
            self.announced = None;
            if self.is_adrift(now) {
                return self.move_on(Some(there)).map(Due::Gap);
            }
            self.recover(now, random);
        }
        match self.ask {
            Ask::At(at, recovery) if at <= now => {
                counts.recoveries += u64::from(recovery);
                self.count_in_vain();
                self.ask = Ask::Sent(now + ANSWER_WITHIN);
                Some(Due::Join(Join { room: self.room.clone(), resume: self.position }))
            }
            Ask::Sent(lost) if lost <= now => {
                let again_in = self.backoff.next(random.f64());
                Some(Due::Lost(self.again(again_in, now)))
            }
            _ => None,
        }
    }

    // A JOIN goes out: was the last one's promise kept?
    fn count_in_vain(&mut self) {
        let promise = self.promised.take().zip(self.position);
        let in_vain = promise.is_some_and(|(there, here)| there.epoch == here.epoch && position::behind(&here, &there));
        self.in_vain = if in_vain { self.in_vain.saturating_add(1) } else { 0 };
    }

    pub fn next(&self) -> Option<Instant> {
        let ask = match self.ask {
            Ask::Nothing => None,
            Ask::At(at, _) | Ask::Sent(at) => Some(at),
        };
        [ask, self.announced.map(|(_, missed)| missed)].into_iter().flatten().min()
    }

    /// Nothing was read until now.
    pub fn unread_until(&mut self, now: Instant, random: &mut fastrand::Rng) {
        if let Ask::Sent(lost) = &mut self.ask {
            *lost = now + ANSWER_WITHIN;
        }
        if let Some((_, missed)) = &mut self.announced {
            *missed = now + on_its_way(random);
        }
    }
}

/// What is to be done about a room.
pub(super) enum Due {
    Join(Join),
    /// No answer.
    Lost(Refused),
    /// What was announced does not come, and is not asked for.
    Gap(Event),
}

/// What becomes of a JOIN that was refused, or not answered.
pub(super) enum Refused {
    /// It is tried again after this.
    Again(Duration),
    /// The client stays in the room and asks no more for what it missed: the gap, as far as it is known by now.
    GivenUp(Option<Event>),
    /// It is not in the room and tries no more.
    Out,
}

fn on_its_way(random: &mut fastrand::Rng) -> Duration {
    ON_ITS_WAY.mul_f64(1.0 + random.f64())
}

/// Whether a loose item is new: one with an offset is known by it and its time.
fn first_sight(seen: &mut VecDeque<(u64, u64)>, item: &RoomItem) -> bool {
    if item.offset == 0 {
        return true;
    }
    let known = (item.offset, item.at);
    if seen.contains(&known) {
        return false;
    }
    if seen.len() == LOOSE_SEEN {
        seen.pop_front();
    }
    seen.push_back(known);
    true
}
