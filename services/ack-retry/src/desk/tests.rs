use pushmesh_protocol::message::{AckOutcome, AtEnd, CometOrder, DeadReason, PendingState, PushOrder, Session, Source};

use super::{world::*, *};

pub(super) fn online() -> World {
    let mut world = World::new();
    world.connect("alice", "phone", "l1", "a", "c1");
    world
}

#[test]
fn a_push_that_is_acknowledged_in_time_costs_no_key() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(1_900);
    assert!(world.pending.is_empty() && world.stream.len() == 1);
    world.answer("alice", "a", push, AckOutcome::Acked);
    assert_eq!((world.times(push), world.outcomes(push)), (vec![0], vec![Outcome::Acked]));
    world.nothing_is_left();
}

#[test]
fn a_client_that_never_acknowledges_gets_three_transmissions_and_then_it_is_dead() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(SUSPECT);
    assert!(world.stream.is_empty(), "after 2 s it stands in pending, and PUSH is acknowledged");
    world.pass(2 * RETRY + 7_999);
    assert_eq!(world.times(push), [0, RETRY, 2 * RETRY]);
    assert!(world.dead.is_empty());
    world.pass(1);
    assert_eq!(world.dead, [(push, DeadReason::Unacknowledged)]);
    world.pass(LIFETIME);
    assert_eq!((world.times(push).len(), world.outcomes(push)), (3, vec![Outcome::Dead]));
    world.nothing_is_left();
}

#[test]
fn the_number_of_tries_is_stored_before_every_transmission_but_the_first() {
    let mut world = World::with(Rules { retry_interval: Duration::from_millis(300), ..rules() });
    world.connect("alice", "phone", "l1", "a", "c1");
    world.prompt = false;
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(10_000);
    assert_eq!(world.times(push), [0], "the second one waits for the key");
    world.run_effect(0);
    assert_eq!(world.pending.values().next().map(|pending| pending.tries), Some(2));
    assert_eq!(world.times(push).len(), 2);
}

#[test]
fn a_reconnect_sends_at_once_and_counts() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(3_000);
    world.leave("alice", "a");
    world.pass(1_000);
    world.connect("alice", "phone", "l1", "b", "c2");
    assert_eq!(world.times(push), [0, 4_000]);
    world.pass(RETRY);
    world.connect("alice", "phone", "l2", "d", "c2");
    assert_eq!(world.times(push), [0, 4_000, 14_000], "never a fourth, whatever the connections");
    world.pass(RETRY);
    assert_eq!(world.outcomes(push), [Outcome::Dead]);
}

#[test]
fn gone_does_not_count() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.answer("alice", "a", push, AckOutcome::Gone);
    assert_eq!(
        world.pending.values().map(|p| p.tries).collect::<Vec<_>>(),
        [0],
        "without a session it goes to pending"
    );
    world.pass(30_000);
    world.connect("alice", "phone", "l1", "b", "c1");
    world.pass(3 * RETRY);
    assert_eq!(world.times(push), [0, 30_000, 40_000, 50_000]);
    assert_eq!(world.outcomes(push), [Outcome::Dead]);
}

#[test]
fn waiting_without_a_session_is_no_try() {
    let mut world = World::new();
    let push = world.call("alice", "phone", "l1", "call");
    assert_eq!(world.pending.len(), 1, "at once");
    world.pass(20 * RETRY);
    world.connect("alice", "phone", "l1", "a", "c1");
    world.pass(1);
    world.answer("alice", "a", push, AckOutcome::Acked);
    assert_eq!((world.times(push), world.outcomes(push)), (vec![0], vec![Outcome::Acked]));
    world.nothing_is_left();
}

#[test]
fn a_push_to_a_user_goes_to_all_devices_and_the_first_acknowledgement_settles_it() {
    let mut world = online();
    world.connect("alice", "tablet", "l2", "t", "c2");
    let push = world.message("alice", "m1", AtEnd::Dead);
    assert_eq!(world.sent.iter().filter(|sent| sent.push() == Some(push)).count(), 2);
    world.answer("alice", "a", push, AckOutcome::Gone);
    world.pass(RETRY);
    assert_eq!(world.times(push), [0, 0, RETRY], "one device got it: it counted");
    world.answer("alice", "t", push, AckOutcome::Acked);
    world.answer("alice", "t", push, AckOutcome::Acked);
    assert_eq!(world.outcomes(push), [Outcome::Acked]);
    world.nothing_is_left();
}

#[test]
fn a_late_duplicate_is_not_sent_again() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.answer("alice", "a", push, AckOutcome::Acked);
    world.call("alice", "phone", "l1", "call");
    assert_eq!(world.times(push), [0]);
    assert!(world.facts.contains(&Fact::Duplicate));
    world.nothing_is_left();
}

