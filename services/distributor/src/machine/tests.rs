use std::time::Duration;

use pushmesh_protocol::{
    UserId,
    message::{LoginEvent, LoginRecord, OfflineCause},
};

use super::{world::*, *};

#[test]
fn a_record_is_told_at_once_and_acknowledged_when_all_have_it() {
    let mut world = World::new();
    world.arrive(0, 0);
    assert_eq!(world.requests.len(), KINDS, "idle, nothing waits");
    world.answer();
    world.answer();
    assert_eq!(world.login.len(), 1, "one kind has not answered");
    world.answer();
    assert_eq!(world.login.len(), 0);
}

#[test]
fn what_comes_while_a_request_is_on_its_way_shares_the_next() {
    let mut world = World::new();
    world.arrive(0, 0);
    world.arrive(1, 0);
    world.arrive(0, 1);
    assert_eq!(world.requests.len(), KINDS);
    world.pass(Duration::from_millis(2));
    let second =
        world.requests.iter().filter(|(_, kind, _)| *kind == 0).nth(1).expect("partition 1 need not wait longer");
    assert_eq!(second.2.len(), 1, "partition 0 waits for its own answer");
    world.run(Duration::from_secs(1));
    world.check();
}

#[test]
fn a_silent_kind_delays_only_itself() {
    let mut world = World::new();
    world.set(2, Health::Silent);
    for step in 0..100u16 {
        world.arrive(step, 0);
        world.run(Duration::from_millis(50));
        assert_eq!(world.applied[0].len(), usize::from(step) + 1);
        assert_eq!(world.applied[1].len(), usize::from(step) + 1);
    }
    // After 2 s its part went to LATE, and nothing is held back in LOGIN for it.
    assert_eq!(world.login.len(), 0);
    assert!(world.applied[2].is_empty());
    assert_eq!(world.machine.late_lanes(2), usize::from(PARTITIONS));
    world.settle();
    world.check();
}

#[test]
fn a_kind_without_an_owner_is_tried_when_it_has_one() {
    let mut world = World::new();
    world.set(1, Health::NoOwner);
    world.arrive(0, 0);
    world.run(Duration::from_secs(1));
    assert!(world.applied[1].is_empty());
    world.set(1, Health::Up);
    world.answer();
    assert_eq!(world.applied[1].len(), 1, "no backoff stands against a new owner");
    assert_eq!(world.login.len(), 0);
}

#[test]
fn a_kind_that_is_back_becomes_direct_under_load() {
    let mut world = World::new();
    world.set(0, Health::Silent);
    for _ in 0..100 {
        world.arrive(0, 0);
        world.run(Duration::from_millis(50));
    }
    world.set(0, Health::Up);
    for _ in 0..100 {
        world.arrive(0, 0);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(world.machine.late_lanes(0), 0);
    world.settle();
    world.check();
}

#[test]
fn a_kind_that_is_back_becomes_direct_though_records_never_pause() {
    let mut world = World::new();
    world.set(0, Health::Silent);
    for _ in 0..20 {
        world.arrive(0, 0);
        world.run(Duration::from_millis(200));
    }
    assert_eq!(world.machine.late_lanes(0), 1);
    world.set(0, Health::Up);
    // There is always one on its way.
    for _ in 0..100 {
        world.arrive(0, 0);
        (0..KINDS).for_each(|_| world.answer());
        world.store();
    }
    assert_eq!(world.machine.late_lanes(0), 0);
    world.settle();
    world.check();
}

fn entry(sequence: u64) -> Arc<OnlineEntry> {
    let event = LoginEvent::Offline { login_id: None, device: None, cause: OfflineCause::Reported };
    let record = LoginRecord { user: UserId::new("u").unwrap(), event, at: 0, trace: None };
    Arc::new(OnlineEntry { partition: Partition(0), epoch: 7, sequence, record })
}

#[test]
fn what_stands_behind_a_failure_counts_for_nothing() {
    let now = Instant::now();
    let mut lane: Lane<()> = Lane::new(LateStart { waiting: false, delivered_before: 0 }, now);
    (1..=3).for_each(|sequence| lane.push(entry(sequence), now));
    lane.send(3);
    let (done, failed) = (OnlineResult::Done { pushes: 1 }, OnlineResult::Failed { reason: "full".into() });
    assert_eq!(lane.judge(&[done.clone(), failed, done.clone()], 7), Verdict::Again(1));
    assert_eq!(lane.judge(&[done.clone(), OnlineResult::Fenced { current: 7 }, done.clone()], 7), Verdict::Again(1));
    assert_eq!(lane.judge(&[done.clone(), OnlineResult::Fenced { current: 8 }, done.clone()], 7), Verdict::Fenced);
    assert_eq!(lane.judge(&[], 7), Verdict::Again(0));
    assert_eq!(lane.judge(&[done.clone(), done.clone(), done], 7), Verdict::Well(3));
}

#[test]
fn what_a_former_owner_stored_and_drained_is_not_waited_for() {
    let now = Instant::now();
    let mut lane: Lane<()> = Lane::new(LateStart { waiting: false, delivered_before: 50 }, now);
    lane.push(entry(1), now);
    let later = now + LIMITS.late_after;
    lane.turn(later, &LIMITS);
    assert_eq!(lane.storable(later, false, &LIMITS), 1);
    assert_eq!(lane.store(1).count(), 1);
    assert_eq!(lane.stored(&[Some((40, true))]), [1]);
    lane.turn(later, &LIMITS);
    assert!(!lane.is_late());
}

#[test]
fn an_older_lease_stops() {
    let mut world = World::new();
    world.arrive(0, 0);
    let (request, _, _) = world.requests.pop_front().unwrap();
    let results = Some(vec![OnlineResult::Fenced { current: 99 }]);
    let mut effects = vec![];
    world.machine.apply(Event::Answered { request, results }, world.now, &mut effects);
    assert!(matches!(effects[..], [Effect::Fenced(Partition(0), 1)]), "{effects:?}");
    assert_eq!(world.machine.waiting(), 0);
}
