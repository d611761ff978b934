//! Which comets there are, how full they are, and where the next client should go. Pure: time and dice are arguments.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use pushmesh_protocol::{Instance, room::CometStatus};

/// A comet tells every second; after so long it counts as gone.
pub const UNHEARD_AFTER: Duration = Duration::from_secs(5);
/// Most candidates of one answer.
pub const CANDIDATES_MAX: usize = 5;
/// Most comets that are known at a time.
const COMETS_MAX: usize = 4096;

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Tcp,
}

/// Where a client may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub comet: Instance,
    pub address: String,
}

/// A comet as it was heard last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub comet: Instance,
    pub status: CometStatus,
    pub age: Duration,
}

/// The newest word of each comet.
#[derive(Debug, Default)]
pub struct Comets {
    heard: HashMap<Instance, Heard>,
}

#[derive(Debug)]
struct Heard {
    status: CometStatus,
    at: Instant,
}

impl Heard {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < UNHEARD_AFTER
    }
}

impl Comets {
    /// A comet spoke. A word of an earlier life of it, late on its way, changes nothing.
    pub fn hear(&mut self, comet: Instance, status: CometStatus, now: Instant) {
        match self.heard.get_mut(&comet) {
            Some(known) if known.is_fresh(now) && known.status.epoch > status.epoch => {}
            Some(known) => *known = Heard { status, at: now },
            None => {
                self.forget(now);
                if self.heard.len() < COMETS_MAX {
                    self.heard.insert(comet, Heard { status, at: now });
                }
            }
        }
    }

    /// Forgets those that are gone.
    fn forget(&mut self, now: Instant) {
        self.heard.retain(|_, heard| heard.is_fresh(now));
    }

    /// All that were heard of late, by name.
    pub fn seen(&self, now: Instant) -> Vec<Seen> {
        let fresh = self.heard.iter().filter(|(_, heard)| heard.is_fresh(now));
        let seen = fresh.map(|(comet, heard)| Seen {
            comet: comet.clone(),
            status: heard.status.clone(),
            age: heard.age(now),
        });
        let mut seen: Vec<_> = seen.collect();
        seen.sort_by(|one, other| one.comet.cmp(&other.comet));
        seen
    }

    /// Where to try, in this order: at most [`CANDIDATES_MAX`], each place drawn by free capacity among those that are left;
    /// none that drains, is full, was not heard of late or has no such door. `dice` gives numbers of [0, 1).
    pub fn candidates(&self, transport: Transport, now: Instant, mut dice: impl FnMut() -> f64) -> Vec<Candidate> {
        let open = self.heard.iter().filter(|(_, heard)| {
            heard.is_fresh(now) && free(&heard.status) > 0 && !door(&heard.status, transport).is_empty()
        });
        // In a fixed order, so that the same dice give the same answer.
        let mut open: Vec<_> = open.collect();
        open.sort_by_key(|(comet, _)| *comet);
        // Efraimidis and Spirakis: the order of exponential waiting times is that of draws without replacement.
        let wait = |heard: &Heard, dice: f64| -(1.0 - dice).ln() / f64::from(free(&heard.status));
        let mut drawn: Vec<_> = open.into_iter().map(|(comet, heard)| (wait(heard, dice()), comet, heard)).collect();
        drawn.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        drawn.truncate(CANDIDATES_MAX);
        let candidate = |(_, comet, heard): (f64, &Instance, &Heard)| Candidate {
            comet: comet.clone(),
            address: door(&heard.status, transport).to_owned(),
        };
        drawn.into_iter().map(candidate).collect()
    }
}

/// Where clients reach it; empty where nowhere.
fn door(status: &CometStatus, transport: Transport) -> &str {
    match transport {
        Transport::WebSocket => &status.websocket,
        Transport::Tcp => &status.tcp,
    }
}

