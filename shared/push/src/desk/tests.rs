//! Stories of one partition, and everything in every order.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use pushmesh_protocol::{
    CallId, ConnId, Instance, Partition, PushId, Token,
    message::{AtEnd, CallRecord, LoginRecord, OfflineCause, PushOrder, Session, SessionLogin},
};

use super::*;

#[path = "take_over_tests.rs"]
mod take_over;

const SECOND: Millis = 1000;

fn rules(reach: Reach) -> Rules {
    Rules {
        kind: Kind::new("group").unwrap(),
        reach,
        delivery: Policy { at_end: AtEnd::Dead, lifetime_ms: 1 },
        source: Source { service: Token::new("group-push").unwrap(), epoch: 3 },
        stale_after: Duration::from_secs(60),
        session_grace: Duration::from_secs(1),
    }
}

/// A desk, the book beside it, and everything that was ordered.
struct Stage {
    desk: Desk,
    book: CallBook,
    /// News of calls that the desk has not applied yet.
    news: VecDeque<CallNews>,
    orders: Vec<PushOrder>,
    dissolved: Vec<(UserId, Unit)>,
    now: Millis,
    sequence: u64,
}

impl Stage {
    fn new(reach: Reach) -> Self {
        let mut stage = Self {
            desk: Desk::new(rules(reach)),
            book: CallBook::new(Some(Duration::from_secs(600))),
            news: VecDeque::new(),
            orders: Vec::new(),
            dissolved: Vec::new(),
            now: 1_000_000,
            sequence: 0,
        };
        stage.desk.serve(&stage.book, stage.now);
        stage
    }

    fn input(&mut self, input: Input) -> Option<Outcome> {
        let effects = self.desk.apply(input, &self.book, self.now);
        self.orders.extend(effects.orders);
        self.dissolved.extend(effects.dissolved);
        effects.outcome
    }

    fn record(&mut self, user: &str, event: LoginEvent, at: Millis) -> Option<Outcome> {
        self.sequence += 1;
        let record = LoginRecord { user: UserId::new(user).unwrap(), event, at, trace: None };
        let entry = OnlineEntry { partition: Partition(0), epoch: 1, sequence: self.sequence, record };
        self.input(Input::Record { entry, trace: None })
    }

    fn online(&mut self, user: &str, login: &str) -> Option<Outcome> {
        let event =
            LoginEvent::Online { login_id: LoginId::new(login).unwrap(), device: DeviceId::new("phone").unwrap() };
        self.record(user, event, self.now)
    }

    fn offline(&mut self, user: &str, login: &str) -> Option<Outcome> {
        let (login_id, cause) = (LoginId::new(login).ok(), OfflineCause::Reported);
        self.record(user, LoginEvent::Offline { login_id, device: None, cause }, self.now)
    }

    fn join(&mut self, user: &str, unit: &str) {
        let (user, unit) = (UserId::new(user).unwrap(), Unit::new(unit).unwrap());
        self.input(Input::Member(MemberNews::Joined { user, unit, at: self.now }));
    }

    fn leave(&mut self, user: &str, unit: &str) {
        let (user, unit) = (UserId::new(user).unwrap(), Unit::new(unit).unwrap());
        self.input(Input::Member(MemberNews::Left { user, unit }));
    }

    fn session(&mut self, user: &str, login: &str) {
        let session = Session {
            login_id: LoginId::new(login).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            comet: Instance::new("comet-1").unwrap(),
            comet_epoch: 1,
            since: self.now,
            left: None,
        };
        let (user, conn) = (UserId::new(user).unwrap(), ConnId::new(&format!("conn-{login}")).unwrap());
        self.input(Input::Session(SessionNews::Put { user, conn, session }));
    }

    fn write_call(&mut self, call: &str, unit: &str, ended_at: Option<Millis>) {
        let unit = Unit::new(unit).unwrap();
        let record = CallRecord { unit, started_at: self.now, ended_at, data: None, trace: None };
        self.news.extend(self.book.put(&CallId::new(call).unwrap(), record));
    }

    fn hear(&mut self) {
        if let Some(news) = self.news.pop_front() {
            self.input(Input::Call { news, trace: None });
        }
    }

    fn start(&mut self, call: &str, unit: &str) {
        self.write_call(call, unit, None);
        self.hear();
    }

    fn end(&mut self, call: &str, unit: &str) {
        self.write_call(call, unit, Some(self.now));
        self.hear();
    }

    fn pass(&mut self, millis: Millis) {
        self.now += millis;
        self.input(Input::Tick);
    }

    /// What was ordered since the last time: `+call@login`, `-call@login`, `end login`.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orders).iter().map(line).collect()
    }
}

fn line(order: &PushOrder) -> String {
    match order {
        PushOrder::Deliver(delivery) => {
            let (
                pushmesh_protocol::message::Body::Call(call),
                pushmesh_protocol::message::Target::Login { login_id, .. },
            ) = (&delivery.body, &delivery.target)
            else {
                panic!("a call to a login")
            };
            assert_eq!(delivery.id, PushId::of_call(&call.kind, &call.call_id, &delivery.user, login_id));
            format!("+{}@{login_id}", call.call_id)
        }
        PushOrder::Withdraw(withdrawal) => {
            assert_eq!(withdrawal.id, withdrawal.push.withdrawal());
            format!("-{}@{}", withdrawal.call_id, withdrawal.login_id)
        }
        PushOrder::LoginEnded(ended) => format!("end {}", ended.login_id),
    }
}

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
