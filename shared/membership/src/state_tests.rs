use std::time::{Duration, Instant};

use pushmesh_bus::TakeOver;
use pushmesh_protocol::{
    Partition, Partitions,
    id::{Instance, Token},
    message::{LeaseRecord, MemberRecord},
};

use super::*;
use crate::{
    event::{Deafness, Loss},
    pulse::Echo,
    roster::Gone,
};

const MS: Duration = Duration::from_millis(1);
const P: u16 = 8;

fn service() -> Token {
    Token::new("distributor").expect("a token")
}

fn instance(name: &str) -> Instance {
    Instance::new(name).expect("a token")
}

fn lease_of(name: &str, owner_epoch: u64) -> LeaseRecord {
    LeaseRecord { owner: instance(name), owner_epoch }
}

/// The member `a` (epoch 1) and what it is told; others are `b`, `c` … with epochs 2, 3 …
struct Story {
    state: State,
    now: Instant,
    revision: u64,
    others: Vec<&'static str>,
    log: Vec<Action>,
}

impl Story {
    fn with(others: &[&'static str]) -> Story {
        let state = State::new(service(), instance("a"), 1, Tuning::default());
        let mut story = Story { state, now: Instant::now(), revision: 100, others: vec![], log: vec![] };
        story.member("a", 1);
        for name in others {
            story.joins(name);
        }
        story
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        let actions = self.state.apply(self.now, event);
        self.log.extend(actions);
        self
    }

    fn member(&mut self, name: &str, epoch: u64) {
        let record = MemberRecord { weight: 50, epoch, address: String::new(), draining: false, owning: true };
        self.tell(Event::MemberPut { service: service(), instance: instance(name), record, revision: epoch });
    }

    fn joins(&mut self, name: &'static str) {
        self.others.push(name);
        self.member(name, epoch_of(name));
    }

    /// Lets time pass; every 250 ms we hear ourselves and the others.
    fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        let mut beat = self.now;
        while self.now < end {
            if self.now >= beat {
                beat += 250 * MS;
                self.tell(Event::Echo(Echo { sent: self.now, revived: false }));
                for name in self.others.clone() {
                    self.tell(Event::Heard { service: service(), instance: instance(name), epoch: epoch_of(name) });
                }
            }
            self.tell(Event::Tick);
            self.now += 50 * MS;
        }
        self
    }

    fn own(&mut self) -> &mut Self {
        self.tell(Event::SnapshotEnds).tell(Event::Own(Partitions::new(P).expect("8 is allowed"))).pass(50 * MS)
    }

    /// Answers all takes that are asked for, and shows the keys to the watch.
    fn grant(&mut self) -> Vec<(Partition, TakeOver)> {
        let takes: Vec<_> = self.drain(|action| matches!(action, Action::Take { .. }));
        for take in takes {
            let Action::Take { partition, .. } = take else { continue };
            self.revision += 1;
            let (epoch, record) = (self.revision, lease_of("a", 1));
            self.tell(Event::LeasePut { service: service(), partition, record, revision: epoch });
            self.tell(Event::Taken { partition, outcome: Ok(epoch) });
        }
        let started = self.drain(|action| matches!(action, Action::Start { .. }));
        let started = started.into_iter().filter_map(|action| match action {
            Action::Start { partition, how, .. } => Some((partition, how)),
            _ => None,
        });
        started.collect()
    }

    fn drain(&mut self, which: impl Fn(&Action) -> bool) -> Vec<Action> {
        self.log.extract_if(.., |action| which(action)).collect()
    }

    fn lease_put(&mut self, partition: u16, owner: &str, epoch: u64) {
        self.revision += 1;
        let (record, revision) = (lease_of(owner, epoch), self.revision);
        self.tell(Event::LeasePut { service: service(), partition: Partition(partition), record, revision });
    }

    fn epoch(&self, partition: Partition) -> u64 {
        self.state.held().iter().find(|(held, _)| *held == partition).expect("held").1
    }
}

fn epoch_of(name: &str) -> u64 {
    u64::from(name.as_bytes()[0] - b'a') + 1
}

#[test]
fn alone_it_takes_everything() {
    let mut story = Story::with(&[]);
    let taken = story.own().grant();
    assert_eq!(taken.len(), usize::from(P));
    assert!(taken.iter().all(|(_, how)| *how == TakeOver::Fresh));
    assert!(story.state.covered());
    assert_eq!(story.state.held().len(), usize::from(P));
}

