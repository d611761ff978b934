//! [`Live`]: one room in memory.

use pushmesh_protocol::{
    Instance, RoomId, UserId,
    frame::{RoomItem, item},
    message::{Epoch, Millis},
    room::{Audience, Gift, Note, RoomEvent, RoomHappening, RoomMessage, RoomOrder, part_of},
};

use super::{
    around::Around,
    chain::{Chain, ChatChain},
    gather::{Gathering, Size},
    items,
    ledger::Ledger,
    likes::Likes,
    limits::{Limits, ms},
    meter::Meter,
    pack,
    parts::Cutter,
    ranking::Top,
    record::RoomRecord,
    retell::Retell,
    skipped::Skipped,
    tail::Tail,
    tally::Tally,
    tell::Timers,
};

/// A chat that is told so late says nothing of how much is being said.
const LATE: Millis = 5_000;
/// Names in one notice of who came and went.
const NOTICES_MAX: usize = 64;

/// Everything that is known of a room; what is applied here is told by [`super::tell`].
#[derive(Debug, Default)]
pub(super) struct Live {
    pub gifts: Chain,
    pub chat: ChatChain,
    pub normal: Chain,
    /// The last note that was told.
    pub notes: u64,
    pub tails: Tails,
    /// Of ROOM_HIGH.
    pub skipped: Skipped,
    /// Of ROOM_NORMAL.
    pub skipped_events: Skipped,
    pub ledger: Ledger,
    pub gifts_count: u64,
    pub gifts_total: u64,
    pub top: Top,
    pub likes: Likes,
    pub meter: Meter,
    pub cutter: Cutter,
    pub gathered: Gathered,
    pub notice: Notice,
    pub retell: Retell,
    pub timers: Timers,
    /// The last gift whose ranking was told.
    pub ranked: u64,
    /// When something was last said.
    pub at: Millis,
    pub stored: Stored,
}

#[derive(Debug, Default)]
pub(super) struct Tails {
    pub gifts: Tail,
    pub high: Tail,
    pub normal: Tail,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub gifts: Gathering,
    pub high: Gathering,
    pub normal: Gathering,
    pub low: Gathering,
}

/// Who came and went since it was told.
#[derive(Debug, Default)]
pub(super) struct Notice {
    pub came: Vec<UserId>,
    pub went: Vec<UserId>,
    pub told_at: Millis,
    pub pending: bool,
}

/// The room's own record.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// In the bucket; 0: not there.
    pub revision: u64,
    pub dirty: bool,
    /// Stands in the list of rooms with something to store.
    pub listed: bool,
    /// Something of it is being written.
    pub writing: bool,
    /// As it was read: among its rows is a level-up that was not known to be stored.
    pub levels_open: bool,
}

impl Live {
    pub fn new(now: Millis) -> Self {
        Self { at: now, timers: Timers::new(now), ..Self::default() }
    }

    pub fn gift(&mut self, sequence: u64, mut gift: Gift, around: Around, now: Millis, tally: &mut Tally) {
        let limits = around.limits;
        let credited = self.ledger.credit(sequence, &gift, &limits.levels);
        if let Some((total, reached)) = credited {
            self.top.note(&gift.from, total, reached, limits.ranking_places);
        }
        let Some(prev) = self.gifts.step(sequence) else {
            tally.repeated += u64::from(credited.is_none());
            return;
        };
        self.gifts_count += 1;
        self.gifts_total = self.gifts_total.saturating_add(gift.value);
        let is_muted = || around.standing.was_muted(&gift.room, &gift.from, gift.at);
        if gift.note.is_some() && (self.skipped.contains(sequence) || is_muted()) {
            tally.muted += 1;
            self.skipped.push(sequence);
            gift.note = None;
        }
        let item = items::gift(sequence, prev, &gift);
        self.gathered.gifts.push(Audience::Everybody, item.clone(), self.size(&gift.room, around), now);
        self.gathered.gifts.trace(gift.trace);
        self.tails.gifts.push(item, limits.tail_items, limits.tail_bytes);
        tally.gifts += 1;
        self.said(limits, now);
    }

