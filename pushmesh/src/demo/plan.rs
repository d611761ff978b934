//! What a demo does and when: the records on a timeline, and calls in between from a seed. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use pushmesh_protocol::{CallId, Kind, LoginId, Unit, UserId};

use super::{
    records::{Event, Record},
    rooms::Line,
};

/// Whoever is not heard of for this long, by the records' own clock, is taken offline.
const SILENT_AFTER_MS: u64 = 12 * 3600 * 1000;
/// Gaps between records are cut to this.
const GAP_MAX_MS: u64 = 1000;
/// Calls begin no earlier, so that there is somebody to tell, …
const CALLS_FROM: Duration = Duration::from_secs(1);
/// … and last this long at least and at most.
const CALL_SECONDS: std::ops::Range<f64> = 2.5..7.0;

/// The push kinds that the demo plays in.
#[derive(Debug, Clone)]
pub struct Kinds {
    pub group: Kind,
    pub discuss: Kind,
    pub org: Kind,
}

impl Default for Kinds {
    fn default() -> Self {
        let kind = |name| Kind::new(name).expect("a token");
        Self { group: kind("group"), discuss: kind("discuss"), org: kind("org") }
    }
}

impl Kinds {
    pub fn all(&self) -> [&Kind; 3] {
        [&self.group, &self.discuss, &self.org]
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The login system reports it; the user's client connects unless it is connected.
    Online {
        user: UserId,
        login: LoginId,
        implied: bool,
    },
    /// The login system reports it; then the client goes away.
    Offline {
        user: UserId,
    },
    /// The members join a discussion.
    Discuss {
        discussion: Unit,
        members: Vec<UserId>,
    },
    StartCall {
        kind: Kind,
        call: CallId,
        unit: Unit,
    },
    EndCall {
        kind: Kind,
        call: CallId,
    },
}

#[derive(Debug)]
pub struct Plan {
    /// In time order, from the beginning.
    pub steps: Vec<(Duration, Step)>,
    /// Memberships that stand before the beginning: channels and domains.
    pub members: BTreeMap<(Kind, Unit), BTreeSet<UserId>>,
    /// Online records, those that people implied by talking included.
    pub logins: usize,
    pub logins_implied: usize,
    pub users: usize,
    pub length: Duration,
    /// What was said, for the rooms.
    pub lines: Vec<Line>,
}

/// Lays `records` out in time, `speed` times faster than they happened once gaps are cut to a second.
pub fn plan(records: &[Record], speed: f64, seed: u64, kinds: &Kinds) -> Plan {
    let mut replay = Replay { speed, ..Replay::default() };
    let mut members: BTreeMap<(Kind, Unit), BTreeSet<UserId>> = BTreeMap::new();
    let mut talks: BTreeMap<Unit, Vec<(Duration, UserId)>> = BTreeMap::new();
    let mut lines = Vec::new();
    for record in records {
        let at = replay.advance(record.at_ms);
        replay.silent_leave(record.at_ms, at);
        let mut join = |kind: &Kind, unit: Unit| {
            members.entry((kind.clone(), unit)).or_default().insert(record.user.clone());
        };
        join(&kinds.group, record.group.clone().into());
        if let Some(org) = &record.org {
            join(&kinds.org, org.clone());
        }
        replay.apply(record, at);
        if record.event == Event::Message {
            let (user, discussion, text) = (record.user.clone(), record.discussion.clone(), record.text.clone());
            lines.push(Line { at, user, discussion, text });
        }
        if let Some(discussion) = &record.discussion {
            talks.entry(discussion.clone().into()).or_default().push((at, record.user.clone()));
        }
    }
    let length = replay.now();
    let mut calls = Calls { rng: fastrand::Rng::with_seed(seed), steps: Vec::new(), count: 0, length };
    for (kind, unit) in busiest(&members, &kinds.group, 3) {
        calls.fill(&kind, &unit, 0.5..4.0);
    }
    for (kind, unit) in above(&members, &kinds.org) {
        calls.fill(&kind, &unit, 2.0..30.0);
    }
    for (discussion, said) in talks {
        calls.discuss(&kinds.discuss, discussion, &said);
    }
    let (logins, logins_implied, users) = (replay.logins, replay.implied, replay.users.len());
    let mut steps = replay.steps;
    steps.extend(calls.steps);
    // A stable sort: a user's own steps keep their order.
    steps.sort_by_key(|(at, _)| *at);
    Plan { steps, members, logins, logins_implied, users, length, lines }
}

#[derive(Default)]
struct Replay {
    speed: f64,
    elapsed_ms: u64,
    before_ms: Option<u64>,
    steps: Vec<(Duration, Step)>,
    /// Who is online, and when he was last heard of, by the records' clock.
    online: HashMap<UserId, u64>,
    users: BTreeSet<UserId>,
    logins: usize,
    implied: usize,
}

impl Replay {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(self.elapsed_ms as f64 / 1000.0 / self.speed)
    }

    fn advance(&mut self, at_ms: u64) -> Duration {
        let gap = self.before_ms.map_or(0, |before| at_ms - before).min(GAP_MAX_MS);
        self.before_ms = Some(at_ms);
        self.elapsed_ms += gap;
        self.now()
    }

    fn silent_leave(&mut self, at_ms: u64, at: Duration) {
        let mut silent: Vec<UserId> = Vec::new();
        self.online.retain(|user, heard| {
            let stays = *heard + SILENT_AFTER_MS > at_ms;
            if !stays {
                silent.push(user.clone());
            }
            stays
        });
        silent.sort();
        self.steps.extend(silent.into_iter().map(|user| (at, Step::Offline { user })));
    }

