//! Where a connection is: what its `conn_id` spells.
//!
//! The id leads to the shard and the slot without a table: nothing is looked up, and nothing is shared, on the way of
//! a delivery. The nonce makes an id of an earlier connection, or of an earlier run, lead nowhere.

use std::hash::{BuildHasher, RandomState};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pushmesh_protocol::ConnId;

use crate::framing::Dialect;

const BYTES: usize = 15;

/// One connection of this comet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    pub shard: u16,
    pub slot: u32,
    /// Never used twice.
    pub nonce: u64,
    /// Known to the sender, so that frames are encoded before they reach the shard.
    pub dialect: Dialect,
}

impl Address {
    pub fn conn_id(&self) -> ConnId {
        let mut bytes = [0; BYTES];
        bytes[0] = self.dialect as u8;
        bytes[1..3].copy_from_slice(&self.shard.to_be_bytes());
        bytes[3..7].copy_from_slice(&self.slot.to_be_bytes());
        bytes[7..].copy_from_slice(&self.nonce.to_be_bytes());
        ConnId::new(&URL_SAFE_NO_PAD.encode(bytes)).expect("base64url is made of token characters")
    }

    /// `None`: no id that a comet minted.
    pub fn of(conn: &ConnId) -> Option<Self> {
        let mut bytes = [0; BYTES + 1];
        let length = URL_SAFE_NO_PAD.decode_slice(conn.as_str(), &mut bytes).ok()?;
        let [dialect, s0, s1, a, b, c, d, nonce @ ..] = bytes.get(..length)? else { return None };
        Some(Self {
            dialect: Dialect::from_number(*dialect)?,
            shard: u16::from_be_bytes([*s0, *s1]),
            slot: u32::from_be_bytes([*a, *b, *c, *d]),
            nonce: u64::from_be_bytes(nonce.try_into().ok()?),
        })
    }
}

/// Chance: for nonces and jitter. Keyed by the operating system's randomness.
#[derive(Debug, Default)]
pub struct Dice {
    keys: RandomState,
    rolls: u64,
}

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.rolls += 1;
        self.keys.hash_one(self.rolls)
    }

    /// Evenly from `0..=most`.
    pub fn up_to(&mut self, most: u32) -> u32 {
        ((u128::from(self.roll()) * (u128::from(most) + 1)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_survives_its_id(shard: u16, slot: u32, nonce: u64, dialect in 0u8..3) {
            let address = Address { shard, slot, nonce, dialect: Dialect::from_number(dialect).unwrap() };
            prop_assert_eq!(Address::of(&address.conn_id()), Some(address));
        }

        #[test]
        fn no_other_id_panics(text in "[A-Za-z0-9_-]{1,64}") {
            let _ = Address::of(&ConnId::new(&text).unwrap());
        }
    }

    #[test]
    fn dice_stay_within_their_bound_and_reach_it() {
        let mut dice = Dice::default();
        let rolls: Vec<_> = (0..1000).map(|_| dice.up_to(3)).collect();
        assert!((0..=3).all(|face| rolls.contains(&face)) && rolls.iter().all(|roll| *roll <= 3));
    }
}
