//! How a room is entered, and what somebody who comes back has missed.

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    frame::{Joined, RoomItem, RoomPosition},
    message::Millis,
    room::{JoinAnswer, JoinAsk, RoomAnswer, RoomMessage},
};

use super::{
    around::Around,
    chain::View,
    items,
    live::Live,
    pack,
    past::{Past, PastAsk, PastOf, Span},
    tail::Tail,
    tally::Tally,
    trail::Trail,
};

/// A part's chat lies among the others' in the stream: so many times as much is read for it, at most.
const READ_TIMES_MAX: u16 = 8;

/// What became of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Answer(RoomAnswer),
    /// The room is not in memory: wake it, then ask again.
    Asleep(RoomId),
    /// Memory does not hold all that was missed: read it, then [`join_with`](super::Rooms::join_with). What was said meanwhile
    /// may make it ask again.
    Read(PastAsk),
}

/// What may be used to answer.
#[derive(Debug, Clone)]
pub(super) enum Sources {
    Memory,
    With(Box<Past>),
    /// It can't be read now: memory has to do.
    Without,
}

/// Why what was missed can't be told now.
enum Lack {
    Read(PastAsk),
    /// It is too old, too much, or of other streams.
    Gone,
}

impl Live {
    pub fn join(&self, ask: &JoinAsk, sources: Sources, around: Around, now: Millis, tally: &mut Tally) -> Asked {
        let role = around.standing.role(&ask.room, &ask.user);
        let view = if role.is_some() { View::All } else { View::PartOf(&ask.user) };
        let mut position = self.position(view, around);
        let (recovered, missed) = match &ask.resume {
            None => (true, Vec::new()),
            Some(resume) => match self.missed(&ask.room, resume, view, sources, around, now) {
                Ok(missed) => {
                    // Nobody is moved back: what lies between is not for him.
                    position.high = position.high.max(resume.high);
                    tally.recovered += 1;
                    (true, missed)
                }
                Err(Lack::Read(past)) => return Asked::Read(past),
                Err(Lack::Gone) => {
                    tally.not_recovered += 1;
                    (false, Vec::new())
                }
            },
        };
        tally.joins += 1;
        let joined = Joined {
            room: ask.room.clone(),
            position,
            recovered,
            state: around.standing.state(&ask.room),
            role,
            muted_until: around.standing.muted_until(&ask.room, &ask.user, now),
            present: around.present,
            top: self.top.list(),
            gifts_total: self.gifts_total,
            likes_total: self.likes.total(),
        };
        let answer = JoinAnswer { epoch: around.owner.lease, joined, overseer: role.is_some(), missed };
        Asked::Answer(RoomAnswer::Joined(Box::new(answer)))
    }

    pub fn position(&self, view: View, around: Around) -> RoomPosition {
        let (gifts, high, normal) = (self.gifts.last, self.chat.last(view), self.normal.last);
        RoomPosition { epoch: around.owner.streams, gifts, high, normal }
    }

    /// The frames that lead from `resume` to where this view stands.
    fn missed(
        &self,
        room: &RoomId,
        resume: &RoomPosition,
        view: View,
        sources: Sources,
        around: Around,
        now: Millis,
    ) -> Result<Vec<Bytes>, Lack> {
        let is_ahead =
            resume.gifts > self.gifts.last || resume.high > self.chat.whole() || resume.normal > self.normal.last;
        if resume.epoch != around.owner.streams || is_ahead {
            return Err(Lack::Gone);
        }
        let past = self.usable(self.needs(resume, view, around), sources)?;
        let gifts = Missed { tail: &self.tails.gifts, after: resume.gifts, past: past.gifts };
        let high = Missed { tail: &self.tails.high, after: resume.high, past: past.high };
        let normal = Missed { tail: &self.tails.normal, after: resume.normal, past: past.normal };
        let is_behind = resume.high < self.chat.last(view);
        let chains = [
            gifts.items(|offset, gift| self.gifts.trail().may_hold(offset).then(|| items::gift(offset, 0, gift))),
            if is_behind { self.missed_chat(high, view, now)? } else { Vec::new() },
            normal.items(|offset, event| {
                self.normal.trail().may_hold(offset).then(|| items::happening(offset, 0, event))
            }),
        ];
        if chains.iter().any(|chain| chain.len() > around.limits.recover_items) {
            return Err(Lack::Gone);
        }
        let [gifts, high, normal] = chains;
        let mut all = linked(gifts, resume.gifts);
        all.extend(linked(high, resume.high));
        all.extend(linked(normal, resume.normal));
        let frames = pack::pack_all(room, around.owner.streams, all, around.limits.frame_max_bytes);
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        if bytes > around.limits.recover_bytes { Err(Lack::Gone) } else { Ok(frames) }
    }

