//! JOIN, LEAVE, and what the mesh says of rooms.

use std::sync::Arc;

use bytes::Bytes;
use pushmesh_protocol::{
    RoomId, UserId,
    frame::{Error, ErrorCode, Join, Left, LeftReason, ServerFrame},
    room::{Audience, RoomOrder},
};

use super::{
    Shard, State,
    command::{Joined, NotJoined, RoomDelivery},
    live::Live,
    outlet::{JoinRequest, RoomNews},
    slab::{Slab, Spot},
};
use crate::{
    address::Address,
    lane::{Class, DropReason, Outgoing},
    limit::{Micros, Rate},
    room::{
        crowd::{Crowd, Moved, hash},
        frame::Frame,
        membership::{Held, Membership},
        table::Rooms,
    },
};

/// Bytes that may wait to begin, over all rooms, before no more of a class is taken: high waits in its queue last.
const APPETITE_BYTES: [usize; Class::ALL.len()] = [64 << 20, 32 << 20, 16 << 20];

impl Shard {
    /// A client wants into a room; or is there, and wants what it missed.
    pub fn join(&self, state: &mut State, spot: Spot, join: Join, now: Micros) {
        let Err((error, message)) = self.begin_join(state, spot, &join, now) else { return };
        let retry_after_ms = (error != ErrorCode::Forbidden).then(|| self.retry_after(state));
        let (room, field) = (Some(join.room), Some("JOIN.room".to_owned()));
        let told = Error { error, field, message, retry_after_ms, address: None, re: None, room };
        self.tell(state, spot, &ServerFrame::Error(told), now);
    }

    fn begin_join(&self, state: &mut State, spot: Spot, join: &Join, now: Micros) -> Result<(), (ErrorCode, String)> {
        let limits = &self.config.limits;
        let State { slab, rooms, .. } = state;
        let Some(live) = slab.live(spot) else { return Ok(()) };
        let memberships = live.rooms.get_or_insert_default();
        let rate = Rate { per_second: limits.joins_per_second, burst: 2 * u32::from(limits.rooms) };
        if !memberships.joins.take(rate, now) {
            return Err((ErrorCode::TooFast, format!("limits.joins_per_second is {}", limits.joins_per_second)));
        }
        let number = rooms.find(&join.room);
        let is_full = memberships.len() >= usize::from(limits.rooms);
        let known = number.and_then(|number| memberships.of(number));
        match &known {
            Some(membership) if membership.joining.is_some() => {
                return Err((ErrorCode::TooFast, "a JOIN of this room is under way".to_owned()));
            }
            None if is_full => {
                return Err((ErrorCode::Forbidden, format!("limits.rooms is {}: leave one first", limits.rooms)));
            }
            _ => {}
        }
        let attempt = memberships.attempts.wrapping_add(1);
        let request = JoinRequest {
            from: live.session.address,
            attempt,
            room: join.room.clone(),
            user: live.session.user.clone(),
            resume: join.resume,
        };
        if self.outlets.rooms.try_send(RoomNews::Join(Box::new(request))).is_err() {
            return Err((ErrorCode::Unavailable, "too many JOINs wait: try again".to_owned()));
        }
        memberships.attempts = attempt;
        let held = Some(Box::new(Held::new(attempt)));
        match number.and_then(|number| memberships.of(number)) {
            Some(membership) => {
                membership.joining = held;
                rooms.room(membership.room).crowd.set_joining(membership.at, true);
            }
            None => {
                let number = rooms.find_or_open(&join.room);
                let room = rooms.room(number);
                let user = hash(&live.session.user);
                let at = room.crowd.join(live.fd, spot.slot, live.dialect, user, live.backlog.is_some());
                room.dialects[live.dialect as usize] += 1;
                memberships.push(Membership { room: number, at, is_present: false, joining: held });
                rooms.joined();
                rooms.changed(number);
            }
        }
        Ok(())
    }

