//! Everything in every order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{stage::*, *};

/// The parts of a login and a call start, in every order that can be.
#[test]
fn a_login_and_a_call_start_meet_in_every_interleaving() {
    type Step = fn(&mut Stage);
    let login: Vec<Step> = vec![|s| s.session("ann", "l1"), |s| _ = s.online("ann", "l1")];
    let call: Vec<Step> = vec![|s| s.write_call("c", "g", None), Stage::hear];
    let member: Vec<Step> = vec![|s| s.join("ann", "g")];
    let orders = interleavings(&[login, call, member]);
    assert_eq!(orders.len(), 30);
    for steps in orders {
        let mut stage = Stage::new(Reach::Unit);
        steps.into_iter().for_each(|step| step(&mut stage));
        let told: BTreeSet<_> = stage.told().into_iter().collect();
        assert_eq!(told, BTreeSet::from(["+c@l1".to_owned()]));
    }
}

/// And with its end: what was told is withdrawn, and nothing is told after that.
#[test]
fn a_call_is_never_told_after_it_was_withdrawn() {
    type Step = fn(&mut Stage);
    let login: Vec<Step> = vec![|s| s.session("ann", "l1"), |s| _ = s.online("ann", "l1"), |s| s.pass(SECOND)];
    let call: Vec<Step> = vec![|s| s.write_call("c", "g", None), |s| s.write_call("c", "g", Some(1_000_000))];
    let hear: Vec<Step> = vec![Stage::hear, Stage::hear];
    let member: Vec<Step> = vec![|s| s.join("ann", "g")];
    for steps in interleavings(&[login, call, hear, member]) {
        let mut stage = Stage::new(Reach::Unit);
        steps.into_iter().for_each(|step| step(&mut stage));
        while !stage.news.is_empty() {
            stage.hear();
        }
        let told = stage.told();
        let withdrawn = told.iter().position(|line| line == "-c@l1");
        let last_told = told.iter().rposition(|line| line == "+c@l1");
        if let Some(last_told) = last_told {
            assert!(withdrawn.is_some_and(|at| at > last_told), "{told:?}");
        }
    }
}

fn interleavings<T: Copy>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    if lists.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, list) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
        let mut rest = lists.to_vec();
        rest[index].remove(0);
        for mut tail in interleavings(&rest) {
            tail.insert(0, list[0]);
            all.push(tail);
        }
    }
    all
}

#[derive(Debug, Clone)]
enum Op {
    Online(u8),
    Again(u8),
    Offline(u8),
    Session(u8),
    Join(u8, u8),
    Leave(u8, u8),
    Start(u8, u8),
    End(u8),
    Hear,
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let (user, unit, call) = (0..4u8, 0..5u8, 0..6u8);
    prop_oneof![
        3 => user.clone().prop_map(Op::Online),
        1 => user.clone().prop_map(Op::Again),
        2 => user.clone().prop_map(Op::Offline),
        2 => user.clone().prop_map(Op::Session),
        4 => (user.clone(), unit.clone()).prop_map(|(user, unit)| Op::Join(user, unit)),
        1 => (user, unit.clone()).prop_map(|(user, unit)| Op::Leave(user, unit)),
        3 => (call.clone(), unit).prop_map(|(call, unit)| Op::Start(call, unit)),
        2 => call.prop_map(Op::End),
        4 => Just(Op::Hear),
        1 => (0..2000u16).prop_map(Op::Pass),
    ]
}

const UNITS: [&str; 5] = ["a", "a/b", "a/b/c", "a/d", "e"];

proptest! {
    // Whatever happens, in whatever order: who is online and reached by an active call was told of it, who was told
    // of a call that ended was told so after it, and nobody was told who was never reached.
    #[test]
    fn everybody_is_told_what_he_must_be_and_nothing_else(ops in prop::collection::vec(op(), 1..80)) {
        let mut stage = Stage::new(Reach::Below);
        let mut logins: [Option<String>; 4] = Default::default();
        let mut members: BTreeSet<(u8, u8)> = BTreeSet::new();
        // Whoever was a member at any time may have been told.
        let mut ever: BTreeSet<(u8, u8)> = BTreeSet::new();
        let mut calls: Vec<Option<(u8, bool)>> = vec![None; 6];
        let mut count = 0;
        let mut told: Vec<String> = Vec::new();
        for op in ops {
            stage.now += 1;
            match op {
                Op::Online(user) => {
                    count += 1;
                    let login = format!("l{count}-{user}");
                    stage.online(&user.to_string(), &login);
                    logins[user as usize] = Some(login);
                }
                Op::Again(user) => if let Some(login) = &logins[user as usize] {
                    stage.online(&user.to_string(), login);
                },
                Op::Offline(user) => if let Some(login) = logins[user as usize].take() {
                    stage.offline(&user.to_string(), &login);
                },
                Op::Session(user) => {
                    if logins[user as usize].is_none() {
                        count += 1;
                        logins[user as usize] = Some(format!("l{count}-{user}"));
                    }
                    stage.session(&user.to_string(), logins[user as usize].as_ref().unwrap());
                }
                Op::Join(user, unit) => {
                    stage.join(&user.to_string(), UNITS[unit as usize]);
                    members.insert((user, unit));
                    ever.insert((user, unit));
                }
                Op::Leave(user, unit) => {
                    stage.leave(&user.to_string(), UNITS[unit as usize]);
                    members.remove(&(user, unit));
                }
                Op::Start(call, unit) => if calls[call as usize].is_none() {
                    stage.write_call(&call.to_string(), UNITS[unit as usize], None);
                    calls[call as usize] = Some((unit, true));
                },
                Op::End(call) => if let Some((unit, active @ true)) = &mut calls[call as usize] {
                    *active = false;
                    stage.write_call(&call.to_string(), UNITS[*unit as usize], Some(stage.now));
                },
                Op::Hear => stage.hear(),
                Op::Pass(millis) => stage.pass(u64::from(millis)),
            }
            told.extend(stage.told());
        }
        while !stage.news.is_empty() {
            stage.hear();
        }
        stage.pass(SECOND);
        told.extend(stage.told());

        let covers = |above: u8, below: u8| {
            Unit::new(UNITS[above as usize]).unwrap().covers(&Unit::new(UNITS[below as usize]).unwrap())
        };
        for (user, login) in logins.iter().enumerate() {
            let Some(login) = login else { continue };
            for (call, state) in calls.iter().enumerate() {
                let Some((unit, active)) = *state else { continue };
                let reached = |set: &BTreeSet<(u8, u8)>| {
                    set.iter().any(|(member, at)| usize::from(*member) == user && covers(unit, *at))
                };
                let last = |sign: char| {
                    let line = format!("{sign}{call}@{login}");
                    told.iter().rposition(|told| *told == line)
                };
                if active && reached(&members) {
                    prop_assert!(last('+').is_some(), "{call}@{login} was not told: {told:?}");
                }
                if !active && last('+').is_some() && reached(&members) {
                    prop_assert!(last('-') > last('+'), "{call}@{login} was not withdrawn: {told:?}");
                }
                if !reached(&ever) {
                    prop_assert!(last('+').is_none() && last('-').is_none());
                }
            }
        }
        prop_assert_eq!(stage.desk.logins(), logins.iter().flatten().count());
        prop_assert_eq!(stage.desk.memberships(), members.len());
    }
}
