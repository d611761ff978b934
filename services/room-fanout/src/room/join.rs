//! How a room is entered, and what somebody who comes back has missed.

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId,
    frame::{Joined, RoomItem, RoomPosition},
    message::Millis,
    room::{Gift, JoinedUser, JoinedView, JoinsAnswer, JoinsAsk, RoomAnswer, RoomEvent, RoomMessage, part_of},
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

/// A part's chat lies among the others': so many times as much is kept in memory and read for it, at most.
const TIMES_MAX: u16 = 8;

/// What became of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Answer(RoomAnswer),
    /// The room is not in memory: wake it, then ask again.
    Asleep(RoomId),
    /// Memory does not hold all that was missed: read it, then ask with it. What was said meanwhile may make it ask again.
    Read(PastAsk),
}

/// What may be used to answer.
#[derive(Debug, Clone, Copy)]
pub enum Sources<'a> {
    Memory,
    /// And what was read for somebody of the same room, a moment ago.
    With(&'a Past),
    /// It can't be read, for this reason: memory has to do.
    Without(NotRecovered),
}

/// Why what was missed is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRecovered {
    /// The position is one of other streams.
    Epoch,
    /// The position is ahead of the room: its record was lost.
    Ahead,
    /// The stream has dropped it.
    TooOld,
    /// It would be more than `recover_items` or `recover_bytes`.
    TooMuch,
    /// The stream could not be read, or the room goes on faster than it can be.
    Unread,
    /// Too many wait for a reading.
    Busy,
}

impl NotRecovered {
    pub const ALL: [Self; 6] = [Self::Epoch, Self::Ahead, Self::TooOld, Self::TooMuch, Self::Unread, Self::Busy];

    pub fn name(self) -> &'static str {
        ["epoch", "ahead", "too_old", "too_much", "unread", "busy"][self as usize]
    }
}

/// Why what was missed can't be told now.
enum Lack {
    Read(PastAsk),
    Gone(NotRecovered),
}

/// What those see who are told the same.
struct Seen {
    /// Their part of the finest cut that is remembered; `None`: they see all.
    part: Option<u16>,
    view: JoinedView,
    not_recovered: Option<NotRecovered>,
}

impl Live {
    /// Lets in all who ask from one position. Who sees the same is told the same, which is made once.
    pub fn joins(&self, ask: &JoinsAsk, sources: Sources, around: Around, now: Millis, tally: &mut Tally) -> Asked {
        let finest = self.chat.finest();
        let (mut seen, mut users) = (Vec::<Seen>::new(), Vec::with_capacity(ask.users.len()));
        let mut bytes = 0;
        for user in &ask.users {
            let role = around.standing.role(&ask.room, user);
            let part = role.is_none().then(|| part_of(user, finest));
            let known = seen.iter().position(|seen| seen.part == part);
            // The rest asks again: an answer is one message.
            let is_too_long = known.is_none() && bytes > around.limits.recover_bytes;
            if known.is_none() && !is_too_long {
                let view = if role.is_some() { View::All } else { View::PartOf(user) };
                match self.seen(ask, part, view, sources, around, now) {
                    Ok(more) => {
                        bytes += more.view.missed.iter().map(Bytes::len).sum::<usize>();
                        seen.push(more);
                    }
                    Err(past) => return Asked::Read(past),
                }
            }
            let view = known.or_else(|| seen.len().checked_sub(1)).filter(|_| !is_too_long).map(|view| view as u16);
            let muted_until = around.standing.muted_until(&ask.room, user, now);
            users.push(JoinedUser { view, role, muted_until });
        }
        for view in users.iter().filter_map(|user| user.view) {
            tally.joins += 1;
            match (ask.resume, seen[usize::from(view)].not_recovered) {
                (None, _) => {}
                (Some(_), None) => tally.recovered += 1,
                (Some(_), Some(why)) => tally.not_recovered[why as usize] += 1,
            }
        }
        let views = seen.into_iter().map(|seen| seen.view).collect();
        Asked::Answer(RoomAnswer::JoinedAll(Box::new(JoinsAnswer { epoch: around.owner.lease, views, users })))
    }

