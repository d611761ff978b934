//! Which comets are heard. Pure.

use std::collections::HashMap;

use pushmesh_protocol::{Instance, message::Epoch};

/// The comets that are alive, each with its epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Comets(HashMap<Instance, Epoch>);

impl Comets {
    pub(crate) fn new(alive: impl Iterator<Item = (Instance, Epoch)>) -> Self {
        Self(alive.collect())
    }

    /// Whether this start of a comet is heard. One that is newer than what is known here is: its sessions came first.
    pub(super) fn hears(&self, comet: &Instance, epoch: Epoch) -> bool {
        self.0.get(comet).is_some_and(|heard| epoch >= *heard)
    }

    /// The same name, kept once for all its sessions.
    pub(super) fn name(&self, comet: &Instance) -> Instance {
        self.0.get_key_value(comet).map_or(comet, |(known, _)| known).clone()
    }
}
