//! The hand that brings rooms' frames round: one write for each member it comes by.
//!
//! Nothing is allocated, and nothing but 8 bytes of a member touched, for a socket that takes what it gets.

use std::sync::Arc;

use pushmesh_protocol::room::Audience;

use super::{Shard, State};
use crate::{
    close::CloseReason,
    framing::Dialect,
    lane::{Class, Outgoing},
    limit::Micros,
    room::{
        crowd::{Crowd, hash},
        frame::Frame,
        sweep::{Begun, WAIT_LIMITS},
    },
    socket,
};

/// Writes before sockets, urgent commands and pushes get their turn: some 1.3 ms.
const WRITES_IN_A_ROW: usize = 256;
/// Places looked at in one go, however few of them get something.
const PLACES_IN_A_ROW: usize = 256;
/// Larger buffers are given back: a giant frame is rare.
const KEPT_BYTES: usize = 64 * 1024;
/// All that a group can be.
const GROUPS: usize = 1 << u8::BITS;

/// What a sweep needs for a moment, kept for the next one.
#[derive(Debug, Default)]
pub struct SweepScratch {
    forms: Forms,
    visits: Vec<Visit>,
    broken: Vec<u32>,
    /// Hashes of users who are meant alone.
    alone: Vec<u32>,
    round: Vec<Arc<Frame>>,
    run: Vec<Outgoing>,
}

/// A member who needs more than a write.
#[derive(Debug, Clone, Copy)]
struct Visit {
    at: u32,
    /// What its socket took of its form before it blocked.
    taken: Option<usize>,
}

impl Shard {
    /// Goes on with what is under way, the most urgent first, for a bounded number of writes.
    pub fn sweep(&self, state: &mut State) {
        let (mut writes, now) = (0, self.now());
        while writes < WRITES_IN_A_ROW {
            let Some(number) = state.rooms.turn() else { return };
            writes += 1 + self.sweep_room(state, number, now);
            state.rooms.queue(number);
        }
    }

    fn sweep_room(&self, state: &mut State, number: u32, now: Micros) -> usize {
        let State { rooms, slab, tally, sweeping, .. } = state;
        let room = rooms.room(number);
        if let Some(missed) = room.sweep.take_missed(WAIT_LIMITS) {
            let gap = Frame::gap(&room.id, missed, std::time::Instant::now());
            rooms.push(number, Arc::new(gap), &mut tally.room_drops);
        }
        rooms.begin(number);
        let room = rooms.room(number);
        let places = room.sweep.next(room.crowd.places(), PLACES_IN_A_ROW);
        let writes = write_to(&room.crowd, room.sweep.begun(), places.clone(), sweeping);
        sweeping.forms.count(tally);
        for at in sweeping.broken.drain(..) {
            if let Some((_, live)) = slab.member(room.crowd.member(at as usize).slot()) {
                live.close(CloseReason::Broken);
            }
        }
        let mut visits = std::mem::take(&mut sweeping.visits);
        for visit in visits.drain(..) {
            self.visit(state, number, visit, now);
        }
        let State { rooms, slab, sweeping, .. } = state;
        sweeping.visits = visits;
        let room = rooms.room(number);
        room.sweep.advance(places.end, room.crowd.places(), &mut sweeping.round);
        for frame in sweeping.round.drain(..) {
            self.metrics.room_pass.record(frame.received.elapsed());
        }
        if !room.sweep.is_under_way() {
            rooms.tidy(number, slab);
        }
        writes
    }

    // Whose socket blocks, who is joining, who is meant alone: by way of the connection.
    fn visit(&self, state: &mut State, number: u32, visit: Visit, now: Micros) {
        let State { rooms, slab, tally, sweeping, .. } = state;
        let (room, at) = (rooms.room(number), visit.at as usize);
        let Some((spot, live)) = slab.member(room.crowd.member(at).slot()) else { return };
        let frames = room.sweep.begun().iter().map(|begun| &begun.frame);
        if room.crowd.member(at).is_joining() {
            let membership = live.rooms.as_mut().and_then(|memberships| memberships.of(number));
            if let Some(held) = membership.and_then(|membership| membership.joining.as_mut()) {
                let theirs = room.crowd.hash(at);
                for frame in frames.filter(|frame| may_be_meant(theirs, &frame.audience)) {
                    self.hold(held, frame, &mut tally.drops);
                }
            }
            return;
        }
        let mut run = std::mem::take(&mut sweeping.run);
        let (user, dialect, expires) = (&live.session.user, live.dialect, now + self.low_for());
        let meant = frames.filter(|frame| room.crowd.is_meant(at, user, &frame.audience));
        run.extend(meant.map(|frame| frame.outgoing(&room.id, dialect, expires)));
        run.retain(|frame| !frame.bytes.is_empty());
        match visit.taken {
            _ if run.is_empty() => {}
            Some(taken) => {
                tally.writes += 1;
                self.send_later(state, spot, &run, taken, now);
            }
            None => self.send_all(state, spot, &run, now),
        }
        run.clear();
        state.sweeping.run = run;
    }
}

