//! Where else clients may go: to another comet that is there to stay, by chance, in proportion to the places it has left.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pushmesh_membership::{Membership, View};
use pushmesh_protocol::{Instance, Token, room::CometStatus};
use tokio::sync::watch;

use crate::{address::Dice, framing::Dialect, mesh::status::Statuses};

/// For how long a comet is as it said: three of its reports may be lost.
const FRESH_FOR: Duration = Duration::from_millis(3500);

/// The other comets, as they say themselves, and as membership knows those of which nothing was heard. Clones see the same.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    view: watch::Receiver<Arc<View>>,
    statuses: watch::Receiver<Statuses>,
    service: Token,
    /// This one: never named.
    instance: Instance,
}

impl Elsewhere {
    pub fn new(membership: &Membership, statuses: watch::Receiver<Statuses>) -> Self {
        let me = membership.me();
        Self { view: membership.view(), statuses, service: me.service.clone(), instance: me.instance.clone() }
    }

    /// An address of one that is alive, does not drain and has room: of its door for `dialect`, if one of them has such.
    pub fn choose(&self, dialect: Dialect, now: Instant, dice: &mut Dice) -> Option<String> {
        let view = self.view.borrow().clone();
        let statuses = self.statuses.borrow();
        let stays =
            |comet: &Instance| view.member(&self.service, comet).is_none_or(|member| member.alive && !member.draining);
        let fresh = |comet: &Instance| {
            let heard = statuses.get(comet)?;
            (now.saturating_duration_since(heard.at) < FRESH_FOR).then_some(&heard.status)
        };
        let others: Vec<_> = statuses
            .keys()
            .filter(|comet| **comet != self.instance && stays(comet))
            .filter_map(fresh)
            .filter_map(|status| Some((room(status), address(status, dialect)?)))
            .collect();
        if let Some(address) = choose(&others, dice) {
            return Some(address.to_owned());
        }
        let others: Vec<_> = view
            .members_of(&self.service)
            .filter(|member| member.instance != self.instance && member.alive && !member.draining)
            .filter(|member| fresh(&member.instance).is_none_or(|status| room(status) > 0))
            .filter(|member| !member.address.is_empty())
            .map(|member| (u64::from(member.weight), member.address.as_str()))
            .collect();
        choose(&others, dice).map(str::to_owned)
    }
}

// Places it has left for those who are sent there.
fn room(status: &CometStatus) -> u64 {
    if status.draining { 0 } else { u64::from(status.capacity.saturating_sub(status.connections)) }
}

fn address(status: &CometStatus, dialect: Dialect) -> Option<&str> {
    let address = if dialect == Dialect::TcpPack { &status.tcp } else { &status.websocket };
    (!address.is_empty()).then_some(address)
}

fn choose<'a>(others: &[(u64, &'a str)], dice: &mut Dice) -> Option<&'a str> {
    let total: u64 = others.iter().map(|(weight, _)| weight).sum();
    let mut left = ((u128::from(dice.roll()) * u128::from(total)) >> 64) as u64;
    for (weight, address) in others {
        match left.checked_sub(*weight) {
            None => return Some(*address),
            Some(rest) => left = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavier_ones_get_more_and_full_ones_nobody() {
        let others = [(1, "a"), (0, "full"), (3, "b")];
        let mut dice = Dice::default();
        let chosen: Vec<_> = (0..4000).filter_map(|_| choose(&others, &mut dice)).collect();
        assert_eq!(chosen.len(), 4000);
        let b = chosen.iter().filter(|address| **address == "b").count();
        assert!((2800..3200).contains(&b) && !chosen.contains(&"full"), "{b}");
        assert_eq!(choose(&[(0, "full")], &mut dice), None);
        assert_eq!(choose(&[], &mut dice), None);
    }

    #[test]
    fn each_transport_has_its_own_door_and_who_drains_has_no_room() {
        let status = CometStatus {
            epoch: 1,
            connections: 30,
            capacity: 100,
            rooms: 0,
            draining: false,
            websocket: "ws://a:1".into(),
            tcp: String::new(),
            at: 1,
        };
        assert_eq!(room(&status), 70);
        assert_eq!(address(&status, Dialect::WebSocketJson), Some("ws://a:1"));
        assert_eq!(address(&status, Dialect::TcpPack), None);
        assert_eq!(room(&CometStatus { draining: true, ..status.clone() }), 0);
        assert_eq!(room(&CometStatus { connections: 200, ..status }), 0);
    }
}