    fn seen(
        &self,
        ask: &JoinsAsk,
        part: Option<u16>,
        view: View,
        sources: Sources,
        around: Around,
        now: Millis,
    ) -> Result<Seen, PastAsk> {
        let mut position = self.position(view, around);
        let (missed, not_recovered) = match &ask.resume {
            None => (Vec::new(), None),
            Some(resume) => match self.missed(&ask.room, resume, view, sources, around, now) {
                Ok(missed) => {
                    // Nobody is moved back: what lies between is not for him.
                    position.high = position.high.max(resume.high);
                    (missed, None)
                }
                Err(Lack::Read(past)) => return Err(past),
                Err(Lack::Gone(why)) => (Vec::new(), Some(why)),
            },
        };
        let joined = Joined {
            room: ask.room.clone(),
            position,
            recovered: not_recovered.is_none(),
            state: around.standing.state(&ask.room),
            role: None,
            muted_until: None,
            present: around.present,
            top: self.top.list(),
            gifts_total: self.gifts_total,
            likes_total: self.likes.total(),
        };
        Ok(Seen { part, view: JoinedView { joined, missed }, not_recovered })
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
        if resume.epoch != around.owner.streams {
            return Err(Lack::Gone(NotRecovered::Epoch));
        }
        if is_ahead {
            return Err(Lack::Gone(NotRecovered::Ahead));
        }
        let needs = self.needs(resume, view, around);
        if self.is_too_much(&needs, view, around) {
            return Err(Lack::Gone(NotRecovered::TooMuch));
        }
        let past = self.usable(needs, sources)?;
        let gifts = Missed { tail: &self.tails.gifts, after: resume.gifts, past: past.gifts };
        let high = Missed { tail: &self.tails.high, after: resume.high, past: past.high };
        let normal = Missed { tail: &self.tails.normal, after: resume.normal, past: past.normal };
        let is_behind = resume.high < self.chat.last(view);
        let chains = [
            gifts.items(|offset, gift| self.missed_gift(offset, gift)),
            if is_behind { self.missed_chat(high, view, now)? } else { Vec::new() },
            self.missed_events(normal)?,
        ];
        if chains.iter().any(|chain| chain.len() > around.limits.recover_items) {
            return Err(Lack::Gone(NotRecovered::TooMuch));
        }
        let [gifts, high, normal] = chains;
        let mut all = linked(gifts, resume.gifts);
        all.extend(linked(high, resume.high));
        all.extend(linked(normal, resume.normal));
        let frames = pack::pack_all(room, around.owner.streams, all, around.limits.frame_max_bytes);
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        match bytes > around.limits.recover_bytes {
            true => Err(Lack::Gone(NotRecovered::TooMuch)),
            false => Ok(frames),
        }
    }

    // Where it is not known any more whether its sender was muted, it comes without its note.
    fn missed_gift(&self, offset: u64, gift: &Gift) -> Option<RoomItem> {
        let is_hidden = gift.note.is_some() && self.skipped.may_contain(offset);
        let item = || match is_hidden {
            true => items::gift(offset, 0, &Gift { note: None, ..gift.clone() }),
            false => items::gift(offset, 0, gift),
        };
        self.gifts.trail().may_hold(offset).then(item)
    }

    fn missed_events(&self, missed: Missed<RoomEvent>) -> Result<Vec<RoomItem>, Lack> {
        let (after, trail) = (missed.after, self.normal.trail());
        // Read from the stream, what was told to nobody must be known to be so.
        let is_known = self.skipped_events.forgotten() <= after || trail.tells(after).is_some();
        if missed.past.is_some() && !is_known {
            return Err(Lack::Gone(NotRecovered::TooOld));
        }
        let told = |offset: u64| trail.may_hold(offset) && !self.skipped_events.contains(offset);
        Ok(missed.items(|offset, event| told(offset).then(|| items::happening(offset, 0, event))))
    }

