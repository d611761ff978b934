//! Which login a session is in, and where that stands.

use pushmesh_protocol::{
    Instance,
    frame::KickReason,
    message::{AckOutcome, AtEnd, CometOrder, Session, SessionLogin},
};

use super::{tests::online, world::*, *};

#[test]
fn a_login_that_a_record_ended_stands_beside_its_session_before_its_message_goes() {
    let mut world = online();
    world.prompt = false;
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    assert_eq!((world.stream.len(), world.effects.len()), (1, 1));
    // The other kinds say the same: one write, and their messages wait for it too.
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    assert_eq!((world.stream.len(), world.effects.len()), (2, 1));
    world.run_effect(0);
    assert_eq!((world.standing(), world.stream.len()), (vec!["a: l1→l2/5".to_owned()], 0));
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    assert_eq!((world.stream.len(), world.effects.len()), (0, 0), "it stands already");
    world.nothing_is_left();
}

#[test]
fn a_chain_of_logins_is_one_key_with_the_last() {
    let mut world = online();
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    world.login_ended_by("alice", "l2", Some(by(9, "l3")));
    assert_eq!(world.standing(), ["a: l1→l3/9"]);
    // Late from another kind, and an offline of what ended long ago.
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    world.login_ended_by("alice", "l1", Some(by(11, "")));
    assert_eq!(world.standing(), ["a: l1→l3/9"]);
    world.login_ended_by("alice", "l3", Some(by(12, "")));
    assert_eq!(world.standing(), ["a: l1→-/12"]);
}

#[test]
fn what_sessions_tell_by_themselves_is_not_written() {
    let mut world = online();
    world.login_ended("alice", "l1");
    world.login_ended_by("bob", "l7", Some(by(5, "l8")));
    world.login_ended_by("alice", "another", Some(by(6, "l9")));
    assert!(world.standing().is_empty());
    world.nothing_is_left();
}

#[test]
fn an_end_that_is_heard_of_before_its_session_is_written_when_it_comes() {
    let mut world = World::new();
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    world.connect("alice", "phone", "l1", "a", "c1");
    assert_eq!(world.standing(), ["a: l1→l2/5"]);
}

#[test]
fn it_goes_over_to_the_connection_that_goes_on_with_the_login_and_goes_with_the_last() {
    for taken_over in [false, true] {
        let mut world = online();
        world.login_ended_by("alice", "l1", Some(by(5, "l2")));
        world.prompt = false;
        world.pass(10);
        world.connect("alice", "phone", "l1", "b", "c2");
        // The comet may purge the old one's key itself.
        world.purge_session((user("alice"), conn("a")));
        assert!(!world.effects.iter().any(|effect| matches!(effect, Effect::PurgeLogin { .. })), "its heir needs it");
        if taken_over {
            world.take_over(|| false);
        }
        world.prompt = true;
        world.apply(Event::Tick);
        assert_eq!(world.standing(), ["b: l1→l2/5"]);
        world.purge_session((user("alice"), conn("b")));
        assert!(world.standing().is_empty());
        world.nothing_is_left();
    }
}

#[test]
fn an_orphan_is_purged_at_take_over_and_a_write_that_came_too_late_too() {
    let mut world = online();
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    world.prompt = false;
    world.purge_session((user("alice"), conn("a")));
    world.take_over(|| false);
    world.prompt = true;
    world.apply(Event::Tick);
    assert!(world.standing().is_empty());

    world.connect("alice", "phone", "l4", "d", "c1");
    world.prompt = false;
    world.login_ended_by("alice", "l4", Some(by(15, "l5")));
    world.purge_session((user("alice"), conn("d")));
    world.prompt = true;
    world.apply(Event::Tick);
    assert!(world.standing().is_empty());
    world.nothing_is_left();
}

