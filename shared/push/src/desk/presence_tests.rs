//! When logins begin and end.

use super::*;

fn heard() -> Comets {
    Comets::new(std::iter::once((Instance::new("comet-1").unwrap(), 1)))
}

fn unheard() -> Comets {
    Comets::default()
}

fn online(login: &str, at: Millis, sequence: u64) -> Online {
    let (login, device) = (LoginId::new(login).unwrap(), DeviceId::new("phone").unwrap());
    Online { login, device, at, sequence }
}

fn offline(login: Option<&str>, cause: OfflineCause, at: Millis, sequence: u64) -> Offline {
    let login = login.map(|login| LoginId::new(login).unwrap());
    Offline { login, device: None, cause, at, sequence }
}

fn session(login: &str, since: Millis, left: Option<Millis>) -> Session {
    Session {
        login_id: LoginId::new(login).unwrap(),
        device: DeviceId::new("phone").unwrap(),
        comet: Instance::new("comet-1").unwrap(),
        comet_epoch: 1,
        since,
        left,
    }
}

fn conn(name: &str) -> ConnId {
    ConnId::new(name).unwrap()
}

fn ids(presence: &Presence) -> Vec<&str> {
    presence.logins().iter().map(|login| login.id.as_str()).collect()
}

const BEGINS: OnlineVerdict = OnlineVerdict::Begins { replaced: None };

#[test]
fn online_again_ends_the_older_login_of_the_device_alone() {
    let mut presence = Presence::default();
    assert_eq!(presence.online(online("l1", 10, 1), 0, 100), BEGINS);
    let tablet = Online { device: DeviceId::new("tablet").unwrap(), ..online("t1", 11, 2) };
    assert_eq!(presence.online(tablet, 0, 100), BEGINS);
    let replaced = Some(LoginId::new("l1").unwrap());
    assert_eq!(presence.online(online("l2", 12, 3), 0, 100), OnlineVerdict::Begins { replaced });
    assert_eq!(ids(&presence), ["t1", "l2"]);
    assert_eq!(presence.online(online("l1", 10, 1), 0, 100), OnlineVerdict::Overtaken, "redelivered");
    assert_eq!(presence.online(online("l2", 12, 3), 0, 100), BEGINS, "redelivered: the same pushes again");
}

#[test]
fn an_older_offline_never_ends_a_newer_login() {
    let mut presence = Presence::default();
    presence.online(online("l1", 10, 1), 0, 100);
    presence.online(online("l2", 20, 2), 0, 100);
    assert_eq!(presence.offline(offline(Some("l1"), OfflineCause::Reported, 30, 3), &heard(), 0).len(), 1);
    assert_eq!(presence.offline(offline(None, OfflineCause::Reported, 19, 4), &heard(), 0), []);
    assert_eq!(presence.offline(offline(None, OfflineCause::Reported, 40, 1), &heard(), 0), [], "an earlier record");
    assert_eq!(ids(&presence), ["l2"]);
    assert_eq!(presence.offline(offline(None, OfflineCause::Reported, 21, 5), &heard(), 0).len(), 1);
    assert!(presence.logins().is_empty());
}

#[test]
fn a_record_that_its_own_offline_overtook_begins_nothing() {
    let mut presence = Presence::default();
    presence.offline(offline(Some("l1"), OfflineCause::Logout, 20, 5), &heard(), 100);
    assert_eq!(presence.online(online("l1", 10, 4), 0, 100), OnlineVerdict::Overtaken);
    presence.offline(offline(None, OfflineCause::Reported, 30, 7), &heard(), 100);
    assert_eq!(presence.online(online("l2", 25, 6), 0, 100), OnlineVerdict::Overtaken);
    assert_eq!(presence.online(online("l3", 35, 6), 0, 100), BEGINS, "begun after it");
    presence.forget_ends(101);
    assert_eq!(presence.ends.len(), 0);
}

#[test]
fn an_old_record_of_an_absent_device_is_stale() {
    let mut presence = Presence::default();
    assert_eq!(presence.online(online("l1", 10, 1), 11, 100), OnlineVerdict::Stale);
    presence.session(conn("c"), &session("l1", 10, None), &heard(), false);
    assert_eq!(presence.online(online("l1", 10, 1), 11, 100), BEGINS);
}

#[test]
fn a_session_is_a_login_that_takes_its_sequence_from_its_record() {
    let mut presence = Presence::default();
    let begins = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.session(conn("c1"), &session("l1", 10, None), &heard(), false), begins);
    assert_eq!(presence.online(online("l0", 9, 4), 0, 100), OnlineVerdict::Overtaken, "by the clock");
    assert_eq!(presence.online(online("l1", 10, 5), 0, 100), BEGINS);
    assert_eq!(presence.online(online("l0", 99, 4), 0, 100), OnlineVerdict::Overtaken, "by its sequence");
    assert_eq!(
        presence.session(conn("c2"), &session("l0", 5, None), &heard(), false),
        SessionVerdict::Known,
        "an old one"
    );
    assert_eq!(ids(&presence), ["l1"]);
}

