//! Stories of one partition.

use std::collections::BTreeSet;

use pushmesh_protocol::{
    Partition,
    message::{LoginRecord, PushOrder},
};

use super::{stage::*, *};

#[test]
fn a_login_is_told_of_the_calls_of_its_groups() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g1");
    stage.join("ann", "g2");
    stage.start("c1", "g1");
    stage.start("c2", "elsewhere");
    assert_eq!(stage.online("ann", "l1"), Some(Outcome::Evaluated));
    assert_eq!(stage.told(), ["+c1@l1"]);
    stage.start("c3", "g2");
    assert_eq!(stage.told(), ["+c3@l1"], "a call that starts while he is online");
    stage.join("ann", "elsewhere");
    assert_eq!(stage.told(), ["+c2@l1"], "a membership added while a call is active");
    stage.end("c1", "g1");
    assert_eq!(stage.told(), ["-c1@l1"]);
    stage.leave("ann", "g2");
    assert_eq!(stage.told(), ["-c3@l1"], "who left is not rung");
    stage.offline("ann", "l1");
    assert_eq!(stage.told(), ["end l1"]);
    stage.start("c4", "g1");
    assert!(stage.told().is_empty());
}

#[test]
fn a_call_above_reaches_members_below_once() {
    let mut stage = Stage::new(Reach::Below);
    stage.join("ann", "net/verizon/res");
    stage.join("ann", "net/verizon");
    stage.join("bob", "net");
    stage.online("ann", "la");
    stage.online("bob", "lb");
    stage.start("all", "net");
    let mut told = stage.told();
    told.sort();
    assert_eq!(told, ["+all@la", "+all@lb"]);
    stage.start("team", "net/verizon");
    assert_eq!(stage.told(), ["+team@la"]);
    stage.online("ann", "la2");
    let told: BTreeSet<_> = stage.told().into_iter().collect();
    assert_eq!(told, ["end la", "+all@la2", "+team@la2"].map(str::to_owned).into());
    stage.leave("ann", "net/verizon/res");
    assert!(stage.told().is_empty(), "net/verizon still reaches him");
}

#[test]
fn the_same_record_twice_has_the_same_pushes() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g");
    stage.start("c", "g");
    stage.online("ann", "l1");
    stage.sequence -= 1;
    assert_eq!(stage.online("ann", "l1"), Some(Outcome::Evaluated));
    assert_eq!(stage.told(), ["+c@l1", "+c@l1"]);
}

#[test]
fn a_session_without_a_record_is_told_after_the_grace() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g");
    stage.start("c", "g");
    stage.session("ann", "l1");
    assert!(stage.told().is_empty());
    stage.pass(SECOND - 1);
    assert!(stage.told().is_empty());
    stage.pass(1);
    assert_eq!(stage.told(), ["+c@l1"]);
    stage.pass(SECOND);
    assert!(stage.told().is_empty(), "once");
    stage.session("bob", "l2");
    stage.join("bob", "g");
    assert_eq!(stage.told(), ["+c@l2"], "it counts as a login at once");
    stage.session("cid", "l3");
    stage.online("cid", "l3");
    stage.join("cid", "g");
    stage.told();
    stage.pass(2 * SECOND);
    assert_eq!(stage.told(), ["+c@l2"], "a record in time saves the second look-up");
}

#[test]
fn an_older_lease_of_the_distributor_is_fenced() {
    let mut stage = Stage::new(Reach::Unit);
    let entry = |epoch| {
        let event = LoginEvent::Online { login_id: LoginId::new("l").unwrap(), device: DeviceId::new("d").unwrap() };
        let record = LoginRecord { user: UserId::new("ann").unwrap(), event, at: 1_000_000, trace: None };
        Input::Record { entry: OnlineEntry { partition: Partition(0), epoch, sequence: 1, record }, trace: None }
    };
    assert_eq!(stage.input(entry(7)), Some(Outcome::Evaluated));
    assert_eq!(stage.input(entry(6)), Some(Outcome::Fenced { current: 7 }));
    assert_eq!(stage.input(entry(7)), Some(Outcome::Evaluated));
}

#[test]
fn overtaken_and_stale_records_tell_nothing() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g");
    stage.start("c", "g");
    let old = stage.now - 61 * SECOND;
    let event = |login: &str| LoginEvent::Online {
        login_id: LoginId::new(login).unwrap(),
        device: DeviceId::new("phone").unwrap(),
    };
    assert_eq!(stage.record("ann", event("l0"), old), Some(Outcome::Stale));
    assert_eq!(stage.desk.logins(), 0);
    stage.sequence = 10;
    stage.offline("ann", "l1");
    stage.sequence = 5;
    assert_eq!(stage.online("ann", "l1"), Some(Outcome::Overtaken));
    assert_eq!(stage.told(), ["end l1"]);
    stage.pass(11 * 60 * SECOND);
    assert!(stage.desk.roll.presence_of(&UserId::new("ann").unwrap()).is_none(), "what it remembered is forgotten");
}

