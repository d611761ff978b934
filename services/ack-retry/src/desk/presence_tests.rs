use pushmesh_protocol::{
    frame::KickReason,
    message::{CometOrder, LoginAnswer, OfflineCause, ReportedEvent},
};

use super::{tests::online, world::*, *};

#[test]
fn a_second_connection_of_a_device_closes_the_first() {
    let mut world = online();
    world.pass(10);
    world.connect("alice", "phone", "l2", "b", "c2");
    assert_eq!((world.sent[0].conn.clone(), world.sent[0].comet.to_string()), (conn("a"), "c1".to_owned()));
    assert!(matches!(&world.sent[0].order, CometOrder::Kick(kick) if kick.reason == KickReason::Replaced));
    let left: Vec<_> = world.sessions.keys().map(|(_, conn)| conn.clone()).collect();
    assert_eq!(left, [conn("b")]);
    world.connect("alice", "tablet", "l3", "t", "c2");
    assert_eq!(world.sent.len(), 1, "another device is no second connection");
    assert!(world.reports.is_empty());
}

#[test]
fn a_session_that_left_is_reported_once_and_purged() {
    let mut world = online();
    world.leave("alice", "a");
    world.pass(LEFT - 1);
    assert!(world.reports.is_empty());
    world.pass(1);
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.reports[0].event, ReportedEvent::Offline(OfflineCause::Timeout));
    assert_eq!((world.reports[0].login_id.clone(), world.reports[0].at), (Some(login("l1")), world.now));
    assert!(world.sessions.is_empty());
}

#[test]
fn a_silent_comets_sessions_end_unless_it_is_heard_again() {
    let mut world = online();
    world.connect("bob", "phone", "l9", "z", "c2");
    world.set_comets(&[]);
    world.pass(LEFT - 10);
    world.set_comets(&[("c2", 1)]);
    world.pass(LEFT);
    assert_eq!(world.reports.iter().map(|r| r.user.clone()).collect::<Vec<_>>(), [user("alice")]);
    assert_eq!(world.sessions.len(), 1);
}

#[test]
fn a_login_that_resumed_elsewhere_is_not_reported() {
    let mut world = online();
    world.leave("alice", "a");
    world.pass(1_000);
    world.connect("alice", "phone", "l1", "b", "c2");
    world.pass(2 * LEFT);
    assert!(world.reports.is_empty());
    assert_eq!(world.sessions.keys().map(|(_, conn)| conn.clone()).collect::<Vec<_>>(), [conn("b")]);
}

#[test]
fn a_report_that_is_not_answered_is_made_again_and_purges_nothing() {
    let mut world = online();
    world.leave("alice", "a");
    world.prompt = false;
    world.pass(LEFT);
    let Some(Effect::Report { session, report }) = world.effects.pop() else { panic!("a report is on its way") };
    let answer = LoginAnswer::Unknown { reason: "outage".into(), retry_after_ms: 500 };
    world.apply(Event::Done(Done::Reported { session, answer }));
    assert!(world.effects.is_empty());
    world.pass(1_000);
    let Some(Effect::Report { report: again, .. }) = world.effects.pop() else { panic!("it is made again") };
    assert_eq!((again.at, again.login_id), (report.at, report.login_id), "the same report");
}