    pub fn chat(&mut self, sequence: u64, message: RoomMessage, around: Around, now: Millis, tally: &mut Tally) {
        let (limits, room) = (around.limits, &message.room);
        if sequence <= self.chat.whole() {
            tally.repeated += 1;
            return;
        }
        // Once skipped it stays so, whatever an owner comes to know of mutes later.
        let is_muted = || message.from.as_ref().is_some_and(|from| around.standing.was_muted(room, from, message.at));
        if self.skipped.contains(sequence) || is_muted() {
            tally.muted += 1;
            self.stored.dirty |= self.skipped.push(sequence);
            return;
        }
        let Some(prev) = self.chat.step(sequence) else { return };
        let item = items::chat(sequence, prev, &message);
        // What was said long ago and is told now, after a take-over, is no rate.
        if message.at.saturating_add(LATE) >= now {
            self.meter.note(pack::item_bytes(&item), now);
            self.timers.look_at_parts(now);
        }
        self.tell_chat(&item, around, self.size(room, around), now);
        self.gathered.high.trace(message.trace);
        let times = self.times();
        self.tails.high.push(item, times * limits.tail_items, times * limits.tail_bytes);
        tally.chats += 1;
        self.said(limits, now);
    }

    // To the sender's part, or all where nobody is the sender; overseers see the chain of the whole.
    fn tell_chat(&mut self, item: &RoomItem, around: Around, size: Size, now: Millis) {
        let of = self.chat.parts();
        if of == 1 {
            self.gathered.high.push(Audience::Everybody, item.clone(), size, now);
            return;
        }
        if around.has_overseers {
            self.gathered.high.push(Audience::Overseers, item.clone(), size, now);
        }
        let parts = match &item.from {
            Some(from) => part_of(from, of)..part_of(from, of) + 1,
            None => 0..of,
        };
        for part in parts {
            let prev = self.chat.step_part(part, item.offset);
            let item = RoomItem { prev, ..item.clone() };
            self.gathered.high.push(Audience::Part { part, of }, item, size, now);
        }
    }

    pub fn happening(&mut self, sequence: u64, event: RoomEvent, around: Around, now: Millis, tally: &mut Tally) {
        // Also of what an earlier owner has told: he may have had no time to compare.
        self.retell.note(&event.what, now);
        if sequence > self.normal.last && (self.skipped_events.contains(sequence) || was_muted(&event, around)) {
            tally.muted += 1;
            self.stored.dirty |= self.skipped_events.push(sequence);
            return;
        }
        let Some(prev) = self.normal.step(sequence) else {
            tally.repeated += 1;
            return;
        };
        let item = items::happening(sequence, prev, &event);
        self.gathered.normal.push(Audience::Everybody, item.clone(), self.size(&event.room, around), now);
        self.gathered.normal.trace(event.trace);
        // After its item, so that he sees why.
        if let RoomHappening::Kick { user } = event.what {
            self.gathered.normal.order(RoomOrder::Kick { user }, now);
        }
        self.tails.normal.push(item, around.limits.tail_items, around.limits.tail_bytes);
        tally.events += 1;
        self.said(around.limits, now);
    }

    pub fn like(&mut self, api: Instance, life: Epoch, total: u64, limits: &Limits, now: Millis, tally: &mut Tally) {
        let counted = self.likes.count(api, life, total, limits, now);
        tally.likes += counted.likes;
        tally.lives_forgotten += counted.forgotten;
        if counted.likes > 0 {
            self.gathered.low.begin(now);
            self.at = self.at.max(now);
            self.stored.dirty = true;
        }
    }

    pub fn note(&mut self, sequence: u64, note: Note, around: Around, now: Millis, tally: &mut Tally) {
        self.notes = sequence;
        self.stored.dirty = true;
        // A level-up is told of somebody, not by him.
        let from = note.from.as_ref().filter(|_| note.kind.as_str() != item::LEVEL);
        if from.is_some_and(|from| around.standing.was_muted(&note.room, from, note.at)) {
            tally.muted += 1;
            return;
        }
        let size = self.size(&note.room, around);
        self.gathered.low.push(Audience::Everybody, items::note(sequence, &note), size, now);
        tally.notes += 1;
        self.at = self.at.max(now);
    }

