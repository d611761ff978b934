//! The policy of discussions: small, ad hoc, and forgotten a while after their last call has ended.

use std::time::Duration;

use pushmesh_protocol::{Kind, message::Policy};
use pushmesh_push::{PushKind, Reach, call_policy};

use crate::config::Config;

#[derive(Debug, Clone)]
pub struct Discussions {
    kind: Kind,
    delivery: Policy,
    members_max: usize,
    dissolve_after: Duration,
}

impl Discussions {
    pub fn new(config: &Config) -> Self {
        Self {
            kind: config.kind.clone(),
            delivery: call_policy(config.engine.push_lifetime),
            members_max: config.members_max,
            dissolve_after: config.dissolve_after,
        }
    }
}

impl PushKind for Discussions {
    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn reach(&self) -> Reach {
        Reach::Unit
    }

    fn delivery(&self) -> Policy {
        self.delivery
    }

    fn members_max(&self) -> Option<usize> {
        Some(self.members_max)
    }

    fn dissolve_after(&self) -> Option<Duration> {
        Some(self.dissolve_after)
    }
}
