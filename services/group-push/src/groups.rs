//! The policy of groups: flat, members with roles. A call in a group reaches its members.

use pushmesh_protocol::{Kind, message::Policy};
use pushmesh_push::{PushKind, Reach, call_policy};

use crate::config::Config;

#[derive(Debug, Clone)]
pub struct Groups {
    kind: Kind,
    delivery: Policy,
}

impl Groups {
    pub fn new(config: &Config) -> Self {
        Self { kind: config.kind.clone(), delivery: call_policy(config.engine.push_lifetime) }
    }
}

impl PushKind for Groups {
    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn reach(&self) -> Reach {
        Reach::Unit
    }

    fn delivery(&self) -> Policy {
        self.delivery
    }
}