#[test]
fn a_reported_end_stands_against_the_session() {
    let mut presence = Presence::default();
    presence.session(conn("c1"), &session("l1", 10, None), &heard(), false);
    presence.offline(offline(Some("l1"), OfflineCause::Reported, 20, 1), &heard(), 0);
    assert_eq!(presence.session(conn("c1"), &session("l1", 10, Some(30)), &heard(), false), SessionVerdict::Known);
    assert!(presence.logins().is_empty());
}

#[test]
fn a_timeout_ends_nothing_that_has_a_live_session() {
    let timeout = || offline(Some("l1"), OfflineCause::Timeout, 70, 2);
    // Resumed before the timeout came.
    let mut presence = Presence::default();
    presence.session(conn("old"), &session("l1", 10, Some(11)), &heard(), false);
    presence.session(conn("new"), &session("l1", 10, None), &heard(), false);
    assert_eq!(presence.offline(timeout(), &heard(), 0), []);
    assert_eq!(presence.session_gone(&conn("old"), &heard()), None);
    assert_eq!(ids(&presence), ["l1"]);
    // Resumed after it: the login is undone.
    let mut presence = Presence::default();
    presence.session(conn("old"), &session("l1", 10, Some(11)), &heard(), false);
    assert_eq!(presence.offline(timeout(), &heard(), 0).len(), 1);
    let begins = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.session(conn("new"), &session("l1", 10, None), &heard(), false), begins);
}

#[test]
fn a_timeout_of_a_silent_comet_ends_the_login_at_once_unless_the_comet_is_heard_again() {
    let timeout = || offline(Some("l1"), OfflineCause::Timeout, 70, 2);
    let mut presence = Presence::default();
    presence.online(online("l1", 10, 1), 0, 100);
    presence.session(conn("c"), &session("l1", 10, None), &heard(), false);
    assert_eq!(presence.offline(timeout(), &unheard(), 0), [LoginId::new("l1").unwrap()]);
    // The key is read again before it is purged.
    assert_eq!(presence.session(conn("c"), &session("l1", 10, None), &unheard(), false), SessionVerdict::Known);
    assert!(presence.logins().is_empty());
    assert_eq!(presence.heard_again(&unheard()), []);
    let begins = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.heard_again(&heard()), [(LoginId::new("l1").unwrap(), begins)]);
    assert_eq!(ids(&presence), ["l1"]);
}

#[test]
fn a_login_known_by_its_session_alone_ends_with_it() {
    // The owner before ended it, and died; or its login was refused.
    let mut presence = Presence::default();
    presence.session(conn("c1"), &session("l1", 10, None), &unheard(), true);
    presence.session(conn("c2"), &session("l1", 11, Some(12)), &unheard(), true);
    assert_eq!(presence.session_gone(&conn("c1"), &unheard()), None, "another one of it stands");
    assert_eq!(presence.session_gone(&conn("c2"), &unheard()), LoginId::new("l1").ok());
    assert!(presence.is_empty());
    // A record told of it too: it ends by a record.
    presence.session(conn("c1"), &session("l1", 10, None), &heard(), false);
    presence.online(online("l1", 10, 1), 0, 100);
    assert_eq!(presence.session_gone(&conn("c1"), &heard()), None);
    assert_eq!(ids(&presence), ["l1"]);
}

#[test]
fn a_timeout_that_a_live_session_outlived_ends_the_login_when_that_goes() {
    let mut presence = Presence::default();
    presence.online(online("l1", 10, 1), 0, 100);
    presence.session(conn("c"), &session("l1", 10, None), &heard(), false);
    assert_eq!(presence.offline(offline(Some("l1"), OfflineCause::Timeout, 70, 2), &heard(), 0), []);
    assert_eq!(presence.session_gone(&conn("c"), &heard()), LoginId::new("l1").ok());
    assert!(presence.is_empty());
}

#[test]
fn a_session_brings_no_ended_login_back() {
    let heard = heard();
    let mut presence = Presence::default();
    presence.online(online("l1", 10, 1), 0, 100);
    presence.offline(offline(None, OfflineCause::Reported, 20, 2), &heard, 100);
    let late = session("l1", 30, None);
    assert_eq!(presence.session(conn("c1"), &late, &heard, false), SessionVerdict::Known, "it connected too late");
    let left = session("l1", 30, Some(40));
    assert_eq!(presence.session(conn("c1"), &left, &heard, false), SessionVerdict::Known, "and left");
    presence.online(online("l2", 50, 3), 0, 100);
    presence.online(online("l3", 51, 4), 0, 100);
    let old = session("l2", 60, None);
    assert_eq!(presence.session(conn("c2"), &old, &heard, false), SessionVerdict::Known, "the device is in l3");
    assert_eq!(ids(&presence), ["l3"]);
}

#[test]
fn an_end_of_all_ends_who_sat_down_before_it() {
    let heard = heard();
    let mut presence = Presence::default();
    presence.offline(offline(None, OfflineCause::Reported, 20, 2), &heard, 100);
    assert_eq!(presence.session(conn("c1"), &session("l1", 20, None), &heard, false), SessionVerdict::Known);
    let after = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.session(conn("c2"), &session("l2", 21, None), &heard, false), after);
}
