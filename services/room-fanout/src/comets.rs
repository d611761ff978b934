//! Which comets are heard: what one of them said of a room counts while it is.

use std::{collections::HashSet, sync::Arc};

use pushmesh_membership::View;
use pushmesh_protocol::{Instance, Token, room::RoomPresence};
use tokio::sync::watch;

pub struct Comets {
    view: watch::Receiver<Arc<View>>,
    service: Token,
    /// Those that said something here.
    known: HashSet<Instance>,
}

impl Comets {
    pub fn new(view: watch::Receiver<Arc<View>>, service: Token) -> Self {
        Self { view, service, known: HashSet::new() }
    }

    /// Whether a report is a living comet's. One that is not known yet reports again in seconds.
    pub fn admits(&mut self, report: &RoomPresence) -> bool {
        let lives = self.view.borrow().is_alive(&self.service, &report.comet, report.comet_epoch);
        if lives {
            self.known.insert(report.comet.clone());
        }
        lives
    }

    /// Returns when the members have changed. Cancel safe.
    pub async fn changed(&mut self) {
        let mut view = self.view.clone();
        // Marked as seen only where it is looked at.
        if view.changed().await.is_err() {
            // Membership has ended, and the lease with it.
            std::future::pending::<()>().await;
        }
    }

    /// Those that said something and are not heard any more, if the members have changed.
    pub fn take_gone(&mut self) -> Vec<Instance> {
        if !self.view.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        let view = self.view.borrow_and_update().clone();
        let lives = |comet: &Instance| view.member(&self.service, comet).is_some_and(|member| member.alive);
        let gone: Vec<Instance> = self.known.iter().filter(|comet| !lives(comet)).cloned().collect();
        for comet in &gone {
            self.known.remove(comet);
        }
        gone
    }
}