    // Of what was told to others since, only the view's own; at its end he is moved to where his view stands.
    fn missed_chat(&self, missed: Missed<RoomMessage>, view: View, now: Millis) -> Result<Vec<RoomItem>, Lack> {
        let (after, last) = (missed.after, self.chat.last(view));
        // Read from the stream, what was told to nobody must be known to be so.
        let is_known = self.skipped.forgotten() <= after || self.chat.trail().tells(after).is_some();
        if missed.past.is_some() && !is_known {
            return Err(Lack::Gone(NotRecovered::TooOld));
        }
        let told = |offset: u64| self.chat.trail().may_hold(offset) && !self.skipped.contains(offset);
        let all = missed.items(|offset, message| told(offset).then(|| items::chat(offset, 0, message)));
        let mut own = Vec::with_capacity(all.len());
        for item in all {
            if self.chat.was_seen(view, item.from.as_ref(), item.offset).ok_or(Lack::Gone(NotRecovered::TooOld))? {
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
        let times = self.times();
        let (gifts, normal) = (self.gifts.last, self.normal.last);
        PastAsk {
            gifts: span(resume.gifts, gifts, gifts, &self.tails.gifts, 1),
            high: span(resume.high, self.chat.last(view), self.chat.whole(), &self.tails.high, times),
            normal: span(resume.normal, normal, normal, &self.tails.normal, 1),
        }
    }

    /// How much more of the chat is kept and read, because it is that of many parts.
    pub(super) fn times(&self) -> usize {
        usize::from(self.chat.parts().min(TIMES_MAX))
    }

    // Memory alone has more than would be told: nothing has to be read to know that.
    fn is_too_much(&self, needs: &PastAsk, view: View, around: Around) -> bool {
        let limits = around.limits;
        let exceeds = |needed: Option<Span>, tail: &Tail, is_his: &dyn Fn(&RoomItem) -> bool| {
            needed.is_some() && {
                let his = tail.behind(tail.floor()).filter(|item| is_his(item));
                let (items, bytes) = his.fold((0, 0), |(items, bytes), item| (items + 1, bytes + item.data.0.len()));
                items > limits.recover_items || bytes > limits.recover_bytes
            }
        };
        let is_his = |item: &RoomItem| self.chat.was_seen(view, item.from.as_ref(), item.offset) == Some(true);
        exceeds(needs.gifts, &self.tails.gifts, &|_| true)
            || exceeds(needs.high, &self.tails.high, &is_his)
            || exceeds(needs.normal, &self.tails.normal, &|_| true)
    }

    fn usable<'a>(&self, needs: PastAsk, sources: Sources<'a>) -> Result<Usable<'a>, Lack> {
        let mut usable = Usable::default();
        if needs == PastAsk::default() {
            return Ok(usable);
        }
        let past = match sources {
            Sources::Memory => return Err(Lack::Read(needs)),
            Sources::Without(why) => return Err(Lack::Gone(why)),
            Sources::With(past) => past,
        };
        if reaches(needs.gifts, &past.gifts, &self.tails.gifts, self.gifts.trail())?
            && reaches(needs.high, &past.high, &self.tails.high, self.chat.trail())?
            && reaches(needs.normal, &past.normal, &self.tails.normal, self.normal.trail())?
        {
            usable.gifts = past.gifts.as_ref().filter(|_| needs.gifts.is_some());
            usable.high = past.high.as_ref().filter(|_| needs.high.is_some());
            usable.normal = past.normal.as_ref().filter(|_| needs.normal.is_some());
            return Ok(usable);
        }
        Err(Lack::Read(needs))
    }
}

/// Of what was read, what is needed.
#[derive(Default)]
struct Usable<'a> {
    gifts: Option<&'a PastOf<Gift>>,
    high: Option<&'a PastOf<RoomMessage>>,
    normal: Option<&'a PastOf<RoomEvent>>,
}

// Whether what was read, with what memory holds now, is all that is needed: memory may have moved on meanwhile, and it may
// have been read for somebody else. What the stream has dropped is a lack only where something of this very chain was
// among it.
fn reaches<T>(needed: Option<Span>, past: &Option<PastOf<T>>, tail: &Tail, trail: &Trail) -> Result<bool, Lack> {
    let (Some(needed), Some(past)) = (needed, past) else { return Ok(needed.is_none()) };
    // He stands where this chain, as far as it is remembered, never was: its record was lost.
    if trail.tells(needed.after) == Some(false) {
        return Err(Lack::Gone(NotRecovered::Ahead));
    }
    if !past.to_end {
        // Too much from there on is too much from before it.
        return if needed.after <= past.span.after { Err(Lack::Gone(NotRecovered::TooMuch)) } else { Ok(false) };
    }
    if past.span.after > needed.after || past.span.upto < tail.floor() {
        return Ok(false);
    }
    let is_there = past.first <= needed.after + 1;
    if !is_there && !trail.is_found(needed.after, past.first, |offset| past.holds(offset)) {
        return Err(Lack::Gone(NotRecovered::TooOld));
    }
    Ok(true)
}

/// Where the items of a chain behind an offset are.
struct Missed<'a, T> {
    tail: &'a Tail,
    after: u64,
    past: Option<&'a PastOf<T>>,
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