    // Of what was told to others since, only the view's own; at its end he is moved to where his view stands.
    fn missed_chat(&self, missed: Missed<RoomMessage>, view: View, now: Millis) -> Result<Vec<RoomItem>, Lack> {
        let (after, last) = (missed.after, self.chat.last(view));
        // Read from the stream, what was told to nobody must be known to be so.
        let is_known = self.skipped.forgotten() <= after || self.chat.trail().tells(after).is_some();
        if missed.past.is_some() && !is_known {
            return Err(Lack::Gone);
        }
        let told = |offset: u64| self.chat.trail().may_hold(offset) && !self.skipped.contains(offset);
        let all = missed.items(|offset, message| told(offset).then(|| items::chat(offset, 0, message)));
        let mut own = Vec::with_capacity(all.len());
        for item in all {
            if self.chat.was_seen(view, item.from.as_ref(), item.offset).ok_or(Lack::Gone)? {
                own.push(item);
            }
        }
        if own.last().map_or(after, |item| item.offset) < last {
            own.push(items::parts(last, 0, self.chat.parts(), now));
        }
        Ok(own)
    }

    /// What memory does not hold of what was missed.
    fn needs(&self, resume: &RoomPosition, view: View, around: Around) -> PastAsk {
        let (items, bytes) = (around.limits.recover_items, around.limits.recover_bytes);
        let span = |after: u64, last: u64, upto: u64, tail: &Tail, times: usize| {
            let (max_messages, max_bytes) = (items * times, bytes * times);
            (after < last && after < tail.floor()).then_some(Span { after, upto, max_messages, max_bytes })
        };
        let times = match view {
            View::All => 1,
            View::PartOf(_) => usize::from(self.chat.parts().min(READ_TIMES_MAX)),
        };
        let (gifts, normal) = (self.gifts.last, self.normal.last);
        PastAsk {
            gifts: span(resume.gifts, gifts, gifts, &self.tails.gifts, 1),
            high: span(resume.high, self.chat.last(view), self.chat.whole(), &self.tails.high, times),
            normal: span(resume.normal, normal, normal, &self.tails.normal, 1),
        }
    }

    fn usable(&self, needs: PastAsk, sources: Sources) -> Result<Past, Lack> {
        if needs == PastAsk::default() {
            return Ok(Past::default());
        }
        let past = match sources {
            Sources::Memory => return Err(Lack::Read(needs)),
            Sources::Without => return Err(Lack::Gone),
            Sources::With(past) => *past,
        };
        let gifts = reaches(needs.gifts, &past.gifts, &self.tails.gifts, self.gifts.trail())?;
        let high = reaches(needs.high, &past.high, &self.tails.high, self.chat.trail())?;
        let normal = reaches(needs.normal, &past.normal, &self.tails.normal, self.normal.trail())?;
        if gifts && high && normal { Ok(past) } else { Err(Lack::Read(needs)) }
    }
}

// Whether what was read, with what memory holds now, is all that is needed: memory may have moved on meanwhile. What the
// stream has dropped is a lack only where something of this very chain was among it.
fn reaches<T>(needed: Option<Span>, past: &Option<PastOf<T>>, tail: &Tail, trail: &Trail) -> Result<bool, Lack> {
    match (needed, past) {
        (None, _) => Ok(true),
        (Some(_), None) => Ok(false),
        (Some(needed), Some(past)) => {
            // He stands where this chain, as far as it is remembered, never was: its record was lost.
            if trail.tells(needed.after) == Some(false) {
                return Err(Lack::Gone);
            }
            let is_there = past.first <= needed.after + 1;
            if !past.to_end || !(is_there || trail.is_found(needed.after, past.first, |offset| past.holds(offset))) {
                return Err(Lack::Gone);
            }
            Ok(past.span.after <= needed.after && past.span.upto >= tail.floor())
        }
    }
}

/// Where the items of a chain behind an offset are.
struct Missed<'a, T> {
    tail: &'a Tail,
    after: u64,
    past: Option<PastOf<T>>,
}

impl<T> Missed<'_, T> {
    fn items(self, item: impl Fn(u64, &T) -> Option<RoomItem>) -> Vec<RoomItem> {
        let Self { tail, after, past } = self;
        let Some(past) = past.filter(|_| after < tail.floor()) else { return tail.behind(after).cloned().collect() };
        let upto = past.span.upto;
        let behind = past.messages.iter().filter(|(offset, _)| *offset > after && *offset <= upto);
        let mut all: Vec<_> = behind.filter_map(|(offset, message)| item(*offset, message)).collect();
        all.extend(tail.behind(upto).cloned());
        all
    }
}

// For whoever stands at `after`, each item follows the one before it.
fn linked(mut items: Vec<RoomItem>, mut after: u64) -> Vec<RoomItem> {
    for item in &mut items {
        item.prev = std::mem::replace(&mut after, item.offset);
    }
    items
}