#[test]
fn another_owners_word_is_not_overwritten_by_an_older_one() {
    let mut world = online();
    world.prompt = false;
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    // An earlier owner's write came to the bucket meanwhile.
    world.revision += 1;
    let (key, revision) = ((user("alice"), conn("a")), world.revision);
    let says = |sequence, current| SessionLogin {
        began: login("l1"),
        device: device("phone"),
        since: world.now,
        by: by(sequence, current),
    };
    let (newer, older) = (says(9, "l3"), says(2, "l0"));
    world.logins.insert(key.clone(), (newer.clone(), revision));
    world.run_effect(0);
    assert_eq!((world.effects.len(), world.stream.len()), (0, 1), "refused: the watch will tell");
    world.apply(Event::LoginStands { user: key.0.clone(), conn: key.1.clone(), login: newer, revision });
    assert_eq!((world.effects.len(), world.stream.len()), (0, 0));
    assert_eq!(world.standing(), ["a: l1→l3/9"]);
    world.login_ended_by("alice", "l3", Some(by(12, "")));
    world.revision += 1;
    world.logins.insert(key.clone(), (older.clone(), world.revision));
    world.run_effect(0);
    let revision = world.revision;
    world.apply(Event::LoginStands { user: key.0, conn: key.1, login: older, revision });
    world.run_effect(0);
    assert_eq!(world.standing(), ["a: l1→-/12"]);
    world.nothing_is_left();
}

#[test]
fn the_login_that_times_out_is_the_one_the_session_is_in() {
    let mut world = online();
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    world.leave("alice", "a");
    world.pass(LEFT);
    assert_eq!(world.reports.iter().map(|report| report.login_id.clone()).collect::<Vec<_>>(), [Some(login("l2"))]);
    assert!(world.sessions.is_empty() && world.logins.is_empty());
    // Its comet was only unheard, and puts it again.
    world.connect("alice", "phone", "l1", "a", "c1");
    assert_eq!(world.standing(), ["a: l1→l2/5"]);
}

#[test]
fn a_login_that_goes_on_with_a_session_that_began_with_it_does_not_time_out_with_an_older_one() {
    let mut world = online();
    world.login_ended_by("alice", "l1", Some(by(5, "l2")));
    world.leave("alice", "a");
    world.pass(LEFT / 2);
    // The login system's login, and a token that names it.
    world.connect("alice", "phone", "l2", "b", "c2");
    world.leave("alice", "b");
    world.pass(LEFT / 2);
    assert!(world.reports.is_empty(), "{:?}", world.reports);
    assert_eq!(world.sessions.keys().map(|(_, conn)| conn.clone()).collect::<Vec<_>>(), [conn("b")]);
    world.pass(LEFT / 2);
    assert_eq!(world.reports.iter().map(|report| report.login_id.clone()).collect::<Vec<_>>(), [Some(login("l2"))]);
    assert!(world.sessions.is_empty() && world.logins.is_empty());
}

#[test]
fn what_waits_in_the_inbox_has_its_tries_in_the_login_that_a_record_began() {
    for taken_over in [false, true] {
        let mut world = online();
        let push = world.message("alice", "m", AtEnd::Inbox);
        world.pass(3 * RETRY);
        assert_eq!((world.times(push).len(), world.desk.load().inbox), (3, 1), "three, and then the inbox");
        world.login_ended_by("alice", "l1", Some(by(5, "l2")));
        world.pass(3 * RETRY);
        assert_eq!((world.times(push).len(), world.desk.load().inbox), (6, 1), "three more in the next login");
        if taken_over {
            world.take_over(|| true);
        }
        // Another kind says the same, and the session is put again.
        world.login_ended_by("alice", "l1", Some(by(5, "l2")));
        world.set_comets(&[]);
        world.set_comets(&[("c1", 1)]);
        world.pass(3 * RETRY);
        assert_eq!(world.times(push).len(), 6, "never a fourth within a login");
        world.login_ended_by("alice", "l2", Some(by(9, "l3")));
        world.pass(1);
        world.answer("alice", "a", push, AckOutcome::Acked);
        assert_eq!((world.times(push).len(), world.outcomes(push)), (7, vec![Outcome::Acked]));
        world.nothing_is_left();
    }
}

