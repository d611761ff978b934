//! When logins begin and end.

use pushmesh_protocol::{
    Instance,
    message::{Session, SessionLogin, Successor},
};

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

const BEGINS: OnlineVerdict = OnlineVerdict::Begins { replaced: Vec::new() };

#[test]
fn online_again_ends_the_older_login_of_the_device_alone() {
    let mut presence = Presence::default();
    assert_eq!(presence.online(online("l1", 10, 1), 0, 100), BEGINS);
    let tablet = Online { device: DeviceId::new("tablet").unwrap(), ..online("t1", 11, 2) };
    assert_eq!(presence.online(tablet, 0, 100), BEGINS);
    let replaced = vec![LoginId::new("l1").unwrap()];
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
    presence.session(conn("c"), &session("l1", 10, None), &heard(), false, 0);
    assert_eq!(presence.online(online("l1", 10, 1), 11, 100), BEGINS);
}

#[test]
fn a_session_is_a_login_that_takes_its_sequence_from_its_record() {
    let mut presence = Presence::default();
    let begins = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.session(conn("c1"), &session("l1", 10, None), &heard(), false, 0), begins);
    assert_eq!(presence.online(online("l0", 9, 4), 0, 100), OnlineVerdict::Overtaken, "by the clock");
    assert_eq!(presence.online(online("l1", 10, 5), 0, 100), BEGINS);
    assert_eq!(presence.online(online("l0", 99, 4), 0, 100), OnlineVerdict::Overtaken, "by its sequence");
    assert_eq!(
        presence.session(conn("c2"), &session("l0", 5, None), &heard(), false, 0),
        SessionVerdict::Known,
        "an old one"
    );
    assert_eq!(ids(&presence), ["l1"]);
}

#[test]
fn an_offline_said_between_a_login_and_its_session_ends_it() {
    let mut presence = Presence::default();
    presence.session(conn("c1"), &session("l1", 30, None), &heard(), false, 0);
    assert_eq!(presence.online(online("l1", 10, 5), 0, 100), BEGINS);
    let ended = presence.offline(offline(None, OfflineCause::Reported, 20, 6), &heard(), 0);
    assert_eq!(ended, [LoginId::new("l1").unwrap()]);
    assert_eq!(presence.session(conn("c1"), &session("l1", 30, Some(40)), &heard(), false, 0), SessionVerdict::Known);
}

#[test]
fn a_reported_end_stands_against_the_session() {
    let mut presence = Presence::default();
    presence.session(conn("c1"), &session("l1", 10, None), &heard(), false, 0);
    presence.offline(offline(Some("l1"), OfflineCause::Reported, 20, 1), &heard(), 0);
    assert_eq!(presence.session(conn("c1"), &session("l1", 10, Some(30)), &heard(), false, 0), SessionVerdict::Known);
    assert!(presence.logins().is_empty());
}

#[test]
fn a_timeout_ends_nothing_that_has_a_live_session() {
    let timeout = || offline(Some("l1"), OfflineCause::Timeout, 70, 2);
    // Resumed before the timeout came.
    let mut presence = Presence::default();
    presence.session(conn("old"), &session("l1", 10, Some(11)), &heard(), false, 0);
    presence.session(conn("new"), &session("l1", 10, None), &heard(), false, 0);
    assert_eq!(presence.offline(timeout(), &heard(), 0), []);
    assert_eq!(presence.session_gone(&conn("old"), &heard()), None);
    assert_eq!(ids(&presence), ["l1"]);
    // Resumed after it: the login is undone.
    let mut presence = Presence::default();
    presence.session(conn("old"), &session("l1", 10, Some(11)), &heard(), false, 0);
    assert_eq!(presence.offline(timeout(), &heard(), 0).len(), 1);
    let begins = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.session(conn("new"), &session("l1", 10, None), &heard(), false, 0), begins);
}

#[test]
fn a_timeout_of_a_silent_comet_ends_the_login_at_once_unless_the_comet_is_heard_again() {
    let timeout = || offline(Some("l1"), OfflineCause::Timeout, 70, 2);
    let mut presence = Presence::default();
    presence.online(online("l1", 10, 1), 0, 100);
    presence.session(conn("c"), &session("l1", 10, None), &heard(), false, 0);
    assert_eq!(presence.offline(timeout(), &unheard(), 0), [LoginId::new("l1").unwrap()]);
    // The key is read again before it is purged.
    assert_eq!(presence.session(conn("c"), &session("l1", 10, None), &unheard(), false, 0), SessionVerdict::Known);
    assert!(presence.logins().is_empty());
    assert_eq!(presence.heard_again(&unheard(), 0), []);
    let begins = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.heard_again(&heard(), 0), [(LoginId::new("l1").unwrap(), begins)]);
    assert_eq!(ids(&presence), ["l1"]);
}

