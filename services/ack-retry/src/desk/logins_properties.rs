//! What stands beside sessions is what LOGIN said, whichever kind says it when, and whichever owner dies.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use pushmesh_protocol::{ConnId, LoginId, message::EndedBy};

use super::{world::*, *};

#[derive(Debug, Clone)]
enum Step {
    /// A connection of a device: a login of its own, or one that goes on with a connection's.
    Connect {
        device: u8,
        resume: bool,
    },
    /// LOGIN says that the device is online again.
    Again {
        device: u8,
    },
    /// LOGIN says that what the device is in is over.
    Offline {
        device: u8,
    },
    /// Another kind says what one has said.
    Echo(usize),
    Leave(usize),
    Purge(usize),
    Comets {
        first: bool,
    },
    Effect(usize),
    AllEffects,
    Pass(Millis),
    TakeOver {
        fate: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, any::<bool>()).prop_map(|(device, resume)| Step::Connect { device, resume }),
        5 => (0..2u8).prop_map(|device| Step::Again { device }),
        2 => (0..2u8).prop_map(|device| Step::Offline { device }),
        4 => any::<usize>().prop_map(Step::Echo),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Purge),
        1 => any::<bool>().prop_map(|first| Step::Comets { first }),
        6 => any::<usize>().prop_map(Step::Effect),
        2 => Just(Step::AllEffects),
        4 => (0..5_000u64).prop_map(Step::Pass),
        2 => any::<u64>().prop_map(|fate| Step::TakeOver { fate }),
    ]
}

/// The mesh as LOGIN sees it: one user with two devices.
struct Run {
    world: World,
    count: u64,
    /// The login of each device.
    current: BTreeMap<u8, String>,
    /// What LOGIN said, in its order.
    said: Vec<(String, EndedBy)>,
}

const DEVICES: [&str; 2] = ["phone", "tablet"];

impl Run {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect { device, resume } => {
                let conn = format!("conn{}", self.next());
                let name = DEVICES[usize::from(device)];
                let old = self.world.sessions.values().rfind(|(session, _)| session.device.as_str() == name);
                let login = match old.map(|(session, _)| session.login_id.to_string()).filter(|_| resume) {
                    Some(login) => login,
                    None => {
                        let login = format!("l{}", self.next());
                        self.current.insert(device, login.clone());
                        login
                    }
                };
                // Of two sessions the later one is the newer.
                self.world.pass(1);
                self.world.connect("alice", name, &login, &conn, ["c1", "c2"][usize::from(device)]);
            }
            Step::Again { device } => {
                let (sequence, login) = (self.next(), format!("l{}", self.count));
                let older = match self.current.insert(device, login.clone()) {
                    Some(older) => BTreeSet::from([older]),
                    // It has ended: of whoever is connected it stands in the place of what he began with.
                    None => self.began_with(DEVICES[usize::from(device)]),
                };
                older.into_iter().for_each(|older| self.say(older, by(sequence, &login)));
            }
            Step::Offline { device } => {
                let sequence = self.next();
                if let Some(login) = self.current.remove(&device) {
                    self.say(login, by(sequence, ""));
                }
            }
            Step::Echo(which) if !self.said.is_empty() => {
                let (login, by) = self.said[which % self.said.len()].clone();
                self.world.login_ended_by("alice", &login, Some(by));
            }
            Step::Echo(_) => {}
            Step::Leave(which) => {
                if let Some((user, conn)) = self.session(which) {
                    self.world.leave(user.as_str(), conn.as_str());
                }
            }
            Step::Purge(which) => {
                if let Some(key) = self.session(which) {
                    self.world.purge_session(key);
                }
            }
            Step::Comets { first } => self.world.set_comets(if first { &[("c1", 1), ("c2", 1)] } else { &[("c2", 1)] }),
            Step::Effect(which) => self.world.run_effect(which),
            Step::AllEffects => {
                while !self.world.effects.is_empty() {
                    self.world.run_effect(0);
                }
            }
            Step::Pass(time) => self.world.pass(time),
            Step::TakeOver { mut fate } => self.world.take_over(|| {
                fate = fate.rotate_left(1);
                fate & 1 == 1
            }),
        }
    }

    fn say(&mut self, login: String, by: EndedBy) {
        self.world.login_ended_by("alice", &login, Some(by.clone()));
        self.said.push((login, by));
    }

    fn session(&self, which: usize) -> Option<(UserId, ConnId)> {
        let keys: Vec<_> = self.world.sessions.keys().cloned().collect();
        keys.get(which.checked_rem(keys.len())?).cloned()
    }

    /// What ended a login, and everything that took its place.
    fn fate_of(&self, began: &LoginId) -> Option<EndedBy> {
        let (mut login, mut fate) = (Some(began.as_str()), None);
        for (ended, by) in &self.said {
            let again = login.is_none() && ended == began.as_str() && by.successor.is_some();
            if again || login == Some(ended.as_str()) {
                (login, fate) = (by.current().map(LoginId::as_str), Some(by.clone()));
            }
        }
        fate
    }

    fn began_with(&self, device: &str) -> BTreeSet<String> {
        let of_device = self.world.sessions.values().filter(|(session, _)| session.device.as_str() == device);
        of_device.map(|(session, _)| session.login_id.to_string()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_session_has_beside_it_what_became_of_its_login(
        prompt in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut run = Run { world: World::new(), count: 0, current: BTreeMap::new(), said: Vec::new() };
        run.world.prompt = prompt;
        for step in steps {
            let before = run.world.logins.clone();
            run.take(step);
            for (key, (login, _)) in &run.world.logins {
                let older = before.get(key).is_some_and(|(known, _)| known.by.sequence > login.by.sequence);
                prop_assert!(!older, "overwritten by an older word: {login:?}");
            }
            // Once nobody says it any more, it stands wherever a session does.
            if run.world.stream.is_empty() {
                for ((user, conn), (session, _)) in &run.world.sessions {
                    let says = run.world.logins.get(&(user.clone(), conn.clone())).map(|(login, _)| &login.by);
                    let heirs_way = run.world.effects.iter().any(|effect| matches!(effect, Effect::KeepLogin { conn: of, .. } if of == conn));
                    let fate = run.fate_of(&session.login_id);
                    prop_assert!(heirs_way || says == fate.as_ref(), "{conn}: {says:?}, not {fate:?}");
                }
            }
        }
        run.world.prompt = true;
        run.world.set_comets(&[("c1", 1), ("c2", 1)]);
        while !run.world.effects.is_empty() {
            run.world.run_effect(0);
        }
        for ((user, conn), (session, _)) in &run.world.sessions {
            let says = run.world.logins.get(&(user.clone(), conn.clone())).map(|(login, _)| login.by.clone());
            prop_assert_eq!(says, run.fate_of(&session.login_id));
        }
        for key in run.world.logins.keys() {
            prop_assert!(run.world.sessions.contains_key(key), "{key:?} has no session");
        }
        run.world.nothing_is_left();
    }
}
