//! Where a client stands in a room, and the rule by which it takes an item.

use pushmesh_protocol::frame::{Chain, RoomItem, RoomPosition};

/// What an item is to somebody who stands at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Of no chain: the newest counts.
    Loose,
    /// Seen before.
    Behind,
    /// The next one.
    Next,
    /// Something before it was missed.
    Gap,
}

/// The rule of a room's chains.
pub(crate) fn sight(position: &mut RoomPosition, item: &RoomItem) -> Sight {
    match last(position, item.chain) {
        None => Sight::Loose,
        Some(last) if item.offset <= *last => Sight::Behind,
        Some(last) if item.prev > *last => Sight::Gap,
        Some(_) => Sight::Next,
    }
}

/// Moves a position to an item that was seen; one that is behind, or of no chain, moves nothing.
///
/// For whoever keeps a position of his own, to go on from in another process
/// ([`Client::join_from`](crate::Client::join_from)): begin with [`Joined::position`](crate::Joined) and follow every
/// item.
pub fn follow(position: &mut RoomPosition, item: &RoomItem) {
    if let Some(last) = last(position, item.chain) {
        *last = item.offset.max(*last);
    }
}

/// Moves a position to right before an item.
pub(crate) fn pass_over(position: &mut RoomPosition, item: &RoomItem) {
    if let Some(last) = last(position, item.chain) {
        *last = item.prev.max(*last);
    }
}

fn last(position: &mut RoomPosition, chain: Chain) -> Option<&mut u64> {
    match chain {
        Chain::Gifts => Some(&mut position.gifts),
        Chain::High => Some(&mut position.high),
        Chain::Normal => Some(&mut position.normal),
        Chain::Loose => None,
    }
}

/// Whether somebody at `here` has missed something of what `there` has, in the same epoch.
pub(crate) fn behind(here: &RoomPosition, there: &RoomPosition) -> bool {
    here.gifts < there.gifts || here.high < there.high || here.normal < there.normal
}

/// The farther offset of each chain, in `there`'s epoch: offsets of another one mean nothing.
pub(crate) fn farther(here: &RoomPosition, there: &RoomPosition) -> RoomPosition {
    if here.epoch != there.epoch {
        return *there;
    }
    RoomPosition {
        epoch: there.epoch,
        gifts: here.gifts.max(there.gifts),
        high: here.high.max(there.high),
        normal: here.normal.max(there.normal),
    }
}