    /// A client goes; one that was not there is told the same.
    pub fn leave(&self, state: &mut State, spot: Spot, room: RoomId, now: Micros) {
        self.remove(state, spot, &room);
        self.tell_left(state, spot, room, LeftReason::Left, now);
    }

    fn remove(&self, state: &mut State, spot: Spot, room: &RoomId) {
        let State { slab, rooms, .. } = state;
        let (Some(live), Some(number)) = (slab.live(spot), rooms.find(room)) else { return };
        let Some(membership) = live.rooms.as_mut().and_then(|memberships| memberships.remove(number)) else { return };
        let (user, dialect) = (live.session.user.clone(), live.dialect);
        self.depart(state, membership, &user, dialect as usize);
    }

    /// Takes the members that a connection leaves behind out of their rooms, before its socket closes.
    pub fn depart_all(&self, state: &mut State, live: &mut Live) {
        let Some(mut memberships) = live.rooms.take() else { return };
        for membership in memberships.take_all() {
            self.depart(state, membership, &live.session.user, live.dialect as usize);
        }
    }

    fn depart(&self, state: &mut State, membership: Membership, user: &UserId, dialect: usize) {
        let State { slab, rooms, .. } = state;
        let number = membership.room;
        let room = rooms.room(number);
        room.crowd.leave(membership.at);
        room.dialects[dialect] -= 1;
        if membership.is_present {
            room.present -= 1;
            if self.names_are_told(room.crowd.len() + room.went.len()) {
                room.went.push(user.clone());
            }
        }
        rooms.left(1);
        rooms.changed(number);
        rooms.tidy(number, slab);
    }

    // Of a small room, and not endlessly where the mesh takes no news.
    fn names_are_told(&self, members: usize) -> bool {
        members < self.config.rooms.names_up_to as usize
    }

    fn tell_left(&self, state: &mut State, spot: Spot, room: RoomId, reason: LeftReason, now: Micros) {
        let Some(dialect) = state.slab.live(spot).map(|live| live.dialect) else { return };
        let left = dialect.encode(&ServerFrame::Left(Left { room, reason }));
        self.send(state, spot, Outgoing::urgent(left), now);
    }

    /// The answer to a JOIN: it, what was missed, and what came meanwhile.
    pub fn joined(&self, state: &mut State, joined: Joined, now: Micros) {
        let Joined { to, room, attempt, first, missed, instead, overseer } = joined;
        let spot = Spot::of(&to);
        let State { slab, rooms, .. } = state;
        let Some((live, number, held)) = answered(slab, rooms, spot, &room, attempt) else { return };
        let limits = self.backlog_limits();
        let waits = live.backlog.as_ref().map_or(0, |backlog| backlog.answer_bytes());
        let bytes = first.len() + missed.iter().map(Bytes::len).sum::<usize>();
        let (first, missed) =
            if waits + bytes <= limits.answer_bytes() { (first, &*missed) } else { (instead, &[][..]) };
        let answers = std::iter::once(first).chain(missed.iter().cloned());
        let mut run: Vec<_> = answers.map(|frame| Outgoing { answer: true, ..Outgoing::urgent(frame) }).collect();
        let Some(membership) = live.rooms.as_mut().and_then(|memberships| memberships.of(number)) else { return };
        let room = rooms.room(number);
        room.crowd.set_overseer(membership.at, held.oversee.unwrap_or(overseer));
        let is_first = !std::mem::replace(&mut membership.is_present, true);
        if is_first {
            room.present += 1;
            if self.names_are_told(room.crowd.len() - 1 + room.came.len()) {
                room.came.push(live.session.user.clone());
            }
        }
        run.extend(self.released(live, &room.id, &room.crowd, number, &held, now));
        if is_first {
            rooms.changed(number);
        }
        self.send_all(state, spot, &run, now);
    }