#[test]
fn a_login_known_by_its_session_alone_ends_with_it() {
    // The owner before ended it, and died; or its login was refused.
    let mut presence = Presence::default();
    presence.session(conn("c1"), &session("l1", 10, None), &unheard(), true, 0);
    presence.session(conn("c2"), &session("l1", 11, Some(12)), &unheard(), true, 0);
    assert_eq!(presence.session_gone(&conn("c1"), &unheard()), None, "another one of it stands");
    assert_eq!(presence.session_gone(&conn("c2"), &unheard()), LoginId::new("l1").ok());
    assert!(presence.is_empty());
    // A record told of it too: it ends by a record.
    presence.session(conn("c1"), &session("l1", 10, None), &heard(), false, 0);
    presence.online(online("l1", 10, 1), 0, 100);
    assert_eq!(presence.session_gone(&conn("c1"), &heard()), None);
    assert_eq!(ids(&presence), ["l1"]);
}

#[test]
fn a_timeout_that_a_live_session_outlived_ends_the_login_when_that_goes() {
    let mut presence = Presence::default();
    presence.online(online("l1", 10, 1), 0, 100);
    presence.session(conn("c"), &session("l1", 10, None), &heard(), false, 0);
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
    assert_eq!(presence.session(conn("c1"), &late, &heard, false, 0), SessionVerdict::Known, "it connected too late");
    let left = session("l1", 30, Some(40));
    assert_eq!(presence.session(conn("c1"), &left, &heard, false, 0), SessionVerdict::Known, "and left");
    presence.online(online("l2", 50, 3), 0, 100);
    presence.online(online("l3", 51, 4), 0, 100);
    let old = session("l2", 60, None);
    assert_eq!(presence.session(conn("c2"), &old, &heard, false, 0), SessionVerdict::Known, "the device is in l3");
    assert_eq!(ids(&presence), ["l3"]);
}

#[test]
fn an_end_of_all_ends_who_sat_down_before_it() {
    let heard = heard();
    let mut presence = Presence::default();
    presence.offline(offline(None, OfflineCause::Reported, 20, 2), &heard, 100);
    assert_eq!(presence.session(conn("c1"), &session("l1", 20, None), &heard, false, 0), SessionVerdict::Known);
    let after = SessionVerdict::Begins { replaced: None };
    assert_eq!(presence.session(conn("c2"), &session("l2", 21, None), &heard, false, 0), after);
}

/// A session that began with `began` is in `current` now, because of this record; no name: in none.
fn stands(began: &str, since: Millis, sequence: u64, current: &str) -> SessionLogin {
    let (began, device) = (LoginId::new(began).unwrap(), DeviceId::new("phone").unwrap());
    let successor = LoginId::new(current).ok().map(|login_id| Successor { login_id, at: 1_000 });
    SessionLogin { began, device, since, by: EndedBy { sequence, successor } }
}

/// What a bucket says, in every order of its keys: what a new owner knows then.
fn loaded(keys: &[(&str, Result<Session, SessionLogin>)]) -> Vec<Vec<String>> {
    let mut known: Vec<Vec<String>> = Vec::new();
    let mut orders = vec![(Vec::new(), (0..keys.len()).collect::<Vec<_>>())];
    while let Some((order, rest)) = orders.pop() {
        for next in &rest {
            let order = [&order[..], &[*next]].concat();
            orders.push((order, rest.iter().copied().filter(|other| other != next).collect()));
        }
        if rest.is_empty() {
            let mut presence = Presence::default();
            for key in order {
                let (name, key) = &keys[key];
                match key {
                    Ok(session) => drop(presence.session(conn(name), session, &heard(), true, 0)),
                    Err(login) => drop(presence.stands(conn(name), login.clone(), true)),
                }
            }
            let ids: Vec<_> = ids(&presence).into_iter().map(str::to_owned).collect();
            if !known.contains(&ids) {
                known.push(ids);
            }
        }
    }
    known
}

