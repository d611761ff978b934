//! What holds whatever happens, in whatever order.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use pushmesh_protocol::{
    PushId,
    message::{AckOutcome, AtEnd, PushOrder},
};

use super::{world::*, *};

#[derive(Debug, Clone)]
enum Step {
    Call {
        user: u8,
        call: u8,
        login: u8,
    },
    Withdraw {
        user: u8,
        call: u8,
        login: u8,
    },
    /// By a record of LOGIN that put another login in its place, or by none.
    LoginEnded {
        user: u8,
        login: u8,
        by: Option<u8>,
    },
    Message {
        user: u8,
        name: u8,
        at_end: AtEnd,
    },
    Connect {
        user: u8,
        device: u8,
        login: u8,
        comet: u8,
    },
    Leave(usize),
    Comets {
        first: bool,
        second: bool,
    },
    Ack(usize),
    Gone(usize),
    Effect(usize),
    AllEffects,
    Pass(Millis),
    Connected(bool),
    TakeOver {
        fate: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let at_end = prop_oneof![Just(AtEnd::Inbox), Just(AtEnd::Dead), Just(AtEnd::Drop)];
    prop_oneof![
        6 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(user, call, login)| Step::Call { user, call, login }),
        2 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(user, call, login)| Step::Withdraw { user, call, login }),
        2 => (0..2u8, 0..3u8, proptest::option::of(0..3u8))
            .prop_map(|(user, login, by)| Step::LoginEnded { user, login, by }),
        3 => (0..2u8, 0..8u8, at_end).prop_map(|(user, name, at_end)| Step::Message { user, name, at_end }),
        5 => (0..2u8, 0..2u8, 0..3u8, 0..2u8)
            .prop_map(|(user, device, login, comet)| Step::Connect { user, device, login, comet }),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(first, second)| Step::Comets { first, second }),
        4 => any::<usize>().prop_map(Step::Ack),
        2 => any::<usize>().prop_map(Step::Gone),
        6 => any::<usize>().prop_map(Step::Effect),
        3 => Just(Step::AllEffects),
        6 => prop_oneof![0..100u64, 0..3_000u64, 0..40_000u64].prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Connected),
        1 => any::<u64>().prop_map(|fate| Step::TakeOver { fate }),
    ]
}

struct Run {
    world: World,
    connections: usize,
    single_life: bool,
}

impl Run {
    fn take(&mut self, step: Step) {
        let world = &mut self.world;
        let name = |user: u8| ["alice", "bob"][usize::from(user)];
        let device = |login: u8| ["phone", "tablet"][usize::from(login % 2)];
        let login = |user: u8, login: u8| format!("l{user}{login}");
        match step {
            Step::Call { user, call, login: l } => {
                world.call(name(user), device(l), &login(user, l), &format!("c{call}"));
            }
            Step::Withdraw { user, call, login: l } => {
                world.withdraw(name(user), device(l), &login(user, l), &format!("c{call}"));
            }
            Step::LoginEnded { user, login: l, by: next } => {
                let by = next.map(|next| by(world.sequence, &login(user, next)));
                world.login_ended_by(name(user), &login(user, l), by);
            }
            Step::Message { user, name: message, at_end } => {
                // One message has one policy.
                let at_end = if message < 3 { AtEnd::Inbox } else { at_end };
                let message = format!("{message}{at_end:?}");
                world.message(name(user), &message, at_end);
            }
            Step::Connect { user, device: d, login: l, comet } => {
                self.connections += 1;
                let conn = format!("conn{}", self.connections);
                let device = ["phone", "tablet"][usize::from(d)];
                world.connect(name(user), device, &login(user, l), &conn, ["c1", "c2"][usize::from(comet)]);
            }
            Step::Leave(which) => {
                let keys: Vec<_> = world.sessions.keys().cloned().collect();
                if let Some((user, conn)) = keys.get(which.checked_rem(keys.len()).unwrap_or(0)) {
                    world.leave(user.as_str(), conn.as_str());
                }
            }
            Step::Comets { first, second } => {
                let alive: Vec<_> = [("c1", first), ("c2", second)].iter().filter(|c| c.1).map(|c| (c.0, 1)).collect();
                world.set_comets(&alive);
            }
            Step::Ack(which) => self.answer(which, AckOutcome::Acked),
            Step::Gone(which) => self.answer(which, AckOutcome::Gone),
            Step::Effect(which) => world.run_effect(which),
            Step::AllEffects => {
                while !world.effects.is_empty() {
                    world.run_effect(0);
                }
            }
            Step::Pass(time) => world.pass(time),
            Step::Connected(connected) => world.apply(Event::Connected(connected)),
            Step::TakeOver { fate } => {
                let mut fate = fate;
                world.take_over(|| {
                    fate = fate.rotate_left(1);
                    fate & 1 == 1
                });
                self.single_life = false;
            }
        }
    }