    fn apply(&mut self, record: &Record, at: Duration) {
        let user = &record.user;
        self.users.insert(user.clone());
        match record.event {
            Event::Online => self.online(user, record.at_ms, at, false),
            Event::Message if !self.online.contains_key(user) => self.online(user, record.at_ms, at, true),
            Event::Message => {
                self.online.insert(user.clone(), record.at_ms);
            }
            Event::Offline => {
                self.online.remove(user);
                self.steps.push((at, Step::Offline { user: user.clone() }));
            }
        }
    }

    fn online(&mut self, user: &UserId, at_ms: u64, at: Duration, implied: bool) {
        self.logins += 1;
        self.implied += usize::from(implied);
        let login = LoginId::new(&format!("demo-{}", self.logins)).expect("a token");
        self.online.insert(user.clone(), at_ms);
        self.steps.push((at, Step::Online { user: user.clone(), login, implied }));
    }
}

struct Calls {
    rng: fastrand::Rng,
    steps: Vec<(Duration, Step)>,
    count: usize,
    length: Duration,
}

impl Calls {
    fn between(&mut self, range: &std::ops::Range<f64>) -> Duration {
        Duration::from_secs_f64(range.start + self.rng.f64() * (range.end - range.start))
    }

    fn call(&mut self, kind: &Kind, unit: &Unit, start: Duration) -> Duration {
        self.count += 1;
        let call = CallId::new(&format!("{kind}-{}", self.count)).expect("a kind and a number are a token's");
        let end = start + self.between(&CALL_SECONDS);
        self.steps.push((start, Step::StartCall { kind: kind.clone(), call: call.clone(), unit: unit.clone() }));
        self.steps.push((end, Step::EndCall { kind: kind.clone(), call }));
        end
    }

    /// Calls in one unit, one after another with pauses between.
    fn fill(&mut self, kind: &Kind, unit: &Unit, pause: std::ops::Range<f64>) {
        let mut at = CALLS_FROM + self.between(&(0.0..pause.end));
        while at < self.length {
            at = self.call(kind, unit, at) + self.between(&pause);
        }
    }

    /// A call in every other conversation: begun by two who talk, joined by those who talk later.
    fn discuss(&mut self, kind: &Kind, discussion: Unit, said: &[(Duration, UserId)]) {
        let mut known = BTreeSet::new();
        let mut first = said.iter().filter(|(_, user)| known.insert(user.clone()));
        let (Some(one), Some(two)) = (first.next(), first.next()) else { return };
        if self.rng.bool() {
            return;
        }
        let start = two.0.max(CALLS_FROM);
        let members = vec![one.1.clone(), two.1.clone()];
        self.steps.push((start, Step::Discuss { discussion: discussion.clone(), members }));
        let end = self.call(kind, &discussion, start + Duration::from_millis(200));
        for (at, user) in first.filter(|(at, _)| *at > start && *at < end) {
            self.steps.push((*at, Step::Discuss { discussion: discussion.clone(), members: vec![user.clone()] }));
        }
    }
}

fn busiest(members: &BTreeMap<(Kind, Unit), BTreeSet<UserId>>, kind: &Kind, most: usize) -> Vec<(Kind, Unit)> {
    let mut units: Vec<_> = members.iter().filter(|((of, _), _)| of == kind).collect();
    units.sort_by_key(|(_, users)| std::cmp::Reverse(users.len()));
    units.into_iter().take(most).map(|(key, _)| key.clone()).collect()
}

/// The two upper levels of the tree that have three members or more below them.
fn above(members: &BTreeMap<(Kind, Unit), BTreeSet<UserId>>, kind: &Kind) -> Vec<(Kind, Unit)> {
    let mut below: BTreeMap<Unit, usize> = BTreeMap::new();
    for ((of, unit), users) in members {
        if of == kind {
            for department in unit.ancestry().filter(|department| department.levels().count() <= 2) {
                *below.entry(department).or_default() += users.len();
            }
        }
    }
    below.into_iter().filter(|(_, users)| *users >= 3).map(|(unit, _)| (kind.clone(), unit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::records;

    fn shipped(seed: u64) -> Plan {
        plan(&records::read(None).unwrap(), 16.0, seed, &Kinds::default())
    }

    #[test]
    fn the_shipped_records_make_a_plan_with_calls_of_every_kind() {
        let plan = shipped(1);
        assert_eq!((plan.logins - plan.logins_implied, plan.users), (1137, 1183));
        assert!(plan.logins_implied > 190, "{}", plan.logins_implied);
        assert!(plan.steps.is_sorted_by_key(|(at, _)| *at));
        for kind in ["group", "discuss", "org"] {
            let calls = plan
                .steps
                .iter()
                .filter(|(_, step)| matches!(step, Step::StartCall { kind: of, .. } if of.as_str() == kind));
            assert!(calls.count() >= 10, "{kind}");
        }
    }

    #[test]
    fn every_call_starts_once_and_ends_once_after_its_start() {
        let mut open = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (_, step) in shipped(2).steps {
            match step {
                Step::StartCall { call, .. } => {
                    assert!(seen.insert(call.clone()));
                    open.insert(call);
                }
                Step::EndCall { call, .. } => assert!(open.remove(&call)),
                _ => {}
            }
        }
        assert!(open.is_empty());
    }

    #[test]
    fn the_same_seed_is_the_same_plan() {
        assert_eq!(shipped(7).steps, shipped(7).steps);
        assert_ne!(shipped(7).steps, shipped(8).steps);
    }
}