    /// He sees everything from now on, or his part again. Who begins to oversee a room that is cut is moved from where his
    /// part stands to where the whole does, in a frame of his own.
    pub fn oversee(&mut self, room: &RoomId, user: UserId, overseer: bool, around: Around, now: Millis) {
        let parts = self.chat.parts();
        let whole = self.chat.whole();
        if overseer && parts > 1 && whole > 0 {
            let prev = self.chat.part(part_of(&user, parts));
            let (item, size) = (items::parts(whole, prev, parts, now), self.size(room, around));
            self.gathered.high.push(Audience::User(user.clone()), item, size, now);
        }
        self.order_oversee(user, overseer, now);
    }

    /// Comets are told, and nobody is moved: who has overseen all along and lacks something would not see that he does.
    pub fn order_oversee(&mut self, user: UserId, overseer: bool, now: Millis) {
        self.gathered.high.order(RoomOrder::Oversee { user, overseer }, now);
        self.gathered.high.hurry(now);
    }

    /// The number of those present changed, or somebody came or went.
    pub fn presence_changed(&mut self, came: Vec<UserId>, went: Vec<UserId>, now: Millis) {
        let add = |to: &mut Vec<UserId>, names: Vec<UserId>| {
            let room = NOTICES_MAX.saturating_sub(to.len());
            to.extend(names.into_iter().take(room));
        };
        add(&mut self.notice.came, came);
        add(&mut self.notice.went, went);
        self.notice.pending = true;
        self.timers.look_at_parts(now);
    }

    fn said(&mut self, limits: &Limits, now: Millis) {
        self.at = self.at.max(now);
        self.timers.said(ms(limits.heads_every), ms(limits.heads_for), now);
        self.stored.dirty = true;
    }

    pub fn size(&self, room: &RoomId, around: Around) -> Size {
        Size { empty: pack::empty_bytes(room, around.owner.streams), max: around.limits.frame_max_bytes }
    }

    /// Whether everything is stored.
    pub fn is_clean(&self) -> bool {
        !self.stored.dirty && !self.stored.writing && self.ledger.is_clean()
    }

    pub fn record(&self) -> RoomRecord {
        RoomRecord {
            gifts: self.gifts.clone(),
            chat: self.chat.clone(),
            normal: self.normal.clone(),
            notes: self.notes,
            skipped: self.skipped.offsets(),
            gifts_count: self.gifts_count,
            gifts_total: self.gifts_total,
            ranked: self.ranked,
            likes: self.likes.clone(),
            at: self.at,
            skipped_forgotten: self.skipped.forgotten(),
            levels_open: self.ledger.has_open_levels(),
            skipped_events: self.skipped_events.offsets(),
            skipped_events_forgotten: self.skipped_events.forgotten(),
        }
    }

    /// Its rows come on their own.
    pub fn restore(&mut self, record: RoomRecord, revision: u64) {
        let RoomRecord { gifts, chat, normal, notes, skipped, skipped_forgotten, levels_open, .. } = record;
        let RoomRecord { gifts_count, gifts_total, ranked, likes, at, .. } = record;
        let RoomRecord { skipped_events, skipped_events_forgotten, .. } = record;
        (self.gifts, self.chat, self.normal) = (gifts.mended(), chat.mended(), normal.mended());
        self.notes = notes;
        self.tails = Tails {
            gifts: Tail::from(self.gifts.last),
            high: Tail::from(self.chat.whole()),
            normal: Tail::from(self.normal.last),
        };
        self.skipped = Skipped::of(skipped, skipped_forgotten);
        self.skipped_events = Skipped::of(skipped_events, skipped_events_forgotten);
        (self.gifts_count, self.gifts_total, self.ranked) = (gifts_count, gifts_total, ranked);
        (self.likes, self.at) = (likes, at);
        (self.stored.revision, self.stored.levels_open) = (revision, levels_open);
    }
}

// What the mesh says itself, and what backends and keepers of order do, is nobody's own words.
fn was_muted(event: &RoomEvent, around: Around) -> bool {
    let says = matches!(event.what, RoomHappening::Message { .. });
    let by = event.by.as_ref().filter(|_| says);
    by.is_some_and(|by| around.standing.was_muted(&event.room, by, event.at))
}
