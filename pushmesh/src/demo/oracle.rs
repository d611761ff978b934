//! Which login must see which call, may see it, or must not: from what was reported and when, and from what
//! clients saw. It uses no code and no counter of a service; of the protocol, only how a push's id is made.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use pushmesh_protocol::{CallId, Kind, LoginId, PushId, Unit, UserId};
use serde::Serialize;

/// Overlaps shorter than this may or may not be told.
pub const EDGE: Duration = Duration::from_secs(1);

/// When something took effect: after it was asked for, and no later than it was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    pub earliest: Duration,
    pub latest: Duration,
}

#[derive(Debug)]
struct Login {
    id: LoginId,
    start: Moment,
    end: Option<Moment>,
}

#[derive(Debug)]
struct Call {
    kind: Kind,
    unit: Unit,
    start: Moment,
    end: Option<Moment>,
}

/// A push as a client showed it.
#[derive(Debug, Clone)]
pub struct Shown {
    pub user: UserId,
    pub id: PushId,
    pub kind: Kind,
    pub call: CallId,
    pub at: Duration,
}

/// What the oracle knows of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Every kind of the run: each is counted, even where nothing of it was shown.
    kinds: Vec<Kind>,
    /// Of each user, in the order they began.
    logins: HashMap<UserId, Vec<Login>>,
    members: BTreeMap<(Kind, Unit), HashMap<UserId, Moment>>,
    calls: BTreeMap<CallId, Call>,
}

/// The outcome; a run is right if `lost`, `duplicated` and `extra` are 0.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// Shown pushes by kind, of every kind.
    pub pushes: BTreeMap<String, u64>,
    /// Pairs of login and call that had to be shown.
    pub must: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub extra: u64,
    /// From a report's acceptance to the display, where the call was already going on.
    #[serde(skip)]
    pub latencies: Vec<Duration>,
    /// The first few breaches, for people.
    #[serde(skip)]
    pub breaches: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Must,
    May,
    Never,
}

impl Oracle {
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { kinds: kinds.into_iter().collect(), ..Self::default() }
    }

    pub fn online(&mut self, user: &UserId, id: LoginId, at: Moment) {
        let logins = self.logins.entry(user.clone()).or_default();
        if let Some(before) = logins.last_mut() {
            before.end.get_or_insert(at);
        }
        logins.push(Login { id, start: at, end: None });
    }

    /// Ends the user's login, if he has one.
    pub fn offline(&mut self, user: &UserId, at: Moment) {
        if let Some(login) = self.logins.get_mut(user).and_then(|logins| logins.last_mut()) {
            login.end.get_or_insert(at);
        }
    }

    pub fn member(&mut self, kind: &Kind, unit: &Unit, user: &UserId, at: Moment) {
        self.members.entry((kind.clone(), unit.clone())).or_default().entry(user.clone()).or_insert(at);
    }

    pub fn call_started(&mut self, kind: &Kind, id: &CallId, unit: &Unit, at: Moment) {
        let call = Call { kind: kind.clone(), unit: unit.clone(), start: at, end: None };
        self.calls.insert(id.clone(), call);
    }

    pub fn call_ended(&mut self, id: &CallId, at: Moment) {
        if let Some(call) = self.calls.get_mut(id) {
            call.end = Some(at);
        }
    }

    /// Holds what was shown against what had to be.
    pub fn judge(&self, shown: &[Shown]) -> Judgement {
        let pushes = self.kinds.iter().map(|kind| (kind.to_string(), 0)).collect();
        let mut judgement = Judgement { pushes, ..Judgement::default() };
        let mut seen: HashMap<PushId, u32> = HashMap::new();
        let mut seen_calls: HashSet<(&UserId, &CallId)> = HashSet::new();
        let expected = self.expected();
        for push in shown {
            *judgement.pushes.entry(push.kind.to_string()).or_default() += 1;
            let times = seen.entry(push.id).or_default();
            *times += 1;
            let pair = expected.get(&push.id).filter(|pair| pair.user == &push.user && pair.call == &push.call);
            match pair {
                Some(pair) if *times == 1 && pair.verdict != Expected::Never => {
                    if pair.call_was_on {
                        judgement.latencies.push(push.at.saturating_sub(pair.reported));
                    }
                }
                Some(pair) if pair.verdict != Expected::Never => {
                    judgement.duplicated += 1;
                    let story = pair.story();
                    judgement
                        .breach(format!("{} saw {} {times} times, at {:.1?}: {story}", push.user, push.call, push.at));
                }
                // The call under another id: to the user it is the call again.
                None if seen_calls.contains(&(&push.user, &push.call)) => {
                    judgement.duplicated += 1;
                    judgement.breach(format!("{} saw {} again under the id {}", push.user, push.call, push.id));
                }
                _ => {
                    judgement.extra += 1;
                    let why = pair.map_or_else(|| "of no login of his".to_owned(), Pair::story);
                    judgement.breach(format!("{} must not see {} at {:.1?}: {why}", push.user, push.call, push.at));
                }
            }
            seen_calls.insert((&push.user, &push.call));
        }
        for (id, pair) in &expected {
            if pair.verdict == Expected::Must {
                judgement.must += 1;
                if !seen.contains_key(id) {
                    judgement.lost += 1;
                    judgement.breach(format!("{} never saw {}: {}", pair.user, pair.call, pair.story()));
                }
            }
        }
        judgement
    }

    /// How many of the pushes that must be shown have not been yet.
    pub fn outstanding(&self, shown: &HashSet<PushId>) -> usize {
        self.expected().iter().filter(|(id, pair)| pair.verdict == Expected::Must && !shown.contains(id)).count()
    }

    fn expected(&self) -> HashMap<PushId, Pair<'_>> {
        let mut pairs = HashMap::new();
        for (id, call) in &self.calls {
            for (user, joined) in self.reached(call) {
                for login in self.logins.get(user).into_iter().flatten() {
                    let pair = Pair {
                        user,
                        call: id,
                        verdict: expected(login, call, joined),
                        reported: login.start.latest,
                        login,
                        of: call,
                        joined,
                        call_was_on: call.start.latest.max(joined.latest) < login.start.earliest,
                    };
                    pairs.insert(PushId::of_call(&call.kind, id, user, &login.id), pair);
                }
            }
        }
        pairs
    }

    /// The members whom a call reaches, with the moment from which it does.
    fn reached<'a>(&'a self, call: &'a Call) -> HashMap<&'a UserId, Moment> {
        let mut reached: HashMap<&UserId, Moment> = HashMap::new();
        // Units sort so that those below one follow it; in a flat kind there are none below.
        let units = self.members.iter().filter(|((kind, unit), _)| *kind == call.kind && call.unit.covers(unit));
        for (user, joined) in units.flat_map(|(_, users)| users) {
            let first = reached.entry(user).or_insert(*joined);
            if joined.latest < first.latest {
                *first = *joined;
            }
        }
        reached
    }
}

