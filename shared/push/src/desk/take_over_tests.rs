//! What a partition's next owner knows of logins that LOGIN's records ended.

use proptest::prelude::*;
use pushmesh_protocol::{
    ConnId, Instance, PushId,
    message::{OfflineCause, PushOrder, Session, SessionLogin},
};

use super::{stage::*, *};

/// What ack-retry writes of what was said in PUSH: for each session the login that stands in place of the one it began with.
fn written(orders: &[PushOrder], began: &str, since: Millis) -> Option<SessionLogin> {
    let mut current = Some(LoginId::new(began).unwrap());
    let mut by = None;
    for order in orders {
        if let PushOrder::LoginEnded(ended) = order
            && let Some(record) = &ended.by
        {
            let again = current.is_none() && ended.login_id.as_str() == began && record.successor.is_some();
            if again || Some(&ended.login_id) == current.as_ref() {
                by = Some(record.clone());
                current = record.current().cloned();
            }
        }
    }
    let (began, device) = (LoginId::new(began).unwrap(), DeviceId::new("phone").unwrap());
    Some(SessionLogin { began, device, since, by: by? })
}

impl Stage {
    fn stands(&mut self, user: &str, login: SessionLogin) {
        let (user, conn) = (UserId::new(user).unwrap(), ConnId::new(&format!("conn-{}", login.began)).unwrap());
        self.input(Input::Session(SessionNews::Stands { user, conn, login }));
    }

    /// Another owner: it knows what `sess` says, in this order, and then tells everybody.
    fn taken_over(&mut self, keys: impl FnOnce(&mut Stage)) -> Vec<String> {
        self.told();
        self.desk = Desk::new(rules(Reach::Unit));
        self.join("ann", "g");
        keys(self);
        assert_eq!(self.told(), [""; 0], "not before it is caught up");
        self.desk.serve(&self.book, self.now);
        let (effects, _) = self.desk.evaluate(0, 1000, &self.book, self.now);
        effects.orders.iter().map(line).collect()
    }
}

fn in_a_call() -> Stage {
    let mut stage = Stage::new(Reach::Unit);
    stage.join("ann", "g");
    stage.session("ann", "l1");
    stage.online("ann", "l1");
    stage.start("c1", "g");
    assert_eq!(stage.told(), ["+c1@l1"]);
    stage
}

#[test]
fn online_again_outlives_its_owner() {
    for session_first in [true, false] {
        let mut stage = in_a_call();
        stage.online("ann", "l2");
        let login = written(&stage.orders, "l1", stage.now).unwrap();
        assert_eq!(stage.told(), ["end l1", "+c1@l2"]);
        let told = stage.taken_over(|stage| {
            if session_first {
                stage.session("ann", "l1");
            }
            stage.stands("ann", login);
            stage.session("ann", "l1");
        });
        assert_eq!(told, ["end l1", "+c1@l2"], "the same ids as before");
        stage.start("c2", "g");
        stage.pass(2 * SECOND);
        assert_eq!(stage.told(), ["+c2@l2"]);
        assert_eq!(stage.desk.logins(), 1);
        let (user, asked) = (UserId::new("ann").unwrap(), LoginId::new("l1").unwrap());
        let pulled = stage.desk.calls(&user, &asked, &stage.book);
        assert_eq!(
            pulled[0].id,
            PushId::of_call(&rules(Reach::Unit).kind, &pulled[0].call.call_id, &user, &"l2".parse().unwrap())
        );
        // And a third one outlives the next.
        stage.online("ann", "l3");
        assert_eq!(written(&stage.orders, "l2", stage.now).unwrap().by.current(), LoginId::new("l3").ok().as_ref());
        assert_eq!(stage.told()[0], "end l2");
    }
}

#[test]
fn a_reported_end_outlives_its_owner() {
    let mut stage = in_a_call();
    stage.offline("ann", "l1");
    let login = written(&stage.orders, "l1", stage.now).unwrap();
    assert_eq!((login.by.current(), stage.told()), (None, vec!["end l1".to_owned()]));
    let told = stage.taken_over(|stage| {
        stage.session("ann", "l1");
        stage.stands("ann", login);
    });
    assert_eq!(told, ["end l1"]);
    stage.start("c2", "g");
    assert_eq!((stage.told(), stage.desk.logins()), (vec![], 0));
    stage.online("ann", "l2");
    assert_eq!(stage.told(), ["end l1", "+c1@l2", "+c2@l2"]);
}