#[test]
fn whatever_is_read_first_a_new_owner_knows_which_login_a_session_is_in() {
    let again = |began: &str, since| stands(began, since, 5, "l2");
    let one = [("a", Ok(session("l1", 10, None))), ("a", Err(again("l1", 10)))];
    assert_eq!(loaded(&one), [["l2"]]);
    let ended = [("a", Ok(session("l1", 10, None))), ("a", Err(stands("l1", 10, 5, "")))];
    assert_eq!(loaded(&ended), [[""; 0]]);
    let resumed =
        [("a", Err(again("l1", 10))), ("b", Ok(session("l1", 2_000, None))), ("b", Err(stands("l1", 2_000, 9, "l3")))];
    assert_eq!(loaded(&resumed), [["l3"]], "the newest word of a login counts");
    let heir =
        [("a", Ok(session("l1", 10, Some(11)))), ("a", Err(again("l1", 10))), ("b", Ok(session("l1", 20, None)))];
    assert_eq!(loaded(&heir), [["l2"]], "who goes on with it needs no word of his own yet");
    // A second connection, whatever the clock of the login system says.
    let second = [("a", Ok(session("l1", 10, None))), ("a", Err(again("l1", 10))), ("b", Ok(session("l3", 20, None)))];
    assert_eq!(loaded(&second), [["l3"]]);
    let first = [("a", Ok(session("l1", 10, None))), ("a", Err(again("l1", 10))), ("b", Ok(session("l0", 5, None)))];
    assert_eq!(loaded(&first), [["l2"]]);
    let came_back = [("a", Ok(session("l1", 10, None))), ("a", Err(stands("l1", 10, 6, "l1")))];
    assert_eq!(loaded(&came_back), [["l1"]]);
}

#[test]
fn a_successor_is_ordered_by_its_sequence() {
    let mut presence = Presence::default();
    presence.session(conn("a"), &session("l1", 10, None), &heard(), true, 0);
    presence.stands(conn("a"), stands("l1", 10, 5, "l2"), true);
    assert_eq!(presence.online(online("l1", 9_999, 4), 0, 0), OnlineVerdict::Overtaken, "its own record, late");
    assert_eq!(presence.online(online("l0", 9_999, 3), 0, 0), OnlineVerdict::Overtaken);
    assert_eq!(presence.online(online("l2", 1_000, 5), 0, 0), BEGINS, "its record is said again");
    let replaced = vec![LoginId::new("l2").unwrap()];
    assert_eq!(presence.online(online("l3", 1, 9), 0, 0), OnlineVerdict::Begins { replaced });
    assert_eq!(presence.stands(conn("a"), stands("l1", 10, 5, "l2"), false), Stands::default(), "it lags behind");
    assert_eq!(presence.stands(conn("a"), stands("l1", 10, 9, "l3"), false), Stands::default(), "it is known");
    assert_eq!(presence.session(conn("a"), &session("l1", 10, Some(50)), &heard(), false, 0), SessionVerdict::Known);
    assert_eq!(ids(&presence), ["l3"]);
    let by = stands("l1", 10, 12, "").by;
    let ended = Some((LoginId::new("l3").unwrap(), Some(by)));
    assert_eq!(presence.stands(conn("a"), stands("l1", 10, 12, ""), false), Stands { ended, begins: None });
    assert!(presence.logins().is_empty());
}

#[test]
fn the_login_that_a_session_is_in_times_out_and_comes_back_with_it() {
    let timeout = |login| offline(Some(login), OfflineCause::Timeout, 70, 8);
    let mut presence = Presence::default();
    presence.session(conn("a"), &session("l1", 10, None), &heard(), true, 0);
    presence.stands(conn("a"), stands("l1", 10, 5, "l2"), true);
    assert_eq!(presence.offline(timeout("l2"), &heard(), 0), [], "its session is live");
    assert_eq!(presence.session_gone(&conn("a"), &heard()), LoginId::new("l2").ok());
    presence.stands_no_more(&conn("a"));
    assert!(presence.is_empty());

    presence.session(conn("a"), &session("l1", 10, None), &heard(), true, 0);
    presence.stands(conn("a"), stands("l1", 10, 5, "l2"), true);
    assert_eq!(presence.offline(timeout("l2"), &unheard(), 0).len(), 1);
    let back = (LoginId::new("l2").unwrap(), SessionVerdict::Begins { replaced: None });
    assert_eq!(presence.heard_again(&heard(), 0), [back]);
    assert_eq!(ids(&presence), ["l2"]);
}

#[test]
fn a_session_that_is_seen_after_its_logins_successor_is_told_of_once() {
    let mut presence = Presence::default();
    presence.online(online("l2", 20, 5), 0, 0);
    let late = session("l1", 10, None);
    let by = EndedBy { sequence: 5, successor: Some(Successor { login_id: LoginId::new("l2").unwrap(), at: 20 }) };
    assert_eq!(presence.session(conn("a"), &late, &heard(), false, 0), SessionVerdict::Superseded { by });
    let left = session("l1", 10, Some(30));
    assert_eq!(presence.session(conn("a"), &left, &heard(), false, 0), SessionVerdict::Known);
    // Its own record may still come, and is the newer one.
    assert_eq!(
        presence.online(online("l1", 10, 6), 0, 0),
        OnlineVerdict::Begins { replaced: vec![LoginId::new("l2").unwrap()] }
    );
}