#[test]
fn nothing_is_taken_before_the_snapshot_is_read_and_we_hear_ourselves() {
    let mut story = Story::with(&[]);
    story.tell(Event::Own(Partitions::new(P).expect("8 is allowed"))).pass(500 * MS);
    assert_eq!(story.log, []);
    let mut story = Story::with(&[]);
    story.tell(Event::SnapshotEnds).tell(Event::Own(Partitions::new(P).expect("8 is allowed"))).tell(Event::Tick);
    assert_eq!(story.log, []);
}

#[test]
fn a_join_is_handed_its_share_when_the_work_has_finished() {
    let mut story = Story::with(&[]);
    story.own().grant();
    story.joins("b");
    story.pass(50 * MS);
    let released = story.drain(|action| matches!(action, Action::Release { .. }));
    assert_eq!(released.len(), usize::from(P) / 2);
    assert_eq!(story.state.held().len(), usize::from(P), "held until the work returns");
    let Action::Release { partition } = released[0] else { panic!("filtered") };

    let epoch = story.epoch(partition);
    story.tell(Event::WorkEnded { partition, epoch });
    assert_eq!(story.log, [Action::GiveBack { partition, epoch }]);
    assert!(story.state.held().iter().all(|(held, _)| *held != partition));
    story.tell(Event::GivenBack { partition, epoch, done: true });
    story.tell(Event::LeaseGone { service: service(), partition, revision: 900 });
    assert!(!story.state.covered());
    story.revision = 900;
    story.lease_put(partition.0, "b", 2);
    assert!(story.state.covered());
}

#[test]
fn the_leases_of_the_dead_are_taken_and_those_of_the_living_are_not() {
    let mut story = Story::with(&["b"]);
    for partition in 0..P {
        story.lease_put(partition, "b", 2);
    }
    story.own().pass(1000 * MS);
    assert_eq!(story.log, [], "alive, it will hand over by itself");
    story.others.clear();
    story.pass(1500 * MS);
    let takes = story.log.len();
    assert_eq!(takes, usize::from(P));
    assert!(story.log.iter().all(|action| matches!(action, Action::Take { expect: Some(_), .. })));
    assert!(story.grant().iter().all(|(_, how)| *how == TakeOver::Crashed));
}

#[test]
fn the_lease_of_an_earlier_start_of_ours_is_taken_as_after_a_crash() {
    let mut story = Story::with(&[]);
    story.lease_put(3, "a", 0);
    let taken = story.own().grant();
    assert!(taken.contains(&(Partition(3), TakeOver::Crashed)), "{taken:?}");
}

#[test]
fn not_hearing_ourselves_for_900_ms_loses_everything_and_it_is_taken_anew() {
    let mut story = Story::with(&[]);
    story.own().grant();
    let before = story.epoch(Partition(0));
    for _ in 0..16 {
        story.now += 50 * MS;
        story.tell(Event::Tick);
    }
    assert_eq!(story.log, [], "850 ms");
    story.now += 50 * MS;
    story.tell(Event::Tick);
    assert_eq!(story.fencing(), Some((usize::from(P), Deafness::Unheard, 1)));
    assert_eq!(story.log.len(), usize::from(P));
    assert!(story.log.iter().all(|action| matches!(action, Action::Lose { why: Loss::Fenced, .. })));
    assert_eq!(story.state.held(), []);
    story.log.clear();

    // Heard again: not before the work has stopped, and under a new epoch.
    story.pass(500 * MS);
    assert_eq!(story.log, [Action::Revived { pause: Duration::ZERO }]);
    story.log.clear();
    for number in 0..P {
        let epoch = before + u64::from(number);
        story.tell(Event::WorkEnded { partition: Partition(number), epoch });
    }
    story.pass(50 * MS);
    let taken = story.grant();
    assert_eq!(taken.len(), usize::from(P));
    assert!(taken.iter().all(|(_, how)| *how == TakeOver::Crashed));
    assert!(story.epoch(Partition(0)) > before);
}

#[test]
fn a_stopped_process_is_fenced_by_its_first_echo_if_no_tick_came_before() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    story.log.clear();
    story.now += 3000 * MS;
    story.tell(Event::Echo(Echo { sent: story.now, revived: true }));
    assert_eq!(story.fencing(), Some((story.drain_losses(), Deafness::Stalled, 1)));
    assert_eq!(story.log, [Action::Revived { pause: Duration::ZERO }]);
}

impl Story {
    /// What was said of losing everything, if it was.
    fn fencing(&mut self) -> Option<(usize, Deafness, u32)> {
        match self.drain(|action| matches!(action, Action::Fenced { .. })).pop()? {
            Action::Fenced { held, why, in_a_row } => Some((held, why, in_a_row)),
            other => panic!("filtered: {other:?}"),
        }
    }

