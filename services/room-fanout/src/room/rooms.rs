//! [`Rooms`]: all rooms of one partition.

use std::collections::{HashMap, HashSet};

use pushmesh_protocol::{
    Instance, RoomId, UserId,
    frame::Role,
    message::Millis,
    room::{JoinAnswer, JoinAsk, JoinsAnswer, JoinsAsk, RoomAnswer, RoomInfo, RoomPresence},
};

use super::{
    agenda::Agenda,
    around::{Around, Owner},
    chain::View,
    effect::Effect,
    ends::Ends,
    event::{Asleep, Event, Source},
    join::{Asked, Sources},
    limits::{Limits, ms},
    live::Live,
    outbox::Outbox,
    presence::Presence,
    record::Positions,
    standing::Standing,
    store::Storing,
    tally::Tally,
    tell::Turn,
};

/// Most places of a ranking that are told.
pub const PLACES_MAX: u16 = 1_000;

/// What a room is told of what lies around it: no method, so that the room can be changed meanwhile.
macro_rules! around {
    ($rooms:ident, $room:expr) => {
        $crate::room::around::Around {
            limits: &$rooms.limits,
            owner: $rooms.owner,
            standing: &$rooms.standing,
            present: $rooms.presence.of($room),
            ready: $rooms.ready,
            has_overseers: $rooms.standing.has_overseers($room),
        }
    };
}
pub(super) use around;

/// A partition's rooms, under one lease.
///
/// In memory are rooms with people or traffic; others are *asleep*: of them only the name is kept, and what needs one says so.
pub struct Rooms {
    pub(super) limits: Limits,
    pub(super) owner: Owner,
    pub(super) ends: Ends,
    pub(super) live: HashMap<RoomId, Live>,
    /// With when something was last said in each.
    pub(super) asleep: HashMap<RoomId, Millis>,
    /// Rooms of which all that was stored is known. While messages are replayed, others may have rows and no record yet.
    pub(super) looked_up: HashSet<RoomId>,
    pub(super) standing: Standing,
    pub(super) presence: Presence,
    pub(super) positions: Positions,
    pub(super) storing: Storing,
    pub(super) agenda: Agenda,
    pub(super) ready: bool,
    pub(super) tally: Tally,
}

impl Rooms {
    pub fn new(limits: Limits, owner: Owner) -> Self {
        Self::with_ends(limits, owner, Ends::of(owner.streams))
    }

    /// Where a stream has lost its end.
    pub fn with_ends(limits: Limits, owner: Owner, ends: Ends) -> Self {
        Self {
            limits,
            owner,
            ends,
            live: HashMap::new(),
            asleep: HashMap::new(),
            looked_up: HashSet::new(),
            standing: Standing::default(),
            presence: Presence::default(),
            positions: Positions::default(),
            storing: Storing::default(),
            agenda: Agenda::default(),
            ready: false,
            tally: Tally::default(),
        }
    }

    /// Applies what happened. Messages of one source must come in their order; one that has been applied changes nothing.
    pub fn apply(&mut self, event: Event, now: Millis) -> Result<(), Asleep> {
        if let Some(room) = self.sleeper(&event) {
            return Err(Asleep { room: room.clone(), event: Box::new(event) });
        }
        match event {
            Event::Gift { sequence, gift } => {
                self.passed(Source::Gifts, sequence);
                let room = gift.room.clone();
                self.with(&room, now, |live, around, tally| live.gift(sequence, gift, around, now, tally));
            }
            Event::Chat { sequence, message } => {
                self.passed(Source::Chats, sequence);
                let room = message.room.clone();
                self.with(&room, now, |live, around, tally| live.chat(sequence, message, around, now, tally));
            }
            Event::Happening { sequence, event } => {
                self.passed(Source::Events, sequence);
                let room = event.room.clone();
                self.with(&room, now, |live, around, tally| live.happening(sequence, event, around, now, tally));
            }
            Event::Likes { sequence, api, life, likes } => {
                self.passed(Source::Likes, sequence);
                self.with(&likes.room, now, |live, around, tally| {
                    live.like(api, life, likes.total, around.limits, now, tally);
                });
            }
            Event::Note { sequence, note } => {
                self.passed(Source::Notes, sequence);
                let (room, ready) = (note.room.clone(), self.ready);
                self.with(&room, now, |live, around, tally| match ready || sequence > live.notes {
                    true => live.note(sequence, note, around, now, tally),
                    false => tally.repeated += 1,
                });
            }
            Event::Passed { source, sequence } => self.passed(source, sequence),
            Event::State { room, state } => self.standing.set_state(room, state),
            Event::Role { room, user, role } => self.role(room, user, role, now),
            Event::Mute { room, user, mute } => self.standing.set_mute(room, user, mute),
            Event::Presence(report) => self.report(report, now),
            Event::CometGone(comet) => self.comet_gone(&comet, now),
        }
        Ok(())
    }

