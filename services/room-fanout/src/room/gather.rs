//! [`Gathering`]: what a room has to tell of one class, until it goes out.

use pushmesh_protocol::{
    Token, TraceContext,
    frame::{RoomItem, RoomPosition},
    message::Millis,
    room::{Audience, RoomOrder},
};

use super::pack::item_bytes;

const NONE: u32 = u32::MAX;

/// Frames in the order they were opened. An audience has one open frame, so that its items stay in order.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    current: Section,
    /// Ended by orders: comets follow those before what comes later.
    ended: Vec<Section>,
    /// By audience: which frame of the current section takes more.
    open: Vec<u32>,
    bytes: usize,
    since: Option<Millis>,
    hurry: bool,
    trace: Option<TraceContext>,
}

/// What goes out in one publish, unless it is too much for one.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub frames: Vec<Draft>,
    pub orders: Vec<RoomOrder>,
}

/// A frame that is not encoded yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub audience: Audience,
    pub conflate: Option<Token>,
    pub items: Vec<RoomItem>,
    pub heads: Option<RoomPosition>,
    bytes: usize,
}

/// How large frames get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Of a frame without items.
    pub empty: usize,
    pub max: usize,
}

impl Gathering {
    pub fn push(&mut self, audience: Audience, item: RoomItem, size: Size, now: Millis) {
        let bytes = item_bytes(&item);
        self.bytes += bytes;
        self.since.get_or_insert(now);
        let slot = slot(&audience);
        if let Some(slot) = slot {
            if self.open.len() <= slot {
                self.open.resize(slot + 1, NONE);
            }
            if let Some(draft) = self.current.frames.get_mut(self.open[slot] as usize)
                && draft.bytes + bytes <= size.max
            {
                draft.bytes += bytes;
                draft.items.push(item);
                return;
            }
            self.open[slot] = self.current.frames.len() as u32;
        }
        let bytes = size.empty + bytes;
        self.current.frames.push(Draft { audience, conflate: None, items: vec![item], heads: None, bytes });
    }

    /// A frame of its own, which a newer one with the same key may replace.
    pub fn push_alone(&mut self, audience: Audience, key: Token, item: Option<RoomItem>, heads: Option<RoomPosition>) {
        let (conflate, items) = (Some(key), item.into_iter().collect());
        self.current.frames.push(Draft { audience, conflate, items, heads, bytes: 0 });
    }

    /// What comes later goes into other frames.
    pub fn barrier(&mut self) {
        self.open.clear();
    }

    /// To be followed after what was gathered before, and before what comes later.
    pub fn order(&mut self, order: RoomOrder, now: Millis) {
        self.since.get_or_insert(now);
        self.barrier();
        self.current.orders.push(order);
        self.ended.push(std::mem::take(&mut self.current));
    }

    /// There is something to tell that is put together when it is due.
    pub fn begin(&mut self, now: Millis) {
        self.since.get_or_insert(now);
    }

    /// Due at once.
    pub fn hurry(&mut self, now: Millis) {
        self.since.get_or_insert(now);
        self.hurry = true;
    }

    pub fn trace(&mut self, trace: Option<TraceContext>) {
        self.trace = self.trace.or(trace);
    }

    /// When it has to go out: `within` after its oldest, or at once where much has gathered.
    pub fn due(&self, within: Millis, soon_bytes: usize) -> Option<Millis> {
        let since = self.since?;
        Some(if self.hurry || self.bytes >= soon_bytes { since } else { since + within })
    }

    pub fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    pub fn take(&mut self) -> (Vec<Section>, Option<TraceContext>) {
        let Self { current, mut ended, trace, .. } = std::mem::take(self);
        if !current.frames.is_empty() || !current.orders.is_empty() {
            ended.push(current);
        }
        (ended, trace)
    }
}

// Where an audience's open frame is noted; a user's frames stay alone.
fn slot(audience: &Audience) -> Option<usize> {
    match audience {
        Audience::Everybody => Some(0),
        Audience::Overseers => Some(1),
        Audience::Part { part, .. } => Some(2 + usize::from(*part)),
        Audience::User(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::UserId;

    use super::*;
    use crate::room::items;

    const SIZE: Size = Size { empty: 30, max: 200 };

    fn item(offset: u64) -> RoomItem {
        items::parts(offset, 0, 1, 0)
    }

    fn offsets(section: &Section) -> Vec<(Audience, Vec<u64>)> {
        let of = |draft: &Draft| (draft.audience.clone(), draft.items.iter().map(|item| item.offset).collect());
        section.frames.iter().map(of).collect()
    }

    #[test]
    fn an_audience_fills_its_frame_and_an_order_parts_what_comes_before_from_what_comes_later() {
        let part = |part| Audience::Part { part, of: 2 };
        let mut gathering = Gathering::default();
        for offset in 1..=4 {
            gathering.push(part(offset as u16 % 2), item(offset), SIZE, 5);
        }
        gathering.push(part(0), item(5), SIZE, 6);
        gathering.order(RoomOrder::Oversee { user: UserId::new("u").unwrap(), overseer: true }, 7);
        gathering.push(part(0), item(6), SIZE, 8);
        gathering.barrier();
        gathering.push(part(0), item(7), SIZE, 9);
        assert_eq!(gathering.due(10, 10_000), Some(15));
        assert_eq!(gathering.due(10, 100), Some(5));
        let (sections, _) = gathering.take();
        assert_eq!(offsets(&sections[0]), [(part(1), vec![1, 3]), (part(0), vec![2, 4]), (part(0), vec![5])]);
        assert_eq!(sections[0].orders.len(), 1);
        assert_eq!(offsets(&sections[1]), [(part(0), vec![6]), (part(0), vec![7])]);
        assert!(gathering.is_empty() && gathering.take().0.is_empty());
    }
}