/// How many more it takes.
fn free(status: &CometStatus) -> u32 {
    if status.draining { 0 } else { status.capacity.saturating_sub(status.connections) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: usize) -> Instance {
        Instance::new(&format!("comet-{number}")).unwrap()
    }

    fn status(connections: u32, capacity: u32) -> CometStatus {
        CometStatus {
            epoch: 1,
            connections,
            capacity,
            rooms: 0,
            draining: false,
            websocket: "ws.example:1".into(),
            tcp: String::new(),
            at: 0,
        }
    }

    /// Numbers of [0, 1) that look thrown.
    fn dice(mut seed: u64) -> impl FnMut() -> f64 {
        move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    #[test]
    fn who_drains_is_full_is_gone_or_has_no_such_door_is_never_named() {
        let (mut comets, begun) = (Comets::default(), Instant::now());
        let later = begun + UNHEARD_AFTER;
        comets.hear(name(0), status(0, 10), begun);
        comets.hear(name(1), status(10, 10), later);
        comets.hear(name(2), status(11, 10), later);
        comets.hear(name(3), CometStatus { draining: true, ..status(0, 10) }, later);
        comets.hear(
            name(4),
            CometStatus { websocket: String::new(), tcp: "tcp.example:1".into(), ..status(0, 9) },
            later,
        );
        assert_eq!(comets.candidates(Transport::WebSocket, later, dice(1)), []);
        let tcp = comets.candidates(Transport::Tcp, later, dice(1));
        assert_eq!(tcp, [Candidate { comet: name(4), address: "tcp.example:1".into() }]);
        let seen: Vec<_> = comets.seen(later).into_iter().map(|seen| seen.comet).collect();
        assert_eq!(seen, [name(1), name(2), name(3), name(4)], "totals count full and draining ones too");
        comets.forget(later);
        assert_eq!(comets.heard.len(), 4);
    }

    #[test]
    fn a_late_word_of_an_earlier_life_changes_nothing() {
        let (mut comets, begun) = (Comets::default(), Instant::now());
        comets.hear(name(0), CometStatus { epoch: 2, ..status(1, 10) }, begun);
        comets.hear(name(0), CometStatus { epoch: 1, draining: true, ..status(9, 10) }, begun);
        assert_eq!(comets.seen(begun)[0].status.connections, 1);
        comets.hear(name(0), CometStatus { epoch: 1, ..status(3, 10) }, begun + UNHEARD_AFTER);
        assert_eq!(comets.seen(begun + UNHEARD_AFTER)[0].status.connections, 3, "unless the later one is gone");
    }

    #[test]
    fn names_are_bounded_and_make_room_for_others_when_they_are_gone() {
        let (mut comets, begun) = (Comets::default(), Instant::now());
        for number in 0..COMETS_MAX + 5 {
            comets.hear(name(number), status(0, 1), begun);
        }
        assert_eq!(comets.heard.len(), COMETS_MAX);
        comets.hear(name(COMETS_MAX + 9), status(0, 1), begun + UNHEARD_AFTER);
        assert_eq!(comets.heard.len(), 1);
    }

    #[test]
    fn the_first_place_is_drawn_by_free_capacity() {
        let (mut comets, now) = (Comets::default(), Instant::now());
        for (number, free) in [10, 30, 60].into_iter().enumerate() {
            comets.hear(name(number), status(100 - free, 100), now);
        }
        let (mut firsts, mut dice) = ([0u32; 3], dice(7));
        for _ in 0..20_000 {
            let first = comets.candidates(Transport::WebSocket, now, &mut dice)[0].comet.clone();
            firsts[(0..3).find(|number| name(*number) == first).unwrap()] += 1;
        }
        for (count, expected) in firsts.into_iter().zip([2_000u32, 6_000, 12_000]) {
            assert!(count.abs_diff(expected) < 400, "{firsts:?}");
        }
    }

    proptest! {
        #[test]
        fn candidates_are_different_open_and_as_many_as_can_be(
            all in proptest::collection::vec((0u32..20, 0u32..20, any::<bool>(), 0u64..9_000), 0..12), seed: u64
        ) {
            let (mut comets, begun) = (Comets::default(), Instant::now());
            let now = begun + Duration::from_secs(9);
            let mut open = 0;
            for (number, (connections, capacity, draining, at)) in all.iter().copied().enumerate() {
                let at = begun + Duration::from_millis(at);
                comets.hear(name(number), CometStatus { draining, ..status(connections, capacity) }, at);
                open += usize::from(!draining && connections < capacity && now - at < UNHEARD_AFTER);
            }
            let mut found: Vec<_> =
                comets.candidates(Transport::WebSocket, now, dice(seed)).into_iter().map(|one| one.comet).collect();
            prop_assert_eq!(found.len(), open.min(CANDIDATES_MAX));
            for comet in &found {
                let status = &comets.heard[comet].status;
                prop_assert!(!status.draining && status.connections < status.capacity);
            }
            found.sort();
            found.dedup();
            prop_assert_eq!(found.len(), open.min(CANDIDATES_MAX));
        }
    }
}