struct Pair<'a> {
    user: &'a UserId,
    call: &'a CallId,
    verdict: Expected,
    reported: Duration,
    call_was_on: bool,
    login: &'a Login,
    of: &'a Call,
    joined: Moment,
}

impl Pair<'_> {
    /// When what happened, for people.
    fn story(&self) -> String {
        let until = |end: &Option<Moment>| end.map_or("the end".to_owned(), |end| format!("{:.1?}", end.latest));
        format!(
            "login {} from {:.1?} to {}, call from {:.1?} to {}, member since {:.1?}",
            self.login.id,
            self.login.start.latest,
            until(&self.login.end),
            self.of.start.latest,
            until(&self.of.end),
            self.joined.latest,
        )
    }
}

fn expected(login: &Login, call: &Call, joined: Moment) -> Expected {
    let ends = [login.end, call.end];
    let starts = [login.start, call.start, joined];
    let latest_start = starts.iter().map(|start| start.latest).max().expect("three");
    let earliest_start = starts.iter().map(|start| start.earliest).max().expect("three");
    let earliest_end = ends.iter().flatten().map(|end| end.earliest).min().unwrap_or(Duration::MAX);
    let latest_end = ends.iter().flatten().map(|end| end.latest).min().unwrap_or(Duration::MAX);
    if latest_start.saturating_add(EDGE) <= earliest_end {
        Expected::Must
    } else if earliest_start > latest_end.saturating_add(EDGE) {
        Expected::Never
    } else {
        Expected::May
    }
}