    /// A JOIN failed. Who was in the room before stays there, unless it takes nobody.
    pub fn not_joined(&self, state: &mut State, refused: NotJoined, now: Micros) {
        let NotJoined { to, room, attempt, error } = refused;
        let spot = Spot::of(&to);
        let State { slab, rooms, .. } = state;
        let Some((live, number, held)) = answered(slab, rooms, spot, &room, attempt) else { return };
        let Some(membership) = live.rooms.as_mut().and_then(|memberships| memberships.of(number)) else { return };
        let stays = membership.is_present && error.error == ErrorCode::Unavailable;
        let mut run = Vec::new();
        if stays {
            let room = rooms.room(number);
            if let Some(oversee) = held.oversee {
                room.crowd.set_overseer(membership.at, oversee);
            }
            run = self.released(live, &room.id, &room.crowd, number, &held, now);
        } else {
            self.remove(state, spot, &room);
        }
        self.tell(state, spot, &ServerFrame::Error(error), now);
        self.send_all(state, spot, &run, now);
    }

    // What was held for a member, as far as it is for him; and his gap, where it was too much.
    fn released(
        &self,
        live: &mut Live,
        id: &RoomId,
        crowd: &Crowd,
        number: u32,
        held: &Held,
        now: Micros,
    ) -> Vec<Outgoing> {
        let Some(membership) = live.rooms.as_mut().and_then(|memberships| memberships.of(number)) else {
            return Vec::new();
        };
        let (at, expires) = (membership.at as usize, now + self.low_for());
        let meant = held.frames.iter().filter(|frame| crowd.is_meant(at, &live.session.user, &frame.audience));
        let mut run: Vec<_> = meant.map(|frame| frame.outgoing(id, live.dialect, expires)).collect();
        if held.missed != [0; 3] {
            let gap = Frame::gap(id, held.missed, std::time::Instant::now());
            run.push(gap.outgoing(id, live.dialect, expires));
        }
        run.retain(|frame| !frame.bytes.is_empty());
        run
    }

    /// For how long a frame of class low is worth sending to a socket that blocks.
    pub fn low_for(&self) -> Micros {
        self.config.rooms.low_for.as_micros() as Micros
    }

    /// Whether rooms' batches of a class are taken now.
    pub fn appetite(&self) -> [bool; Class::ALL.len()] {
        let waiting = self.state.borrow().rooms.waiting_bytes();
        APPETITE_BYTES.map(|bytes| waiting < bytes)
    }

    /// Frames for the members of a room, on their way from now on; orders are obeyed.
    pub fn take_room(&self, state: &mut State, delivery: RoomDelivery, now: Micros) {
        let State { rooms, tally, .. } = state;
        // Where the last member has just gone, nobody is meant.
        let Some(number) = rooms.find(&delivery.room).filter(|number| !rooms.room(*number).crowd.is_empty()) else {
            return;
        };
        for frame in delivery.frames.iter() {
            if let Audience::Part { of, .. } = frame.audience {
                rooms.room(number).crowd.regroup(of);
            }
            rooms.push(number, frame.clone(), &mut tally.room_drops);
        }
        for order in delivery.orders.iter() {
            match order {
                RoomOrder::Oversee { user, overseer } => oversee(state, number, user, *overseer),
                RoomOrder::Kick { user } => self.kick_out(state, number, user, now),
                // The mesh's side has said again who is here.
                RoomOrder::Recount => {}
            }
        }
    }

    // Who is sent away gets what came before first.
    fn kick_out(&self, state: &mut State, number: u32, user: &UserId, now: Micros) {
        for (_, spot) in members_of(state, number, user) {
            let State { slab, rooms, .. } = state;
            let (room, Some(live)) = (rooms.room(number), slab.live(spot)) else { continue };
            let Some(membership) = live.rooms.as_mut().and_then(|memberships| memberships.of(number)) else { continue };
            let (at, expires, id) = (membership.at as usize, now + self.low_for(), room.id.clone());
            let mut run = Vec::new();
            if membership.joining.is_none() {
                let owed = room.sweep.owed(at);
                let meant = owed.filter(|frame| room.crowd.is_meant(at, user, &frame.audience));
                run.extend(meant.map(|frame| frame.outgoing(&id, live.dialect, expires)));
                run.retain(|frame| !frame.bytes.is_empty());
            }
            self.remove(state, spot, &id);
            self.send_all(state, spot, &run, now);
            self.tell_left(state, spot, id, LeftReason::Kicked, now);
        }
    }

