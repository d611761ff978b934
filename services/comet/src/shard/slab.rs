//! A shard's connections by slot.

use pushmesh_protocol::frame::KickReason;

use super::{live::Live, outlet::SessionNote};
use crate::{backlog::Backlog, framing::Dialect};

/// A slot and which of its tenants is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    pub slot: u32,
    pub nonce: u64,
}

/// A connection whose login is being decided: it can be reached, and what reaches it waits for LOGIN_OK.
#[derive(Debug)]
pub struct Entering {
    pub nonce: u64,
    pub dialect: Dialect,
    pub held: Backlog,
    pub kick: Option<KickReason>,
}

#[derive(Debug, Default)]
pub enum Slot {
    #[default]
    Free,
    Entering(Box<Entering>),
    Live(Box<Live>),
}

/// Slots are reused; a [`Spot`]'s nonce tells tenants apart.
#[derive(Debug, Default)]
pub struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slab {
    pub fn reserve(&mut self, entering: Entering) -> Spot {
        let nonce = entering.nonce;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Slot::Entering(Box::new(entering));
        Spot { slot, nonce }
    }

    /// The login succeeded. `None` where the slot is no longer this newcomer's.
    pub fn admit(&mut self, spot: Spot, live: impl FnOnce() -> Live) -> Option<Box<Entering>> {
        match self.slots.get_mut(spot.slot as usize)? {
            slot @ Slot::Entering(_) if slot.nonce() == Some(spot.nonce) => {
                let Slot::Entering(entering) = std::mem::replace(slot, Slot::Live(Box::new(live()))) else {
                    return None;
                };
                Some(entering)
            }
            _ => None,
        }
    }

    pub fn live(&mut self, spot: Spot) -> Option<&mut Live> {
        match self.slots.get_mut(spot.slot as usize)? {
            Slot::Live(live) if live.nonce == spot.nonce => Some(live),
            _ => None,
        }
    }

    /// The live tenant of a slot that a room's member names: its membership goes before it does.
    pub fn member(&mut self, slot: u32) -> Option<(Spot, &mut Live)> {
        match self.slots.get_mut(slot as usize)? {
            Slot::Live(live) => Some((Spot { slot, nonce: live.nonce }, live)),
            _ => None,
        }
    }

    pub fn entering(&mut self, spot: Spot) -> Option<&mut Entering> {
        match self.slots.get_mut(spot.slot as usize)? {
            Slot::Entering(entering) if entering.nonce == spot.nonce => Some(entering),
            _ => None,
        }
    }

    /// Frees the slot, if it is still this tenant's.
    pub fn remove(&mut self, spot: Spot) -> Slot {
        match self.slots.get_mut(spot.slot as usize) {
            Some(slot) if slot.nonce() == Some(spot.nonce) => {
                self.free.push(spot.slot);
                std::mem::take(slot)
            }
            _ => Slot::Free,
        }
    }

    /// The next live connection at or after `slot` that is not closing: each is told once that it must go.
    pub fn next_live(&self, slot: u32) -> Option<Spot> {
        let rest = self.slots.get(slot as usize..)?;
        rest.iter().zip(slot..).find_map(|(tenant, slot)| match tenant {
            Slot::Live(live) if live.closing.is_none() => Some(Spot { slot, nonce: live.nonce }),
            _ => None,
        })
    }

    /// What is known of a live connection's session.
    pub fn session(&self, spot: Spot) -> Option<SessionNote> {
        match self.slots.get(spot.slot as usize)? {
            Slot::Live(live) if live.nonce == spot.nonce => Some(live.session.clone()),
            _ => None,
        }
    }
}

impl Slot {
    fn nonce(&self) -> Option<u64> {
        match self {
            Self::Free => None,
            Self::Entering(entering) => Some(entering.nonce),
            Self::Live(live) => Some(live.nonce),
        }
    }
}