#[test]
fn a_purge_never_takes_a_session_that_was_put_again() {
    let mut world = online();
    world.set_comets(&[]);
    world.prompt = false;
    world.pass(LEFT);
    world.run_effect(0);
    assert!(matches!(world.effects[..], [Effect::PurgeSession { .. }]), "reported, and about to be purged");
    world.set_comets(&[("c1", 2)]);
    world.connect("alice", "phone", "l1", "a", "c1");
    world.run_effect(0);
    assert_eq!((world.sessions.len(), world.effects.len()), (1, 0));
    world.leave("alice", "a");
    world.prompt = true;
    world.pass(LEFT);
    assert_eq!((world.sessions.len(), world.reports.len()), (0, 2), "it ends like any other");
}

#[test]
fn a_session_that_is_put_over_the_marker_of_its_purge_ends_anew() {
    for put_before_its_purge_is_known in [true, false] {
        let mut world = online();
        world.leave("alice", "a");
        world.prompt = false;
        world.pass(LEFT);
        world.run_effect(0);
        let Some(Effect::PurgeSession { session, revision, .. }) = world.effects.pop() else { panic!("a purge") };
        // It takes place. Its comet, unheard until now, puts the key again: the watch saw the last of the two alone.
        let (session_was, _) = world.sessions.remove(&(user("alice"), conn("a"))).unwrap();
        world.revision += 1;
        let purged = Event::Done(Done::SessionPurged { session, revision, purged: true });
        let again = Session { left: None, ..session_was };
        if put_before_its_purge_is_known {
            world.put_session(user("alice"), conn("a"), again);
            world.apply(purged);
        } else {
            world.apply(purged);
            world.put_session(user("alice"), conn("a"), again);
        }
        let push = world.call("alice", "phone", "l1", "call");
        assert_eq!(world.times(push), [0], "it is reached");
        world.answer("alice", "a", push, AckOutcome::Acked);
        world.prompt = true;
        world.leave("alice", "a");
        world.pass(LEFT);
        assert_eq!((world.sessions.len(), world.reports.len()), (0, 2), "it ends like any other");
        world.nothing_is_left();
    }
}

#[test]
fn a_session_seen_first_in_a_restarted_watch_has_what_became_of_its_login_beside_it() {
    let mut world = online();
    world.login_ended_by("bob", "l7", Some(by(5, "l8")));
    world.apply(Event::SessionsRestarted);
    world.apply(Event::Session {
        user: user("alice"),
        conn: conn("a"),
        session: world.sessions[&(user("alice"), conn("a"))].0.clone(),
        revision: world.revision,
    });
    world.connect("bob", "phone", "l7", "b", "c1");
    assert!(world.standing().is_empty(), "the snapshot may hold it still");
    world.apply(Event::SessionsCurrent);
    assert_eq!(world.standing(), ["b: l7→l8/5"]);
    world.nothing_is_left();
}

#[test]
fn a_kicked_session_that_says_it_left_goes_all_the_same() {
    let mut world = online();
    world.prompt = false;
    world.pass(10);
    world.connect("alice", "phone", "l2", "b", "c2");
    world.leave("alice", "a");
    world.run_effect(0);
    assert_eq!(world.effects.len(), 1, "purged as it stands now");
    world.run_effect(0);
    assert_eq!(world.sessions.keys().map(|(_, conn)| conn.clone()).collect::<Vec<_>>(), [conn("b")]);
    // A comet that did not hear it puts it again, and hears it once more.
    let session = world.sessions[&(user("alice"), conn("b"))].0.clone();
    let older =
        Session { since: session.since - 10, comet: Instance::new("c1").unwrap(), login_id: login("l1"), ..session };
    world.put_session(user("alice"), conn("a"), older);
    world.prompt = true;
    world.apply(Event::Tick);
    let kicked = |sent: &&Sent| matches!(&sent.order, CometOrder::Kick(kick) if kick.reason == KickReason::Replaced);
    assert_eq!(world.sent.iter().filter(kicked).count(), 2);
    assert_eq!(world.sessions.len(), 1);
}
