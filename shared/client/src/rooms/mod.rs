//! What a client knows of its rooms, over all its connections: no I/O, no clock; its randomness is a seed.
//!
//! Each room has a position that only ever moves by the chains' rule ([`position`](crate::position)), and at most one
//! JOIN on its way. Whatever shows that something was missed (an item ahead of its chain, heads ahead of the position, a
//! GAP, another epoch, a new connection) wants a JOIN with the position; JOINED says whether the rest follows, and if not,
//! the application is told of the gap and the position moves on. Nobody is asked for ever: after some refusals in a row the gap
//! is told too, and for a while every other one. So nothing is shown twice, and nothing is missed silently.

mod member;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    RoomId,
    frame::{ClientFrame, Error, ErrorCode, Gap, Joined, Leave, Left, LeftReason, Room, RoomPosition},
};

use self::member::{Due, Member, Refused};
use crate::event::Event;

/// Most rooms a client may want to be in; a comet may allow fewer.
const ROOMS_MAX: usize = 256;
/// How long JOINED may take, and LEFT.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where the rooms' decisions go.
pub(crate) struct Out<'a> {
    pub events: &'a mut VecDeque<Event>,
    pub frames: &'a mut Vec<ClientFrame>,
}

/// How often things happened in all rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RoomCounts {
    /// Items shown.
    pub items: u64,
    /// Items that had been seen before.
    pub repeated: u64,
    /// JOINs sent because something was missed on a living connection.
    pub recoveries: u64,
}

pub(crate) struct Rooms {
    members: Vec<Member>,
    /// LEAVEs that LEFT has not answered yet, and when that is given up.
    leaving: Vec<(RoomId, Instant)>,
    online: bool,
    random: fastrand::Rng,
    pub counts: RoomCounts,
}

impl Rooms {
    pub fn new(seed: u64) -> Self {
        Self {
            members: Vec::new(),
            leaving: Vec::new(),
            online: false,
            random: fastrand::Rng::with_seed(seed),
            counts: RoomCounts::default(),
        }
    }

    /// The application wants to be in a room, from a position on if it was there before. Of a room it is in already, it is
    /// told anew how it stands.
    pub fn join(&mut self, room: RoomId, from: Option<RoomPosition>, now: Instant, out: &mut Out<'_>) {
        if let Some(member) = self.members.iter_mut().find(|member| member.room == room) {
            return member.ask(now);
        }
        if self.members.len() == ROOMS_MAX {
            let message = format!("{ROOMS_MAX} rooms are joined already; that is the limit of a client");
            let (error, field) = (ErrorCode::TooLarge, Some("room".to_owned()));
            let (retry_after_ms, address, re, room) = (None, None, None, Some(room));
            let refused = Error { error, field, message, retry_after_ms, address, re, room };
            return out.events.push_back(Event::Refused(refused));
        }
        self.members.push(Member::new(room, from, now));
    }

    /// The application wants to be there no more.
    pub fn leave(&mut self, room: &RoomId, now: Instant, out: &mut Out<'_>) {
        let Some(at) = self.members.iter().position(|member| member.room == *room) else { return };
        let member = self.members.remove(at);
        if self.online && member.known() {
            self.say_leave(member.room, now, out);
        } else {
            out.events.push_back(gone(member.room));
        }
    }

    fn say_leave(&mut self, room: RoomId, now: Instant, out: &mut Out<'_>) {
        out.frames.push(ClientFrame::Leave(Leave { room: room.clone() }));
        if self.leaving.len() == ROOMS_MAX {
            // A comet that answers none of so many answers this one no more either.
            out.events.push_back(gone(self.leaving.remove(0).0));
        }
        self.leaving.push((room, now + ANSWER_WITHIN));
    }

    /// A connection begins: every room is joined on it.
    pub fn logged_in(&mut self, now: Instant) {
        self.online = true;
        self.members.iter_mut().for_each(|member| member.ask(now));
    }

    /// The connection is no more.
    pub fn parted(&mut self, out: &mut Out<'_>) {
        self.online = false;
        out.events.extend(self.leaving.drain(..).map(|(room, _)| gone(room)));
        self.members.iter_mut().for_each(Member::parted);
    }