    fn answer(&mut self, which: usize, outcome: AckOutcome) {
        let world = &mut self.world;
        if world.sent.is_empty() {
            return;
        }
        let which = which % world.sent.len();
        let sent = world.sent[which].clone();
        let Some(push) = sent.push() else { return };
        if sent.gone {
            return;
        }
        // Whatever a comet denies, the client has not seen; a connection that is gone was still there before.
        if outcome == AckOutcome::Gone {
            let same = |other: &&mut Sent| other.push() == Some(push) && other.conn == sent.conn && !other.gone;
            world.sent.iter_mut().rfind(same).expect("at least this one").gone = true;
        }
        world.answer(sent.user.as_str(), sent.conn.as_str(), push, outcome);
    }

    /// Everybody is silent until all is over.
    fn quiesce(&mut self) {
        let world = &mut self.world;
        world.prompt = true;
        world.apply(Event::Connected(true));
        while !world.effects.is_empty() {
            world.run_effect(0);
        }
        world.set_comets(&[("c1", 1), ("c2", 1)]);
        for _ in 0..5 {
            world.pass(LIFETIME);
        }
    }
}

/// Transmissions of each push that counted: those at one moment are one.
fn transmissions(world: &World) -> HashMap<PushId, usize> {
    let mut moments: HashMap<PushId, BTreeMap<(Millis, String), bool>> = HashMap::new();
    for sent in &world.sent {
        if let Some(push) = sent.push() {
            let reached = moments.entry(push).or_default().entry((sent.at, sent.conn.to_string())).or_default();
            *reached |= !sent.gone;
        }
    }
    let reached = |moments: BTreeMap<(Millis, String), bool>| {
        let times: HashSet<_> = moments.into_iter().filter(|(_, reached)| *reached).map(|((at, _), _)| at).collect();
        times.len()
    };
    moments.into_iter().map(|(push, moments)| (push, reached(moments))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_a_fourth_transmission_and_nothing_is_lost(
        prompt in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut run = Run { world: World::new(), connections: 0, single_life: true };
        run.world.prompt = prompt;
        for step in steps {
            // A push that is over is not sent again by the same owner.
            let over: Vec<_> = run.world.facts.iter().filter_map(settled).collect();
            let (sent, facts, take_over) = (run.world.sent.len(), run.world.facts.len(), matches!(step, Step::TakeOver { .. }));
            run.take(step);
            let accepted = &run.world.accepted;
            if run.single_life && !take_over {
                for sent in &run.world.sent[sent..] {
                    prop_assert!(!sent.push().is_some_and(|push| over.contains(&push)), "settled and sent again: {sent:?}");
                }
            }
            for fact in &run.world.facts[facts..] {
                if let Fact::Settled { push, outcome, .. } = fact {
                    prop_assert!(*outcome != Outcome::Dropped || accepted.get(push) == Some(&AtEnd::Drop));
                }
            }
            // Whatever is not over stands in PUSH or in pending.
            let over: HashSet<_> = run.world.facts.iter().filter_map(settled).collect();
            for push in accepted.keys().filter(|push| !over.contains(*push)) {
                let in_stream = run.world.stream.values().any(|(order, _)| id_of(order) == Some(*push));
                let in_pending = run.world.pending.keys().any(|(_, id)| id == push);
                prop_assert!(in_stream || in_pending, "{push} is nowhere");
            }
        }
        run.quiesce();
        let world = &run.world;
        for (push, times) in transmissions(world) {
            if world.accepted.get(&push) != Some(&AtEnd::Inbox) {
                prop_assert!(times <= 3, "{push}: {:?}", world.times(push));
            }
        }
        prop_assert!(world.stream.is_empty(), "{:?}", world.stream);
        prop_assert!(world.pending.is_empty(), "{:?}", world.pending);
        prop_assert_eq!(world.desk.load(), Load::default());
        for push in world.accepted.keys() {
            let outcomes = world.outcomes(*push).len();
            prop_assert!(outcomes >= 1 && (outcomes == 1 || !run.single_life), "{push}: {:?}", world.outcomes(*push));
        }
        let unique: HashSet<_> = world.dead.iter().collect();
        prop_assert_eq!(unique.len(), world.dead.len());
    }
}

fn settled(fact: &Fact) -> Option<PushId> {
    match fact {
        Fact::Settled { push, .. } => Some(*push),
        _ => None,
    }
}

fn id_of(order: &PushOrder) -> Option<PushId> {
    match order {
        PushOrder::Deliver(delivery) => Some(delivery.id),
        PushOrder::Withdraw(withdrawal) => Some(withdrawal.id),
        PushOrder::LoginEnded(_) => None,
    }
}