#[test]
fn who_is_reported_offline_and_online_again_on_the_connection_that_stands_is_so_for_the_next_owner() {
    let mut stage = in_a_call();
    stage.offline("ann", "l1");
    stage.online("ann", "l2");
    let login = written(&stage.orders, "l1", stage.now).unwrap();
    assert_eq!(login.by.current(), LoginId::new("l2").ok().as_ref());
    assert_eq!(stage.told(), ["end l1", "end l1", "+c1@l2"]);
    let told = stage.taken_over(|stage| {
        stage.session("ann", "l1");
        stage.stands("ann", login);
    });
    assert_eq!(told, ["end l1", "+c1@l2"]);
}

#[test]
fn a_timeout_and_a_logout_say_that_the_sessions_know() {
    for cause in [OfflineCause::Timeout, OfflineCause::Logout] {
        let mut stage = in_a_call();
        let login_id = LoginId::new("l1").ok();
        stage.record("ann", LoginEvent::Offline { login_id, device: None, cause }, stage.now);
        assert_eq!((written(&stage.orders, "l1", stage.now), stage.told()), (None, vec!["end l1".to_owned()]));
    }
}

#[test]
fn a_kind_that_is_behind_hears_it_from_the_others_and_gives_the_record_its_time() {
    let mut stage = in_a_call();
    let (began, device) = (LoginId::new("l1").unwrap(), DeviceId::new("phone").unwrap());
    let successor = Some(Successor { login_id: LoginId::new("l2").unwrap(), at: stage.now });
    let by = EndedBy { sequence: 2, successor };
    stage.stands("ann", SessionLogin { began, device, since: stage.now, by: by.clone() });
    let PushOrder::LoginEnded(ended) = &stage.orders[0] else { panic!("an end") };
    assert_eq!((&ended.by, stage.orders.len()), (&Some(by), 1));
    stage.told();
    stage.pass(SECOND - 1);
    assert!(stage.told().is_empty());
    stage.pass(1);
    assert_eq!(stage.told(), ["+c1@l2"]);
    stage.online("ann", "l2");
    assert_eq!(stage.told(), ["+c1@l2"], "the same push");
    stage.start("c2", "g");
    assert_eq!(stage.told(), ["+c2@l2"]);
}

#[test]
fn a_session_that_resumes_a_login_is_awaited_under_the_one_it_is_in() {
    let mut stage = in_a_call();
    stage.online("ann", "l2");
    stage.stands("ann", written(&stage.orders, "l1", stage.now).unwrap());
    let login_id = LoginId::new("l2").ok();
    stage.record("ann", LoginEvent::Offline { login_id, device: None, cause: OfflineCause::Timeout }, stage.now);
    assert_eq!(stage.told(), ["end l1", "+c1@l2", "end l2"]);
    // At the last moment: her client knows her login by the name it began with.
    let session = Session {
        login_id: LoginId::new("l1").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        comet: Instance::new("comet-2").unwrap(),
        comet_epoch: 1,
        since: stage.now + 1,
        left: None,
    };
    let (user, conn) = (UserId::new("ann").unwrap(), ConnId::new("conn-2").unwrap());
    stage.input(Input::Session(SessionNews::Put { user, conn, session }));
    stage.pass(SECOND - 1);
    assert!(stage.told().is_empty(), "a record may still come");
    stage.pass(1);
    assert_eq!(stage.told(), ["+c1@l2"]);
}

#[test]
fn what_stood_beside_a_session_is_forgotten_with_it() {
    let mut stage = in_a_call();
    stage.online("ann", "l2");
    let login = written(&stage.orders, "l1", stage.now).unwrap();
    stage.stands("ann", login.clone());
    stage.stands("bob", login);
    stage.input(Input::Session(SessionNews::Restarted));
    stage.session("ann", "l1");
    stage.input(Input::Session(SessionNews::Current));
    let standing = |user: &str| {
        let ix = stage.desk.roll.find(&UserId::new(user).unwrap());
        ix.and_then(|ix| stage.desk.roll.presence(ix)).map_or(0, |presence| presence.standing().count())
    };
    assert_eq!((standing("ann"), standing("bob")), (0, 0), "a snapshot did not mention it");
}

