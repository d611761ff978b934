//! When a room tells what: frames by their class's time, heads, likes, ranking, presence, and how it is cut.

use pushmesh_protocol::{
    Payload, PushId, RoomId, Token, UserId,
    frame::{RoomPosition, item},
    message::Millis,
    room::{Audience, Note, Ranking, RoomClass, RoomOrder},
};

use super::{
    around::Around,
    effect::Effect,
    gather::Gathering,
    items,
    ledger::LevelUp,
    limits::{Limits, ms},
    live::Live,
    outbox::{Outbox, Telling},
    parts::Load,
    tally::Tally,
};

/// How often a room asks itself whether it should be cut.
const PARTS_EVERY: Millis = 1_000;
/// How soon a room that can't leave memory yet is asked again.
const SLEEP_AGAIN: Millis = 10_000;

/// When what is due, beside what has gathered.
#[derive(Debug, Default)]
pub(super) struct Timers {
    ranked_at: Millis,
    heads: Option<Millis>,
    heads_until: Millis,
    parts: Option<Millis>,
    sleep: Millis,
    /// At which times the agenda holds this room: the next deadline is never before the first of them.
    queued: Vec<Millis>,
}

impl Timers {
    pub fn new(now: Millis) -> Self {
        Self { sleep: now + SLEEP_AGAIN, ..Self::default() }
    }

    /// Whether the agenda has to be told of this time; an earlier look at the room finds it too.
    pub fn queue(&mut self, due: Millis) -> bool {
        let is_news = self.queued.iter().all(|at| due < *at);
        if is_news {
            self.queued.push(due);
        }
        is_news
    }

    /// The agenda does not hold this time any more.
    pub fn unqueue(&mut self, at: Millis) {
        self.queued.retain(|queued| *queued != at);
    }

    /// Something was said: heads are repeated for a while.
    pub fn said(&mut self, every: Millis, during: Millis, now: Millis) {
        self.heads_until = now + during;
        self.heads.get_or_insert(now + every);
    }

    /// Heads at once, and for a while.
    pub fn heads_now(&mut self, during: Millis, now: Millis) {
        self.heads = Some(now);
        self.heads_until = now + during;
    }

    pub fn look_at_parts(&mut self, now: Millis) {
        self.parts.get_or_insert(now + PARTS_EVERY);
    }
}

/// What is asked of a room's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Tell what is due.
    Due,
    /// Tell everything that has gathered.
    Everything,
}

impl Live {
    pub fn next_deadline(&self, around: Around) -> Millis {
        let limits = around.limits;
        let mut next = self.timers.sleep;
        let soon = limits.batch_soon_bytes;
        let gathered = &self.gathered;
        let dues = [
            gathered.gifts.due(0, soon),
            gathered.high.due(ms(limits.high_within), soon),
            gathered.normal.due(ms(limits.normal_within), soon),
            gathered.low.due(ms(limits.low_within), soon),
            self.timers.heads,
            self.timers.parts,
            self.is_unranked(around).then(|| self.timers.ranked_at + ms(limits.ranking_every)),
            self.notice.pending.then(|| self.notice.told_at + ms(limits.presence_every)),
            self.ledger.has_level_ups().then_some(0),
            self.retell.due().filter(|_| around.ready),
        ];
        for due in dues.into_iter().flatten() {
            next = next.min(due);
        }
        next
    }

