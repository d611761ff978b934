//! [`View`]: the members as one instance sees them.

use std::collections::BTreeMap;

use pushmesh_protocol::{
    id::{Instance, Token},
    message::Epoch,
};

/// Everybody who has a key in the bucket, or had one and is still heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub(crate) services: BTreeMap<Token, Vec<Member>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub instance: Instance,
    /// Grows with every start of the instance.
    pub epoch: Epoch,
    pub weight: u16,
    pub address: String,
    /// It is about to leave: give it nothing new.
    pub draining: bool,
    /// It takes partitions.
    pub owning: bool,
    /// `false`: not heard for `dead_after`, and its key has not gone yet.
    pub alive: bool,
}

impl View {
    /// The members of a service, dead ones included, by instance.
    pub fn members_of(&self, service: &Token) -> impl Iterator<Item = &Member> + use<'_> {
        self.services.get(service).into_iter().flatten()
    }

    pub fn member(&self, service: &Token, instance: &Instance) -> Option<&Member> {
        self.members_of(service).find(|member| member.instance == *instance)
    }

    /// Whether exactly this start of an instance is alive.
    pub fn is_alive(&self, service: &Token, instance: &Instance, epoch: Epoch) -> bool {
        self.member(service, instance).is_some_and(|member| member.alive && member.epoch == epoch)
    }

    /// All services that have members.
    pub fn services(&self) -> impl Iterator<Item = &Token> {
        self.services.keys()
    }
}