#[derive(Debug, Clone)]
enum Op {
    /// A connection: its session, and its record. The one before is kicked.
    Connect,
    /// LOGIN says that the device is online, for the first time or again.
    Again,
    Offline,
    /// The connection breaks, for good.
    TimeOut,
    /// Another owner, which reads the session first or what stands beside it.
    TakeOver {
        session_first: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Connect),
        3 => Just(Op::Again),
        2 => Just(Op::Offline),
        1 => Just(Op::TimeOut),
        3 => any::<bool>().prop_map(|session_first| Op::TakeOver { session_first }),
    ]
}

/// One device, as its records and sessions make it.
#[derive(Default)]
struct Device {
    count: usize,
    said: Vec<PushOrder>,
    /// The login that its session began with, and when.
    session: Option<(String, Millis)>,
    current: Option<String>,
}

impl Device {
    fn next_login(&mut self) -> String {
        self.count += 1;
        let login = format!("l{}", self.count);
        self.current = Some(login.clone());
        login
    }

    fn disconnect(&mut self, stage: &mut Stage) {
        if let Some((began, _)) = self.session.take() {
            let (user, conn) = (UserId::new("ann").unwrap(), ConnId::new(&format!("conn-{began}")).unwrap());
            stage.input(Input::Session(SessionNews::Gone { user: user.clone(), conn: conn.clone() }));
            stage.input(Input::Session(SessionNews::StandsNoMore { user, conn }));
        }
    }

    fn standing(&self) -> Option<SessionLogin> {
        let (began, since) = self.session.as_ref()?;
        written(&self.said, began, *since)
    }

    fn take(&mut self, op: &Op, stage: &mut Stage) {
        match op {
            Op::Connect => {
                let login = self.next_login();
                stage.session("ann", &login);
                stage.online("ann", &login);
                self.disconnect(stage);
                self.session = Some((login, stage.now));
            }
            Op::Again => {
                let login = self.next_login();
                stage.online("ann", &login);
            }
            Op::Offline => {
                if let Some(login) = self.current.take() {
                    stage.offline("ann", &login);
                }
            }
            Op::TimeOut => {
                let login_id = self.current.take().and_then(|login| LoginId::new(&login).ok());
                let cause = OfflineCause::Timeout;
                stage.record("ann", LoginEvent::Offline { login_id, device: None, cause }, stage.now);
                self.disconnect(stage);
            }
            Op::TakeOver { session_first } => {
                let (standing, session) = (self.standing(), self.session.clone());
                let now = stage.now;
                stage.taken_over(|stage| {
                    let put = |stage: &mut Stage| {
                        if let Some((began, since)) = &session {
                            stage.now = *since;
                            stage.session("ann", began);
                            stage.now = now;
                        }
                    };
                    if *session_first {
                        put(stage);
                    }
                    standing.into_iter().for_each(|login| stage.stands("ann", login));
                    put(stage);
                });
                if session.is_none() {
                    // Who is online without a session is not known to a new owner.
                    self.current = None;
                }
            }
        }
    }
}

proptest! {
    // A new owner knows of whoever has a session the login that the last one knew, and tells it of calls alone.
    #[test]
    fn owners_come_and_go_and_a_session_stays_in_its_login(
        heard in any::<bool>(),
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let (mut stage, mut device) = (Stage::new(Reach::Unit), Device::default());
        stage.join("ann", "g");
        for (step, op) in ops.iter().enumerate() {
            stage.now += 10;
            device.take(op, &mut stage);
            device.said.append(&mut stage.orders.clone());
            if heard && let Some(login) = device.standing() {
                stage.stands("ann", login);
            }
            stage.told();
            stage.start(&format!("c{step}"), "g");
            let told: Vec<_> = device.current.iter().map(|login| format!("+c{step}@{login}")).collect();
            prop_assert_eq!(stage.told(), told);
            stage.pass(2 * SECOND);
            let again = stage.told();
            prop_assert!(again.iter().all(|line| device.current.as_ref().is_some_and(|login| line.ends_with(&format!("@{login}")))), "{:?}", again);
        }
    }
}