// One write for each plain member; the others are noted.
fn write_to(crowd: &Crowd, begun: &[Begun], places: std::ops::Range<usize>, sweeping: &mut SweepScratch) -> usize {
    let SweepScratch { forms, visits, broken, alone, .. } = sweeping;
    let audiences = || begun.iter().map(|begun| &begun.frame.audience);
    let is_divided = audiences().any(|audience| *audience != Audience::Everybody);
    let is_odd = audiences().any(|audience| matches!(audience, Audience::Part { .. }) && !crowd.is_grouped(audience));
    alone.clear();
    alone.extend(audiences().filter_map(|audience| match audience {
        Audience::User(user) => Some(hash(user)),
        _ => None,
    }));
    let mut writes = 0;
    for at in places {
        let member = crowd.member(at);
        if member.is_hole() {
            continue;
        }
        if !member.is_plain() || is_odd || alone.contains(&crowd.hash(at)) {
            visits.push(Visit { at: at as u32, taken: None });
            writes += 1;
            continue;
        }
        let group = if is_divided { crowd.group(at) } else { 0 };
        let form = forms.get(group, member.dialect(), begun);
        if form.bytes.is_empty() {
            continue;
        }
        writes += 1;
        match socket::send(member.fd(), &form.bytes) {
            Ok(sent) if sent == form.bytes.len() => form.writes += 1,
            Ok(sent) => visits.push(Visit { at: at as u32, taken: Some(sent) }),
            Err(error) if socket::is_full(&error) => visits.push(Visit { at: at as u32, taken: Some(0) }),
            Err(_) => broken.push(at as u32),
        }
    }
    writes
}

// Whether a member who joins may be meant, whatever the answer says.
fn may_be_meant(theirs: u32, audience: &Audience) -> bool {
    match audience {
        Audience::Everybody | Audience::Overseers => true,
        Audience::Part { part, of } => theirs % u32::from((*of).max(1)) == u32::from(*part),
        Audience::User(user) => hash(user) == theirs,
    }
}

/// What one write brings to a group, in one dialect; made when the first of them is met.
#[derive(Debug, Default)]
struct Form {
    bytes: Vec<u8>,
    /// Frames in it, by class.
    frames: [u64; Class::ALL.len()],
    writes: u64,
}

#[derive(Debug)]
struct Forms {
    /// One more than the number of the form; 0: not made.
    made: Box<[u16; GROUPS * Dialect::ALL.len()]>,
    indices: Vec<u16>,
    forms: Vec<Form>,
}

impl Default for Forms {
    fn default() -> Self {
        Self { made: Box::new([0; GROUPS * Dialect::ALL.len()]), indices: Vec::new(), forms: Vec::new() }
    }
}

impl Forms {
    fn get(&mut self, group: u8, dialect: Dialect, begun: &[Begun]) -> &mut Form {
        let index = usize::from(group) * Dialect::ALL.len() + dialect as usize;
        if self.made[index] == 0 {
            self.indices.push(index as u16);
            self.made[index] = self.indices.len() as u16;
            if self.forms.len() < self.indices.len() {
                self.forms.push(Form::default());
            }
            let form = &mut self.forms[self.indices.len() - 1];
            for Begun { frame, .. } in begun.iter().filter(|begun| Crowd::sees(group, &begun.frame.audience)) {
                let bytes = frame.form(dialect);
                form.bytes.extend_from_slice(bytes);
                form.frames[frame.lane.class() as usize] += u64::from(!bytes.is_empty());
            }
        }
        &mut self.forms[usize::from(self.made[index]) - 1]
    }

    /// Counts what was written, and forgets the forms.
    fn count(&mut self, tally: &mut crate::metrics::Tally) {
        for (index, form) in self.indices.drain(..).zip(&mut self.forms) {
            self.made[usize::from(index)] = 0;
            tally.writes += form.writes;
            tally.bytes_out += form.writes * form.bytes.len() as u64;
            tally.frames_out += form.writes * form.frames.iter().sum::<u64>();
            for (class, frames) in form.frames.iter().enumerate() {
                tally.room_deliveries[class] += form.writes * frames;
            }
            form.bytes.clear();
            form.bytes.shrink_to(KEPT_BYTES);
            (form.frames, form.writes) = Default::default();
        }
    }
}