#[test]
fn a_new_owner_tells_everything_once_more_when_caught_up() {
    let mut stage = Stage::new(Reach::Unit);
    stage.desk = Desk::new(rules(Reach::Unit));
    stage.join("ann", "g");
    stage.session("ann", "l1");
    stage.session("late", "l2");
    stage.start("active", "g");
    stage.start("over", "g");
    stage.end("over", "g");
    assert!(stage.told().is_empty(), "not before it is caught up");
    let effects = stage.desk.serve(&stage.book, stage.now);
    assert!(effects.orders.is_empty());
    let (effects, more) = stage.desk.evaluate(0, 1000, &stage.book, stage.now);
    assert_eq!(effects.orders.iter().map(line).collect::<Vec<_>>(), ["+active@l1", "-over@l1"]);
    assert_eq!(more, None);
    stage.pass(2 * SECOND);
    assert!(stage.told().is_empty());
    // In portions it is the same.
    let (effects, more) = stage.desk.evaluate(0, 1, &stage.book, stage.now);
    assert_eq!((effects.orders.len(), more), (2, Some(1)));
    // A login that began long after a call's end was never told of it.
    stage.now += 120 * SECOND;
    stage.online("ann", "l3");
    stage.told();
    let (effects, _) = stage.desk.evaluate(0, 1000, &stage.book, stage.now);
    assert_eq!(effects.orders.iter().map(line).collect::<Vec<_>>(), ["+active@l3"]);
}

#[test]
fn a_dissolved_unit_forgets_its_members_and_no_younger_ones() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "d");
    stage.start("c", "d");
    stage.end("c", "d");
    stage.now += 700 * SECOND;
    stage.join("bob", "d");
    let news = stage.book.take_due(stage.now);
    stage.news.extend(news);
    stage.hear();
    assert_eq!(stage.dissolved, [(UserId::new("ann").unwrap(), Unit::new("d").unwrap())]);
    let effects = stage.desk.serve(&stage.book, stage.now);
    assert_eq!(effects.dissolved.len(), 1, "a new owner comes to it as well");
}

#[test]
fn what_a_new_snapshot_does_not_mention_is_gone() {
    let mut stage = Stage::new(Reach::Unit);
    for unit in ["g1", "g2"] {
        stage.join("ann", unit);
    }
    stage.online("ann", "l1");
    stage.start("c1", "g1");
    stage.start("c2", "g2");
    stage.told();
    stage.input(Input::Member(MemberNews::Restarted));
    stage.join("ann", "g2");
    stage.join("ann", "g3");
    stage.input(Input::Member(MemberNews::Current));
    assert_eq!(stage.told(), ["-c1@l1"]);
    assert_eq!(stage.desk.memberships(), 2);

    stage.session("ann", "l1");
    stage.session("bob", "l2");
    stage.input(Input::Session(SessionNews::Restarted));
    stage.session("bob", "l2");
    stage.input(Input::Session(SessionNews::Current));
    let conns = |user: &str| {
        let presence = stage.desk.roll.find(&UserId::new(user).unwrap()).and_then(|ix| stage.desk.roll.presence(ix));
        presence.map_or(0, |presence| presence.conns().count())
    };
    assert_eq!((conns("ann"), conns("bob")), (0, 1));
}

#[test]
fn who_leaves_between_a_calls_end_and_the_news_of_it_is_told_of_the_end() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g");
    stage.start("c", "g");
    stage.online("ann", "l1");
    assert_eq!(stage.told(), ["+c@l1"]);
    stage.write_call("c", "g", Some(stage.now));
    stage.leave("ann", "g");
    assert_eq!(stage.told(), ["-c@l1"]);
    stage.hear();
    assert!(stage.told().is_empty());
    // What ended long ago has been withdrawn long ago.
    stage.join("ann", "g");
    stage.now += 120 * SECOND;
    stage.leave("ann", "g");
    assert!(stage.told().is_empty());
}

#[test]
fn a_question_is_answered_with_the_ids_of_the_pushes() {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g");
    stage.start("c", "g");
    let (user, login) = (UserId::new("ann").unwrap(), LoginId::new("l1").unwrap());
    let calls = stage.desk.calls(&user, &login, &stage.book);
    stage.online("ann", "l1");
    let PushOrder::Deliver(delivery) = &stage.orders[0] else { panic!("a delivery") };
    assert_eq!(calls[0].id, delivery.id);
    assert_eq!(stage.desk.calls(&UserId::new("nobody").unwrap(), &login, &stage.book), []);
}

#[test]
fn a_hundred_thousand_memberships_are_fine() {
    let mut stage = Stage::new(Reach::Unit);
    for user in 0..20_000 {
        for unit in 0..5 {
            stage.join(&format!("user-{user}"), &format!("unit-{}", (user * 7 + unit * 13) % 2_000));
        }
    }
    stage.online("user-1", "l1");
    stage.start("c", "unit-7");
    assert_eq!(stage.told(), ["+c@l1"]);
    for user in 0..20_000 {
        for unit in 0..5 {
            stage.leave(&format!("user-{user}"), &format!("unit-{}", (user * 7 + unit * 13) % 2_000));
        }
    }
    assert_eq!(stage.desk.memberships(), 0);
}