    /// Tells what is due, or everything. Items of chains go out before the heads that name them.
    pub fn turn(
        &mut self,
        room: &RoomId,
        turn: Turn,
        around: Around,
        now: Millis,
        out: &mut Outbox,
        tally: &mut Tally,
    ) {
        let limits = around.limits;
        self.level_up(room, out);
        if self.timers.parts.is_some_and(|at| at <= now) {
            self.look_at_parts(room, around, now, tally);
        }
        self.retell(room, around, now);
        self.tell_ranking(room, around, now, out);
        self.tell_presence(room, around, now);
        let heads = self.timers.heads.is_some_and(|at| at <= now);
        if heads {
            self.tell_heads(around, now);
        }
        let everything = turn == Turn::Everything;
        let is_due = |gathering: &Gathering, within| {
            let due = gathering.due(ms(within), limits.batch_soon_bytes);
            due.is_some_and(|due| due <= now || heads || everything)
        };
        let gifts = !self.gathered.gifts.is_empty();
        let high = is_due(&self.gathered.high, limits.high_within);
        if gifts || high {
            self.tell_high(room, high, around, out, tally);
        }
        if is_due(&self.gathered.normal, limits.normal_within) {
            let (sections, trace) = self.gathered.normal.take();
            let telling = Telling { room, class: RoomClass::Normal, urgent: Vec::new(), sections, trace };
            out.tell(telling, around, tally);
        }
        if is_due(&self.gathered.low, limits.low_within) {
            self.gather_likes(now);
            let (sections, trace) = self.gathered.low.take();
            let telling = Telling { room, class: RoomClass::Low, urgent: Vec::new(), sections, trace };
            out.tell(telling, around, tally);
        }
    }

    /// Heads are repeated for a while, and everybody is asked who is here: a new owner knows neither what was lost nor that.
    pub fn taken_over(&mut self, limits: &Limits, now: Millis) {
        self.timers.heads_now(ms(limits.heads_for), now);
        self.gathered.low.order(RoomOrder::Recount, now);
        self.gathered.low.hurry(now);
    }

    fn tell_high(&mut self, room: &RoomId, chat_too: bool, around: Around, out: &mut Outbox, tally: &mut Tally) {
        let (gifts, gifts_trace) = self.gathered.gifts.take();
        let urgent = gifts.into_iter().flat_map(|section| section.frames).collect();
        let (sections, trace) = if chat_too { self.gathered.high.take() } else { Default::default() };
        let telling = Telling { room, class: RoomClass::High, urgent, sections, trace: gifts_trace.or(trace) };
        out.tell(telling, around, tally);
    }

    fn gather_likes(&mut self, now: Millis) {
        if !self.likes.has_untold() {
            return;
        }
        let like = item::Like { count: self.likes.take_untold(), total: self.likes.total() };
        let item = items::loose(&items::LIKE, now, &like);
        self.gathered.low.push_alone(Audience::Everybody, items::LIKES_KEY.clone(), Some(item), None);
    }

    // In the middle of a replay a gift may be in the room's sum and not yet in its sender's.
    fn is_unranked(&self, around: Around) -> bool {
        around.ready && self.gifts.last != self.ranked
    }

    fn tell_ranking(&mut self, room: &RoomId, around: Around, now: Millis, out: &mut Outbox) {
        if !self.is_unranked(around) || now < self.timers.ranked_at + ms(around.limits.ranking_every) {
            return;
        }
        self.timers.ranked_at = now;
        self.ranked = self.gifts.last;
        self.stored.dirty = true;
        let (top, gifts_total) = (self.top.list(), self.gifts_total);
        let item = items::loose(&items::RANKING, now, &item::Ranking { top: top.clone(), gifts_total });
        self.gathered.normal.push_alone(Audience::Everybody, items::RANKING.clone(), Some(item), None);
        self.gathered.normal.begin(now);
        let ranking = Ranking { room: room.clone(), top, gifts_total, at: now };
        out.push(RoomClass::Normal, Effect::Ranking { ranking, gift: self.ranked });
    }

    fn retell(&mut self, room: &RoomId, around: Around, now: Millis) {
        if !around.ready || self.retell.due().is_none_or(|due| due > now) {
            return;
        }
        for item in self.retell.look(room, around.standing, now) {
            self.gathered.normal.push(Audience::Everybody, item, self.size(room, around), now);
        }
    }

    fn tell_presence(&mut self, room: &RoomId, around: Around, now: Millis) {
        if !self.notice.pending || now < self.notice.told_at + ms(around.limits.presence_every) {
            return;
        }
        (self.notice.pending, self.notice.told_at) = (false, now);
        let (mut came, mut went) = (std::mem::take(&mut self.notice.came), std::mem::take(&mut self.notice.went));
        if around.present > around.limits.notices_up_to {
            came.clear();
            went.clear();
        }
        let has_names = !came.is_empty() || !went.is_empty();
        let item = items::loose(&items::PRESENCE, now, &item::Presence { present: around.present, came, went });
        if has_names {
            // A newer one would not say who came in this one.
            self.gathered.low.push(Audience::Everybody, item, self.size(room, around), now);
        } else {
            self.gathered.low.push_alone(Audience::Everybody, items::PRESENCE.clone(), Some(item), None);
            self.gathered.low.begin(now);
        }
    }