    pub fn joined(&mut self, told: Joined, now: Instant, out: &mut Out<'_>) {
        // Of a membership that has been left since.
        if self.is_leaving(&told.room) {
            return;
        }
        let Some(member) = self.members.iter_mut().find(|member| member.room == told.room) else { return };
        let gap = member.joined(&told, now);
        out.events.push_back(Event::Joined(told));
        out.events.extend(gap);
    }

    pub fn left(&mut self, told: Left, out: &mut Out<'_>) {
        let asked = self.leaving.iter().position(|(room, _)| *room == told.room);
        let member = self.members.iter().position(|member| member.room == told.room);
        match (asked, member) {
            // Who joined again meanwhile stays.
            (Some(at), _) => drop(self.leaving.remove(at)),
            (None, Some(at)) if told.reason != LeftReason::Left => drop(self.members.remove(at)),
            (None, _) => return,
        }
        out.events.push_back(Event::Left(told));
    }

    pub fn room(&mut self, frame: Room, now: Instant, out: &mut Out<'_>) {
        let Self { members, random, counts, .. } = self;
        if let Some(member) = members.iter_mut().find(|member| member.room == frame.room) {
            member.take(frame, now, random, counts, out.events);
        }
    }

    /// The comet dropped frames of a room for this connection; loose ones are superseded, or lost and told as such.
    pub fn gap(&mut self, gap: &Gap, now: Instant) {
        let Some(room) = &gap.room else { return };
        let member = self.members.iter_mut().find(|member| member.room == *room);
        if let Some(member) = member.filter(|_| gap.high > 0 || gap.normal > 0) {
            member.recover(now, &mut self.random);
        }
    }

    /// The answer to a JOIN, if the error is one.
    pub fn refused(&mut self, error: &Error, now: Instant, out: &mut Out<'_>) -> bool {
        let Some(room) = &error.room else { return false };
        if self.is_leaving(room) {
            return true;
        }
        let Some(at) = self.members.iter().position(|member| member.room == *room) else { return false };
        match self.members[at].refused(error, now, self.random.f64()) {
            Refused::Again(again_in) => {
                let reason = error.message.clone();
                out.events.push_back(Event::RoomUnavailable { room: room.clone(), reason, again_in });
            }
            Refused::GivenUp(gap) => out.events.extend(gap),
            Refused::Out => {
                let member = self.members.remove(at);
                if member.joined {
                    self.say_leave(member.room, now, out);
                }
                out.events.push_back(Event::Refused(error.clone()));
            }
        }
        true
    }

    /// Does what is due by now.
    pub fn due(&mut self, now: Instant, out: &mut Out<'_>) {
        if !self.online {
            return;
        }
        while let Some(at) = self.leaving.iter().position(|(_, until)| *until <= now) {
            out.events.push_back(gone(self.leaving.remove(at).0));
        }
        for member in &mut self.members {
            match member.due(now, &mut self.random, &mut self.counts) {
                Some(Due::Join(join)) => out.frames.push(ClientFrame::Join(join)),
                Some(Due::Lost(Refused::GivenUp(gap))) => out.events.extend(gap),
                Some(Due::Gap(gap)) => out.events.push_back(gap),
                Some(Due::Lost(Refused::Again(again_in))) => {
                    let reason = format!("no answer to JOIN within {ANSWER_WITHIN:?}");
                    out.events.push_back(Event::RoomUnavailable { room: member.room.clone(), reason, again_in });
                }
                Some(Due::Lost(Refused::Out)) | None => {}
            }
        }
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        if !self.online {
            return None;
        }
        let rooms = self.members.iter().filter_map(Member::next);
        rooms.chain(self.leaving.iter().map(|(_, until)| *until)).min()
    }

    /// Nothing was read until now, so that nothing could come: no answer is late, and nothing announced is missed.
    pub fn unread_until(&mut self, now: Instant) {
        self.members.iter_mut().for_each(|member| member.unread_until(now, &mut self.random));
        self.leaving.iter_mut().for_each(|(_, until)| *until = now + ANSWER_WITHIN);
    }

    fn is_leaving(&self, room: &RoomId) -> bool {
        self.leaving.iter().any(|(leaving, _)| leaving == room)
    }
}

fn gone(room: RoomId) -> Event {
    Event::Left(Left { room, reason: LeftReason::Left })
}
