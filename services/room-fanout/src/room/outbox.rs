//! [`Outbox`]: effects in the order in which they should be done.

use pushmesh_protocol::{
    RoomId, TraceContext,
    room::{RoomBatch, RoomClass, RoomFrame},
};

use super::{
    around::Around,
    effect::Effect,
    gather::{Draft, Section},
    pack,
    tally::Tally,
};

/// High before normal before low over all rooms, and gifts before the rest of high; in order within a room and class.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    urgent: Vec<Effect>,
    classes: [Vec<Effect>; 3],
}

/// What a room tells at once of one class.
pub(super) struct Telling<'a> {
    pub room: &'a RoomId,
    pub class: RoomClass,
    /// Gifts: before the sections.
    pub urgent: Vec<Draft>,
    pub sections: Vec<Section>,
    pub trace: Option<TraceContext>,
}

impl Outbox {
    pub fn push(&mut self, class: RoomClass, effect: Effect) {
        self.classes[class as usize].push(effect);
    }

    /// One batch, unless orders or its size make it several.
    pub fn tell(&mut self, telling: Telling, around: Around, tally: &mut Tally) {
        let Telling { room, class, urgent, sections, trace } = telling;
        let has_urgent = !urgent.is_empty();
        let mut batch = Batch { room, class, frames: Vec::new(), bytes: 0, trace, around };
        let mut done = Vec::new();
        for draft in urgent {
            done.extend(batch.push(draft, true, tally));
        }
        for section in sections {
            for draft in section.frames {
                done.extend(batch.push(draft, false, tally));
            }
            if !section.orders.is_empty() {
                done.push(RoomBatch { orders: section.orders, ..batch.take() });
            }
        }
        if !batch.frames.is_empty() {
            done.push(batch.take());
        }
        tally.batches += done.len() as u64;
        let place = if has_urgent { &mut self.urgent } else { &mut self.classes[class as usize] };
        place.extend(done.into_iter().map(Effect::Tell));
    }

    pub fn into_effects(self) -> Vec<Effect> {
        let Self { mut urgent, classes } = self;
        urgent.extend(classes.into_iter().flatten());
        urgent
    }
}

struct Batch<'a> {
    room: &'a RoomId,
    class: RoomClass,
    frames: Vec<RoomFrame>,
    bytes: usize,
    trace: Option<TraceContext>,
    around: Around<'a>,
}

impl Batch<'_> {
    /// Returns what had to go out before it.
    fn push(&mut self, draft: Draft, urgent: bool, tally: &mut Tally) -> Option<RoomBatch> {
        let Draft { audience, conflate, items, heads, .. } = draft;
        let frame = pack::encode(self.room, self.around.owner.streams, items, heads);
        tally.frames += 1;
        tally.frame_bytes += frame.len() as u64;
        let is_full = self.bytes + frame.len() > self.around.limits.batch_max_bytes && !self.frames.is_empty();
        let full = is_full.then(|| self.take());
        self.bytes += frame.len();
        self.frames.push(RoomFrame { audience, urgent, conflate, frame });
        full
    }

    fn take(&mut self) -> RoomBatch {
        self.bytes = 0;
        RoomBatch {
            room: self.room.clone(),
            partition: self.around.owner.partition,
            epoch: self.around.owner.lease,
            class: self.class,
            frames: std::mem::take(&mut self.frames),
            orders: Vec::new(),
            trace: self.trace.take(),
        }
    }
}