    // In low, which goes last: heads that overtake what they name would tell of gaps that are none.
    fn tell_heads(&mut self, around: Around, now: Millis) {
        let next = now + ms(around.limits.heads_every);
        self.timers.heads = (next <= self.timers.heads_until).then_some(next);
        let of = self.chat.parts();
        let position =
            |high| RoomPosition { epoch: around.owner.streams, gifts: self.gifts.last, high, normal: self.normal.last };
        let mut tell = |audience, high| {
            self.gathered.low.push_alone(audience, items::HEADS_KEY.clone(), None, Some(position(high)));
        };
        if of == 1 {
            tell(Audience::Everybody, self.chat.whole());
        } else {
            for part in 0..of {
                tell(Audience::Part { part, of }, self.chat.part(part));
            }
            tell(Audience::Overseers, self.chat.whole());
        }
        self.gathered.low.hurry(now);
    }

    fn look_at_parts(&mut self, room: &RoomId, around: Around, now: Millis, tally: &mut Tally) {
        let rate = self.meter.rate(now);
        let bytes = rate.bytes.saturating_mul(around.present);
        let load = Load { members: around.present, messages: rate.messages, bytes };
        let parts = self.chat.parts();
        if let Some(other) = self.cutter.decide(parts, load, &around.limits.parts, now) {
            self.recut(room, other, around, now);
            let counter = if other > parts { &mut tally.cuts } else { &mut tally.merges };
            *counter += 1;
        }
        let goes_on = self.chat.parts() > 1 || !self.meter.is_still(now);
        self.timers.parts = goes_on.then_some(now + PARTS_EVERY);
    }

    /// Everybody is moved to where the whole stands, each from where his old part stood.
    pub fn recut(&mut self, room: &RoomId, parts: u16, around: Around, now: Millis) {
        let of = self.chat.parts();
        let whole = self.chat.whole();
        let old = self.chat.recut(parts);
        self.stored.dirty = true;
        let size = self.size(room, around);
        let high = &mut self.gathered.high;
        high.barrier();
        // Where nothing was said yet nobody stands anywhere.
        if whole > 0 {
            for (part, prev) in (0..).zip(old) {
                let audience = if of == 1 { Audience::Everybody } else { Audience::Part { part, of } };
                high.push(audience, items::parts(whole, prev, parts, now), size, now);
            }
            high.hurry(now);
        }
        high.barrier();
    }

    fn level_up(&mut self, room: &RoomId, out: &mut Outbox) {
        for LevelUp { user, level, total, at } in self.ledger.take_level_ups() {
            let data: Payload = item::write(&item::Level { user: user.clone(), level, total });
            let (kind, from) = (items::LEVEL.clone(), Some(user.clone()));
            let note = Note { room: room.clone(), kind, from, at, data };
            out.push(RoomClass::Low, Effect::Level { note, id: level_id(room, &user, level), user, level });
        }
    }

    /// Whether it may leave memory.
    pub fn may_sleep(&mut self, around: Around, now: Millis) -> bool {
        if now < self.timers.sleep {
            return false;
        }
        let idle_at = self.at + ms(around.limits.idle_after);
        if idle_at <= now
            && around.present == 0
            && self.is_clean()
            && self.gathered.is_empty()
            && self.retell.is_empty()
        {
            return true;
        }
        self.timers.sleep = idle_at.max(now + SLEEP_AGAIN);
        false
    }
}

impl super::live::Gathered {
    pub fn is_empty(&self) -> bool {
        self.gifts.is_empty() && self.high.is_empty() && self.normal.is_empty() && self.low.is_empty()
    }
}

// Whoever makes this note, and whenever: it has one subject. A user's name and the level may be too long for a token together.
fn level_id(room: &RoomId, user: &UserId, level: u32) -> Token {
    PushId::of_message(room.token(), &format!("level.{level}"), user).token()
}
