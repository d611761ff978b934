//! The policy of organisations: a tree of departments. A call in a department reaches the members of it and of all below it.

use pushmesh_protocol::{Kind, message::Policy};
use pushmesh_push::{PushKind, Reach, call_policy};

use crate::config::Config;

#[derive(Debug, Clone)]
pub struct Departments {
    kind: Kind,
    delivery: Policy,
}

impl Departments {
    pub fn new(config: &Config) -> Self {
        Self { kind: config.kind.clone(), delivery: call_policy(config.engine.push_lifetime) }
    }
}

impl PushKind for Departments {
    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn reach(&self) -> Reach {
        Reach::Below
    }

    fn delivery(&self) -> Policy {
        self.delivery
    }
}