#[test]
fn a_new_owner_counts_what_the_old_one_was_given_as_sent_once() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(1_000);
    world.take_over(|| false);
    world.pass(5 * RETRY);
    assert_eq!(world.times(push), [0, RETRY, 2 * RETRY]);
    assert_eq!(world.outcomes(push), [Outcome::Dead]);
    world.nothing_is_left();
}

#[test]
fn a_new_owner_goes_on_where_pending_says() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(RETRY + 1_000);
    world.take_over(|| false);
    world.pass(5 * RETRY);
    assert_eq!(world.times(push), [0, RETRY, 2 * RETRY]);
    world.nothing_is_left();
}

#[test]
fn a_client_that_came_back_while_nobody_owned_the_partition_is_sent_to_at_once() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(3_000);
    world.leave("alice", "a");
    let session = |world: &World| world.sessions[&(user("alice"), conn("a"))].0.clone();
    let back = Session { left: None, since: world.now + 500, ..session(&world) };
    world.revision += 1;
    world.sessions.insert((user("alice"), conn("b")), (back, world.revision));
    world.pass(1_000);
    world.take_over(|| false);
    assert_eq!(world.times(push), [0, 4_000]);
}

#[test]
fn a_withdrawal_settles_its_push_even_before_that_comes() {
    let mut world = online();
    let ended = world.withdraw("alice", "phone", "l1", "call");
    let push = world.call("alice", "phone", "l1", "call");
    assert_eq!(world.times(push), Vec::<u64>::new());
    assert!(matches!(&world.sent[0].order, CometOrder::CallEnded(frame) if frame.id == ended && frame.ends == push));
    world.answer("alice", "a", ended, AckOutcome::Acked);
    world.nothing_is_left();
}

#[test]
fn a_call_that_ended_is_told_with_the_same_tries() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(5_000);
    let ended = world.withdraw("alice", "phone", "l1", "call");
    assert_eq!(world.outcomes(push), [Outcome::Withdrawn]);
    world.pass(5 * RETRY);
    assert_eq!((world.times(push).len(), world.times(ended)), (1, vec![0, RETRY, 2 * RETRY]));
    assert_eq!(world.outcomes(ended), [Outcome::Dead]);
    world.nothing_is_left();
}

#[test]
fn a_login_that_never_had_a_session_is_not_told_of_an_end() {
    let mut world = World::new();
    let push = world.call("alice", "phone", "l1", "call");
    world.withdraw("alice", "phone", "l1", "call");
    assert_eq!(world.outcomes(push), [Outcome::Withdrawn]);
    assert!(world.sent.is_empty() && world.facts.contains(&Fact::NothingToWithdraw));
    world.nothing_is_left();
}

#[test]
fn a_withdrawal_is_not_acknowledged_before_its_push_is_purged() {
    let mut world = World::new();
    world.call("alice", "phone", "l1", "call");
    world.prompt = false;
    world.withdraw("alice", "phone", "l1", "call");
    assert_eq!((world.stream.len(), world.pending.len()), (1, 1));
    world.take_over(|| false);
    world.connect("alice", "phone", "l1", "a", "c1");
    while !world.effects.is_empty() {
        world.run_effect(0);
    }
    assert!(world.sent.iter().all(|sent| matches!(sent.order, CometOrder::CallEnded(_))), "{:?}", world.sent);
}

#[test]
fn a_login_that_ended_takes_its_calls_along_without_an_alarm() {
    let mut world = World::new();
    world.connect("alice", "phone", "l1", "a", "c1");
    let (one, message) = (world.call("alice", "phone", "l1", "one"), world.message("alice", "m", AtEnd::Dead));
    world.pass(3_000);
    let two = world.call("alice", "phone", "l1", "two");
    world.login_ended("alice", "l1");
    let late = world.call("alice", "phone", "l1", "late");
    for push in [one, two, late] {
        assert_eq!(world.outcomes(push), [Outcome::Expired]);
    }
    assert_eq!((world.times(late).len(), world.outcomes(message).len()), (0, 0));
    world.answer("alice", "a", message, AckOutcome::Acked);
    assert!(world.dead.is_empty());
    world.nothing_is_left();
}

#[test]
fn a_login_that_its_kind_takes_up_again_is_told() {
    let mut world = online();
    world.connect("alice", "tablet", "l2", "t", "c1");
    world.login_ended("alice", "l1");
    world.login_ended("alice", "l2");
    world.leave("alice", "t");
    world.pass(1);
    // A later owner of the kind knows the phone's login by its session; the tablet's is over.
    let (phone, tablet) = (world.call("alice", "phone", "l1", "call"), world.call("alice", "tablet", "l2", "call"));
    assert_eq!((world.times(phone).len(), world.times(tablet).len()), (1, 0));
    assert_eq!(world.outcomes(tablet), [Outcome::Expired]);
    world.answer("alice", "a", phone, AckOutcome::Acked);
    let ended = world.withdraw("alice", "phone", "l1", "call");
    assert_eq!(world.times(ended).len(), 1);
    world.answer("alice", "a", ended, AckOutcome::Acked);
    world.nothing_is_left();
}