    fn drain_losses(&mut self) -> usize {
        self.drain(|action| matches!(action, Action::Lose { why: Loss::Fenced, .. })).len()
    }
}

#[test]
fn a_lease_won_while_we_were_fenced_is_not_worked_on() {
    let mut story = Story::with(&[]);
    story.own();
    assert_eq!(story.log.len(), usize::from(P), "asked for");
    story.log.clear();
    story.now += 1000 * MS;
    story.tell(Event::Tick);
    story.tell(Event::Echo(Echo { sent: story.now, revived: true }));
    story.tell(Event::Taken { partition: Partition(0), outcome: Ok(500) });
    assert!(!story.log.iter().any(|action| matches!(action, Action::Start { .. })));
    let again = Action::Take { partition: Partition(0), expect: Some(500) };
    assert!(story.log.contains(&again), "it is re-checked by writing it anew: {:?}", story.log);
}

#[test]
fn anothers_lease_in_the_bucket_ends_ours() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let (partition, _) = story.state.held()[0];
    story.lease_put(partition.0, "b", 2);
    assert_eq!(story.log[0], Action::Lose { partition, why: Loss::Usurped });
    assert!(story.state.held().iter().all(|(held, _)| *held != partition));
}

#[test]
fn a_bucket_without_a_leader_costs_nothing() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let held = story.state.held();
    story.log.clear();
    for name in ["a", "b"] {
        let why = Gone::Expired;
        story.tell(Event::MemberGone { service: service(), instance: instance(name), why });
    }
    story.pass(6000 * MS);
    assert_eq!(story.log, []);
    assert_eq!(story.state.held(), held);
}

#[test]
fn frozen_it_takes_and_releases_nothing() {
    let mut story = Story::with(&["b", "c", "d", "e", "f"]);
    story.own().grant();
    let held = story.state.held();
    story.others = vec!["b"];
    story.log.clear();
    story.pass(8000 * MS);
    assert_eq!(story.log, []);
    assert_eq!(story.state.held(), held);
    story.pass(5000 * MS);
    assert!(story.log.iter().any(|action| matches!(action, Action::Take { .. })), "then it goes on: {:?}", story.log);
}

#[test]
fn work_that_ends_by_itself_gives_its_lease_back_and_is_begun_anew_after_a_second() {
    let mut story = Story::with(&[]);
    story.own().grant();
    let (partition, epoch) = story.state.held()[0];
    story.tell(Event::WorkEnded { partition, epoch });
    assert_eq!(story.log, [Action::GiveBack { partition, epoch }]);
    story.tell(Event::GivenBack { partition, epoch, done: true });
    story.tell(Event::LeaseGone { service: service(), partition, revision: 900 });
    story.revision = 900;
    story.log.clear();
    story.pass(900 * MS);
    assert_eq!(story.log, []);
    story.pass(200 * MS);
    assert_eq!(story.grant(), [(partition, TakeOver::Crashed)]);
}

#[test]
fn a_snapshot_read_anew_takes_away_what_it_does_not_mention() {
    let mut story = Story::with(&[]);
    story.own().grant();
    story.log.clear();
    story.tell(Event::SnapshotBegins);
    story.member("a", 1);
    for (partition, epoch) in story.state.held().into_iter().skip(1) {
        let record = lease_of("a", 1);
        story.tell(Event::LeasePut { service: service(), partition, record, revision: epoch });
    }
    story.pass(500 * MS);
    assert_eq!(story.log, [], "nothing is decided on half a table");
    story.tell(Event::SnapshotEnds);
    assert_eq!(story.log, [Action::Lose { partition: Partition(0), why: Loss::Usurped }]);
}

#[test]
fn a_bucket_made_anew_ends_what_was_held_and_begins_again() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let held = story.state.held();
    story.log.clear();
    story.tell(Event::SnapshotBegins);
    story.member("a", 1);
    story.member("b", 2);
    let (record, partition) = (lease_of("b", 2), held[0].0);
    story.tell(Event::LeasePut { service: service(), partition, record, revision: 7 });
    story.tell(Event::SnapshotEnds);
    let lost = story.drain(|action| matches!(action, Action::Lose { why: Loss::Usurped, .. }));
    assert_eq!(lost.len(), held.len(), "revisions began again below our epochs");
    assert_eq!(story.state.held(), []);
}