impl Judgement {
    fn breach(&mut self, text: String) {
        if self.breaches.len() < 10 {
            self.breaches.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        let moment = Duration::from_secs_f64(seconds);
        Moment { earliest: moment, latest: moment + Duration::from_millis(5) }
    }

    struct Story {
        oracle: Oracle,
        kind: Kind,
        user: UserId,
        call: CallId,
    }

    /// Alice in a group; she is online from 10 s on, a call goes on there from `start` to `end`.
    fn story(start: f64, end: f64) -> Story {
        let (kind, user) = (Kind::new("group").unwrap(), UserId::new("alice").unwrap());
        let (unit, call) = (Unit::new("g").unwrap(), CallId::new("c").unwrap());
        let mut oracle = Oracle::default();
        oracle.member(&kind, &unit, &user, at(0.0));
        oracle.online(&user, "l1".parse().unwrap(), at(10.0));
        oracle.call_started(&kind, &call, &unit, at(start));
        oracle.call_ended(&call, at(end));
        Story { oracle, kind, user, call }
    }

    impl Story {
        fn shown(&self, login: &str, seconds: f64) -> Shown {
            let id = PushId::of_call(&self.kind, &self.call, &self.user, &login.parse().unwrap());
            let at = Duration::from_secs_f64(seconds);
            Shown { user: self.user.clone(), id, kind: self.kind.clone(), call: self.call.clone(), at }
        }

        fn judge(&self, shown: &[Shown]) -> (u64, u64, u64, u64) {
            let judgement = self.oracle.judge(shown);
            (judgement.must, judgement.lost, judgement.duplicated, judgement.extra)
        }
    }

    #[test]
    fn a_call_that_goes_on_must_be_seen_once() {
        let story = story(5.0, 20.0);
        assert_eq!(story.judge(&[story.shown("l1", 10.1)]), (1, 0, 0, 0));
        assert_eq!(story.judge(&[]), (1, 1, 0, 0));
        assert_eq!(story.judge(&[story.shown("l1", 10.1), story.shown("l1", 12.0)]), (1, 0, 1, 0));
        let latency = story.oracle.judge(&[story.shown("l1", 10.1)]).latencies;
        assert_eq!(latency, [Duration::from_millis(95)]);
    }

    #[test]
    fn a_kind_of_which_nothing_was_shown_is_counted_too() {
        let kinds = ["group", "discuss", "org"].map(|kind| Kind::new(kind).unwrap());
        let oracle = Oracle { kinds: kinds.into(), ..story(5.0, 20.0).oracle };
        let counts = |shown: &[Shown]| serde_json::to_value(oracle.judge(shown).pushes).unwrap();
        assert_eq!(counts(&[]), serde_json::json!({"group": 0, "discuss": 0, "org": 0}));
        let shown = story(5.0, 20.0).shown("l1", 10.1);
        assert_eq!(counts(&[shown]), serde_json::json!({"group": 1, "discuss": 0, "org": 0}));
    }

    #[test]
    fn at_the_edge_it_may_be_seen_or_not() {
        let story = story(5.0, 10.5);
        assert_eq!(story.judge(&[]), (0, 0, 0, 0));
        assert_eq!(story.judge(&[story.shown("l1", 10.1)]), (0, 0, 0, 0));
    }

    #[test]
    fn a_call_long_over_must_not_be_seen() {
        let story = story(2.0, 8.0);
        assert_eq!(story.judge(&[story.shown("l1", 10.1)]), (0, 0, 0, 1));
    }

    #[test]
    fn online_again_is_told_again_under_the_new_login_alone() {
        let mut story = story(5.0, 30.0);
        story.oracle.online(&story.user.clone(), "l2".parse().unwrap(), at(15.0));
        assert_eq!(story.judge(&[story.shown("l1", 10.1), story.shown("l2", 15.1)]), (2, 0, 0, 0));
        assert_eq!(story.judge(&[story.shown("l1", 10.1)]), (2, 1, 0, 0));
    }

    #[test]
    fn the_same_call_under_a_foreign_id_is_a_duplicate_and_a_foreign_call_is_extra() {
        let story = story(5.0, 20.0);
        assert_eq!(story.judge(&[story.shown("l1", 10.1), story.shown("l9", 10.2)]), (1, 0, 1, 0));
        let stranger = Shown { user: "mallory".parse().unwrap(), ..story.shown("l1", 11.0) };
        assert_eq!(story.judge(&[story.shown("l1", 10.1), stranger]).3, 1);
    }

    #[test]
    fn a_call_reaches_the_departments_below_it() {
        let (kind, user) = (Kind::new("org").unwrap(), UserId::new("bob").unwrap());
        let mut oracle = Oracle::default();
        oracle.member(&kind, &Unit::new("net/verizon/res").unwrap(), &user, at(0.0));
        oracle.online(&user, "l1".parse().unwrap(), at(1.0));
        oracle.call_started(&kind, &"above".parse().unwrap(), &Unit::new("net").unwrap(), at(2.0));
        oracle.call_started(&kind, &"beside".parse().unwrap(), &Unit::new("net/ver").unwrap(), at(2.0));
        assert_eq!(oracle.judge(&[]).must, 1);
    }
}