#[test]
fn a_logins_pushes_go_to_the_newest_session_of_its_device() {
    let mut world = online();
    world.pass(10);
    world.connect("alice", "phone", "l2", "b", "c2");
    let push = world.call("alice", "phone", "l1", "call");
    let to: Vec<_> = world.sent.iter().filter(|s| s.push() == Some(push)).map(|s| s.conn.clone()).collect();
    assert_eq!(to, [conn("b")]);
}

#[test]
fn an_offline_users_inbox_waits_for_his_next_login() {
    let mut world = World::new();
    let push = world.message("alice", "m", AtEnd::Inbox);
    assert_eq!(world.pending.values().next().map(|p| p.state), Some(PendingState::Inbox));
    assert_eq!(world.desk.load().in_hand, 0, "its content is in pending alone");
    world.pass(RETRY);
    world.connect("alice", "phone", "l1", "a", "c1");
    assert_eq!(world.times(push).len(), 1);
    world.pass(3 * RETRY);
    assert_eq!(world.times(push), [0, RETRY, 2 * RETRY]);
    assert_eq!(world.pending.values().next().map(|p| (p.state, p.tries)), Some((PendingState::Inbox, 0)));
    world.connect("alice", "phone", "l1", "b", "c1");
    assert_eq!(world.times(push).len(), 3, "the same login had its tries");
    world.take_over(|| false);
    assert_eq!(world.times(push).len(), 3, "and a new owner knows it");
    world.pass(1);
    world.connect("alice", "phone", "l2", "d", "c1");
    assert_eq!(world.times(push).len(), 4, "the next login has three again");
    world.answer("alice", "d", push, AckOutcome::Acked);
    assert_eq!(world.outcomes(push), [Outcome::Acked]);
    world.nothing_is_left();
}

#[test]
fn a_full_inbox_loses_its_oldest_to_the_dead_letters() {
    let mut world = World::new();
    let pushes: Vec<_> = ["1", "2", "3", "4"].iter().map(|m| world.message("alice", m, AtEnd::Inbox)).collect();
    assert_eq!(world.dead, [(pushes[0], DeadReason::InboxFull)]);
    assert_eq!(world.pending.len(), 3);
    world.pass(LIFETIME);
    assert_eq!(world.outcomes(pushes[3]), [Outcome::Expired]);
    world.nothing_is_left();
}

#[test]
fn a_push_worth_nothing_later_is_dropped_at_once_without_a_device() {
    let mut world = World::new();
    let push = world.message("alice", "m", AtEnd::Drop);
    assert_eq!(world.outcomes(push), [Outcome::Dropped]);
    world.nothing_is_left();
}

#[test]
fn a_user_who_is_gone_for_good_gets_it_from_the_inbox() {
    let mut world = online();
    let push = world.message("alice", "m", AtEnd::Inbox);
    world.leave("alice", "a");
    world.pass(LEFT + RETRY);
    assert_eq!(world.times(push), [0]);
    assert!(world.sessions.is_empty());
    assert_eq!(world.pending.values().next().map(|p| p.state), Some(PendingState::Inbox));
}

#[test]
fn an_outage_uses_up_no_tries() {
    let mut world = online();
    let push = world.call("alice", "phone", "l1", "call");
    world.pass(4_000);
    world.apply(Event::Connected(false));
    world.pass(60_000);
    assert_eq!(world.times(push), [0]);
    world.apply(Event::Connected(true));
    world.pass(5 * RETRY);
    assert_eq!(world.times(push), [0, 70_000, 80_000], "the time of the outage does not count");
}

#[test]
fn an_older_owners_push_is_told_and_delivered_all_the_same() {
    let mut world = online();
    for (epoch, call) in [(2, "new"), (1, "old")] {
        let mut order = None;
        let id = world.call("bob", "phone", "lx", call);
        if let Some(pending) = world.pending.values().find(|p| matches!(&p.order, PushOrder::Deliver(d) if d.id == id))
        {
            order = Some(pending.order.clone());
        }
        let Some(PushOrder::Deliver(mut delivery)) = order else { panic!("it waits in pending") };
        delivery.user = user("alice");
        delivery.id = id.withdrawal();
        delivery.source = Some(Source { service: Token::new("group-push").unwrap(), epoch });
        world.store(PushOrder::Deliver(delivery));
        assert_eq!(world.times(id.withdrawal()).len(), 1);
    }
    assert_eq!(world.facts.iter().filter(|fact| matches!(fact, Fact::OldEpoch { .. })).count(), 1);
}