#[test]
fn leaving_is_done_when_no_lease_names_us() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    story.log.clear();
    story.tell(Event::Leave);
    let released = story.drain(|action| matches!(action, Action::Release { .. }));
    let held = story.state.held();
    assert_eq!(released.len(), held.len());
    for (partition, epoch) in held {
        story.tell(Event::WorkEnded { partition, epoch });
        story.tell(Event::GivenBack { partition, epoch, done: true });
        assert!(!story.log.contains(&Action::Left(Parting::InOrder)));
        story.tell(Event::LeaseGone { service: service(), partition, revision: 900 });
    }
    assert!(story.log.contains(&Action::Left(Parting::InOrder)));
}

#[test]
fn a_give_back_that_was_not_answered_is_said_again() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    story.tell(Event::Leave);
    let (partition, epoch) = story.state.held()[0];
    story.tell(Event::WorkEnded { partition, epoch });
    story.log.clear();
    story.tell(Event::GivenBack { partition, epoch, done: false });
    story.pass(700 * MS);
    assert_eq!(story.log, [Action::GiveBack { partition, epoch }]);
}

#[test]
fn a_second_process_of_our_name_ends_us() {
    let mut story = Story::with(&[]);
    story.own().grant();
    story.log.clear();
    story.member("a", 77);
    assert!(story.log.contains(&Action::Superseded { by: 77 }));
    assert_eq!(story.state.held(), []);
    story.log.clear();
    story.pass(3000 * MS);
    assert_eq!(story.log, []);
}

impl Story {
    /// Lets time pass in which nobody is heard.
    fn pass_deaf(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while self.now < end {
            self.now += 50 * MS;
            self.tell(Event::Tick);
        }
        self
    }

    fn works_end(&mut self, held: &[(Partition, u64)]) {
        for (partition, epoch) in held.iter().copied() {
            self.tell(Event::WorkEnded { partition, epoch });
        }
    }
}

#[test]
fn without_a_connection_leaving_waits_for_the_work_and_for_nothing_else() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let held = story.state.held();
    story.tell(Event::Connection { connected: false }).tell(Event::Leave);
    story.log.clear();
    story.pass_deaf(950 * MS);
    assert_eq!(story.drain(|action| matches!(action, Action::Lose { .. })).len(), held.len());
    assert_eq!(story.fencing(), Some((held.len(), Deafness::Unheard, 1)));
    story.pass_deaf(3000 * MS);
    assert_eq!(story.log, [], "the work still runs");
    story.works_end(&held);
    assert_eq!(story.log, [Action::Left(Parting::Unheard)]);
    story.pass_deaf(3000 * MS);
    assert_eq!(story.log, [Action::Left(Parting::Unheard)], "once");
}

#[test]
fn a_connection_that_comes_back_in_time_lets_it_leave_in_order() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let held = story.state.held();
    story.tell(Event::Connection { connected: false }).tell(Event::Leave);
    story.pass_deaf(500 * MS);
    story.tell(Event::Connection { connected: true }).pass(250 * MS);
    story.works_end(&held);
    story.log.clear();
    for (partition, epoch) in held {
        story.tell(Event::GivenBack { partition, epoch, done: true });
        story.tell(Event::LeaseGone { service: service(), partition, revision: 900 });
    }
    assert_eq!(story.log, [Action::Left(Parting::InOrder)]);
}

#[test]
fn a_bucket_that_does_not_answer_holds_up_a_leave_for_5_s() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let held = story.state.held();
    // Its leader is gone: the watch begins anew and does not end.
    story.tell(Event::SnapshotBegins).tell(Event::Leave);
    assert_eq!(story.drain(|action| matches!(action, Action::Release { .. })).len(), held.len());
    story.works_end(&held);
    story.pass(4900 * MS);
    assert!(!story.log.iter().any(|action| matches!(action, Action::Left(_))), "{:?}", story.log);
    story.pass(200 * MS);
    assert!(story.log.contains(&Action::Left(Parting::Unheard)));
}

#[test]
fn a_server_that_does_not_echo_holds_up_a_leave_for_2_s() {
    let mut story = Story::with(&["b"]);
    story.own().grant();
    let held = story.state.held();
    story.tell(Event::Leave).works_end(&held);
    // The first second it does not know yet that it is not heard.
    story.pass_deaf(1950 * MS);
    assert!(!story.log.iter().any(|action| matches!(action, Action::Left(_))), "{:?}", story.log);
    story.pass_deaf(100 * MS);
    assert!(story.log.contains(&Action::Left(Parting::Unheard)));
}

#[path = "state_rest_tests.rs"]
mod rest;