    // What is said in a room needs it in memory, and a role that comets have to be told of; that nobody is counted there
    // may mean that nobody was counted yet.
    fn sleeper<'a>(&self, event: &'a Event) -> Option<&'a RoomId> {
        let room = match event {
            Event::Gift { gift, .. } => &gift.room,
            Event::Chat { message, .. } => &message.room,
            Event::Happening { event, .. } => &event.room,
            Event::Likes { likes, .. } => &likes.room,
            Event::Note { note, .. } => &note.room,
            Event::Role { room, .. } if self.ready => room,
            _ => return None,
        };
        let is_unknown = !self.ready && !self.looked_up.contains(room);
        (is_unknown || self.asleep.contains_key(room)).then_some(room)
    }

    /// When the message that is applied next was stored. ROOM_LOW may begin again, and nobody asks.
    pub fn stored_at(&mut self, source: Source, at: Millis) {
        if let Some(newest) = self.positions.newest.get_mut(source as usize) {
            *newest = at.max(*newest);
        }
    }

    fn passed(&mut self, source: Source, sequence: u64) {
        let Positions { gifts, chats, events, likes, notes, newest: _ } = &mut self.positions;
        match source {
            Source::Gifts => *gifts = sequence.max(*gifts),
            Source::Chats => *chats = sequence.max(*chats),
            Source::Events => *events = sequence.max(*events),
            // ROOM_LOW may lie in memory, and begin again with its servers.
            Source::Likes => *likes = sequence,
            Source::Notes => *notes = sequence,
        }
        self.storing.passed = true;
    }

    fn role(&mut self, room: RoomId, user: UserId, role: Option<Role>, now: Millis) {
        let had_one = self.standing.set_role(&room, user.clone(), role);
        // Before that, everybody who joins is told by the answer, and the others when it is over.
        if !self.ready || had_one == role.is_some() {
            return;
        }
        self.with(&room, now, |live, around, _| live.oversee(&room, user, role.is_some(), around, now));
    }

    fn report(&mut self, report: RoomPresence, now: Millis) {
        let (counts, changed) = self.presence.report(report, now);
        for room in changed {
            self.presence_changed(&room, now);
        }
        for count in counts.into_iter().filter(|count| !count.came.is_empty() || !count.went.is_empty()) {
            if self.live.contains_key(&count.room) {
                self.with(&count.room, now, |live, _, _| live.presence_changed(count.came, count.went, now));
            }
        }
    }

    fn comet_gone(&mut self, comet: &Instance, now: Millis) {
        for room in self.presence.gone(comet) {
            self.presence_changed(&room, now);
        }
    }

    fn presence_changed(&mut self, room: &RoomId, now: Millis) {
        let is_new = self.presence.of(room) > 0 && !self.asleep.contains_key(room);
        if is_new || self.live.contains_key(room) {
            self.with(room, now, |live, _, _| live.presence_changed(Vec::new(), Vec::new(), now));
        }
    }

    /// Changes a room, which is made if there is none, and sees that it is heard again when it has to be.
    pub(super) fn with(&mut self, room: &RoomId, now: Millis, change: impl FnOnce(&mut Live, Around, &mut Tally)) {
        let around = around!(self, room);
        let live = self.live.entry(room.clone()).or_insert_with(|| Live::new(now));
        change(live, around, &mut self.tally);
        if (live.stored.dirty || live.ledger.has_dirty()) && !std::mem::replace(&mut live.stored.listed, true) {
            self.storing.dirty.push(room.clone());
        }
        let due = live.next_deadline(around);
        if live.timers.queue(due) {
            self.agenda.add(due, room.clone());
        }
    }

    /// Tells what is due by now; gifts always are.
    pub fn tick(&mut self, now: Millis) -> Vec<Effect> {
        let silent = ms(self.limits.comet_silent_after);
        for comet in self.presence.expired(silent, now) {
            self.tally.comets_expired += 1;
            self.comet_gone(&comet, now);
        }
        let mut out = Outbox::default();
        while let Some((at, room)) = self.agenda.pop_due(now) {
            let Some(live) = self.live.get_mut(&room) else { continue };
            live.timers.unqueue(at);
            let around = around!(self, &room);
            live.turn(&room, Turn::Due, around, now, &mut out, &mut self.tally);
            if live.may_sleep(around, now) {
                self.fall_asleep(&room);
                continue;
            }
            if live.stored.dirty && !std::mem::replace(&mut live.stored.listed, true) {
                self.storing.dirty.push(room.clone());
            }
            // What a rule without delay wants again at once it gets in the next turn.
            let due = live.next_deadline(around).max(now + 1);
            if live.timers.queue(due) {
                self.agenda.add(due, room);
            }
        }
        out.into_effects()
    }

    /// When [`tick`](Self::tick) has something to do; in the past: now.
    pub fn next_deadline(&self) -> Option<Millis> {
        let expiry = self.presence.next_expiry(ms(self.limits.comet_silent_after));
        self.agenda.next().into_iter().chain(expiry).min()
    }

    /// Lets one user in, or says what is missing for it.
    pub fn join(&mut self, ask: &JoinAsk, sources: Sources, now: Millis) -> Asked {
        let JoinAsk { room, user, resume, trace } = ask;
        let alone = JoinsAsk { room: room.clone(), users: vec![user.clone()], resume: *resume, trace: *trace };
        match self.joins(&alone, sources, now) {
            Asked::Answer(RoomAnswer::JoinedAll(all)) => Asked::Answer(first_of(*all)),
            asked => asked,
        }
    }

    /// Lets many in, or says what is missing for it.
    pub fn joins(&mut self, ask: &JoinsAsk, sources: Sources, now: Millis) -> Asked {
        if !self.ready {
            return Asked::Answer(RoomAnswer::NotReady);
        }
        if !self.standing.state(&ask.room).open {
            return Asked::Answer(RoomAnswer::Closed);
        }
        if self.asleep.contains_key(&ask.room) {
            return Asked::Asleep(ask.room.clone());
        }
        let around = around!(self, &ask.room);
        match self.live.get(&ask.room) {
            Some(live) => live.joins(ask, sources, around, now, &mut self.tally),
            // Nothing was ever said there: asking alone makes no room.
            None => Live::new(now).joins(ask, sources, around, now, &mut self.tally),
        }
    }

    pub fn info(&self, room: &RoomId) -> Asked {
        if !self.ready {
            return Asked::Answer(RoomAnswer::NotReady);
        }
        if self.asleep.contains_key(room) {
            return Asked::Asleep(room.clone());
        }
        let around = around!(self, room);
        let nothing = Live::default();
        let live = self.live.get(room).unwrap_or(&nothing);
        Asked::Answer(RoomAnswer::Info(RoomInfo {
            room: room.clone(),
            state: self.standing.state(room),
            position: live.position(View::All, around),
            present: around.present,
            parts: live.chat.parts(),
            gifts: live.gifts_count,
            gifts_total: live.gifts_total,
            likes_total: live.likes.total(),
        }))
    }

    /// The greatest totals: as many as asked for, at most [`PLACES_MAX`].
    pub fn ranking(&self, room: &RoomId, places: u16) -> Asked {
        if !self.ready {
            return Asked::Answer(RoomAnswer::NotReady);
        }
        if self.asleep.contains_key(room) {
            return Asked::Asleep(room.clone());
        }
        let places = usize::from(places.min(PLACES_MAX));
        let (top, gifts_total) = match self.live.get(room) {
            Some(live) => (live.ledger.ranking(places), live.gifts_total),
            None => (Vec::new(), 0),
        };
        Asked::Answer(RoomAnswer::Ranking { top, gifts_total })
    }

    /// What of it was told to nobody, or not as it was said.
    pub fn skipped(&self, room: &RoomId) -> Asked {
        if !self.ready {
            return Asked::Answer(RoomAnswer::NotReady);
        }
        if self.asleep.contains_key(room) {
            return Asked::Asleep(room.clone());
        }
        let (high, normal) = match self.live.get(room) {
            Some(live) => (live.skipped.clone(), live.skipped_events.clone()),
            None => Default::default(),
        };
        Asked::Answer(RoomAnswer::Skipped {
            offsets: high.offsets(),
            forgotten: high.forgotten(),
            normal: normal.offsets(),
            normal_forgotten: normal.forgotten(),
        })
    }

    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Rooms in memory.
    pub fn awake(&self) -> usize {
        self.live.len()
    }

    pub fn asleep(&self) -> usize {
        self.asleep.len()
    }

    /// A sleeping room without people, in which nothing was said for so long that what is stored of it may go. By the server's clock too, which
    /// stamps what the streams hold: a wrong one of ours alone must not make a room old.
    pub fn forgettable(&self, now: Millis) -> Option<RoomId> {
        let after = self.limits.forget_after.map(ms).filter(|_| self.ready)?;
        let newest = self.positions.newest.into_iter().max().unwrap_or_default();
        let is_over = |at: Millis| at.saturating_add(after) <= now.min(newest);
        let mut over = self.asleep.iter().filter(|(_, at)| is_over(**at));
        over.find(|(room, _)| self.presence.of(room) == 0).map(|(room, _)| room.clone())
    }

    /// Nothing of it is stored any more: used again, it begins at zero.
    pub fn forgotten(&mut self, room: &RoomId) {
        if self.asleep.remove(room).is_some() {
            self.tally.forgotten += 1;
        }
    }

    fn fall_asleep(&mut self, room: &RoomId) {
        let Some(live) = self.live.remove(room) else { return };
        self.tally.fell_asleep += 1;
        if live.stored.revision > 0 || live.ledger.len() > 0 {
            self.asleep.insert(room.clone(), live.at);
        }
    }
}

fn first_of(all: JoinsAnswer) -> RoomAnswer {
    let JoinsAnswer { epoch, mut views, users } = all;
    match (users.first(), views.pop()) {
        (Some(user), Some(view)) => {
            let (joined, overseer) = (user.told(&view), user.role.is_some());
            RoomAnswer::Joined(Box::new(JoinAnswer { epoch, joined, overseer, missed: view.missed }))
        }
        // One user sees something, whatever it is.
        _ => RoomAnswer::NotReady,
    }
}