    /// Holds a frame for a member who joins; too much of it is a gap.
    pub fn hold(&self, held: &mut Held, frame: &Arc<Frame>, drops: &mut crate::lane::Drops) {
        let limits = self.backlog_limits();
        if !held.hold(frame, limits.messages, limits.bytes) {
            drops.count(frame.lane.class(), DropReason::Full);
        }
    }
}

// The membership whose JOIN is answered, and what was held for it: it joins no more.
fn answered<'a>(
    slab: &'a mut Slab,
    rooms: &mut Rooms,
    spot: Spot,
    room: &RoomId,
    attempt: u32,
) -> Option<(&'a mut Live, u32, Box<Held>)> {
    let live = slab.live(spot)?;
    let number = rooms.find(room)?;
    let membership = live.rooms.as_mut()?.of(number)?;
    let held = membership.joining.take_if(|held| held.attempt == attempt)?;
    rooms.room(number).crowd.set_joining(membership.at, false);
    Some((live, number, held))
}

fn oversee(state: &mut State, number: u32, user: &UserId, overseer: bool) {
    for (at, spot) in members_of(state, number, user) {
        let State { slab, rooms, .. } = state;
        let Some(membership) = slab.live(spot).and_then(|live| live.rooms.as_mut()).and_then(|all| all.of(number))
        else {
            continue;
        };
        match &mut membership.joining {
            Some(held) => held.oversee = Some(overseer),
            None => rooms.room(number).crowd.set_overseer(at, overseer),
        }
    }
}

/// In which rooms connections are, or are about to be: of more than one of them a room comes more than once.
pub fn rooms_of(state: &mut State, connections: &[Address]) -> Vec<RoomId> {
    let State { slab, rooms, .. } = state;
    let mut found = Vec::new();
    for address in connections {
        let Some(live) = slab.live(Spot::of(address)) else { continue };
        let memberships = live.rooms.iter().flat_map(|memberships| memberships.iter());
        found.extend(memberships.map(|membership| rooms.room(membership.room).id.clone()));
    }
    found
}

fn members_of(state: &mut State, number: u32, user: &UserId) -> Vec<(u32, Spot)> {
    let State { slab, rooms, .. } = state;
    let candidates = rooms.room(number).crowd.with_hash(hash(user));
    let his = candidates.filter_map(|(at, member)| {
        let (spot, live) = slab.member(member.slot())?;
        (live.session.user == *user).then_some((at, spot))
    });
    his.collect()
}

impl Rooms {
    /// Whether a connection's socket blocks, for the sweeps that come by it.
    pub fn set_slow(&mut self, live: &Live, is_slow: bool) {
        for membership in live.rooms.iter().flat_map(|memberships| memberships.iter()) {
            self.room(membership.room).crowd.set_slow(membership.at, is_slow);
        }
    }

    /// Closes the holes that members left: all of them when no sweep is under way, else once there are many.
    pub fn tidy(&mut self, number: u32, slab: &mut Slab) {
        let room = self.room(number);
        let (holes, places) = (room.crowd.holes(), room.crowd.places());
        let mut moved = Vec::new();
        if holes == 0 {
            return;
        } else if !room.sweep.is_under_way() {
            room.crowd.fill_holes(&mut moved);
        } else if holes > 64 + places / 4 {
            let holes = room.crowd.close_ranks(&mut moved);
            room.sweep.closed_ranks(&holes, &mut Vec::new());
        }
        for Moved { slot, to } in moved {
            let live = slab.member(slot).map(|(_, live)| live);
            if let Some(membership) = live.and_then(|live| live.rooms.as_mut()).and_then(|all| all.of(number)) {
                membership.at = to;
            }
        }
    }
}
