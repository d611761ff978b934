//! What a partition holds at most, and what much of it costs.

use std::time::Instant;

use pushmesh_protocol::{
    CallId, Unit,
    frame::Call,
    message::{AckOutcome, AtEnd, Body, DeadReason, Delivery, LoginEnded, Policy, PushOrder, Target},
};

use super::{world::*, *};

#[test]
fn a_full_desk_forgets_the_content_of_what_only_waits() {
    let mut world = World::with(Rules { pushes_max: 4, ..rules() });
    let pushes: Vec<PushId> = (0..4).map(|n| world.call("alice", "phone", "l1", &format!("c{n}"))).collect();
    assert!(world.desk.load().in_hand < 4 && !world.desk.is_full());
    world.connect("alice", "phone", "l1", "a", "c1");
    for push in pushes {
        assert_eq!(world.times(push).len(), 1);
        world.answer("alice", "a", push, AckOutcome::Acked);
    }
    world.nothing_is_left();
}

#[test]
fn pushes_without_content_are_bounded_by_their_number() {
    let mut world = World::with(Rules { pushes_max: 4, entries_max: 6, ..rules() });
    let pushes: Vec<PushId> = (0..6).map(|n| world.call("alice", "phone", "l1", &format!("c{n}"))).collect();
    assert!(world.desk.load().in_hand < 4, "what waits for a session is in pending alone");
    assert!(world.desk.is_full());
    world.withdraw("alice", "phone", "l1", "c0");
    assert!(!world.desk.is_full());
    assert_eq!(world.outcomes(pushes[0]), [Outcome::Withdrawn]);
}

#[test]
fn inboxes_leave_room_for_what_must_be_told_now() {
    let mut world = World::with(Rules { entries_max: 4, ..rules() });
    for (n, who) in ["alice", "bob"].into_iter().enumerate() {
        world.message(who, &format!("m{n}"), AtEnd::Inbox);
    }
    assert!(!world.desk.is_full());
    let third = world.message("carol", "m2", AtEnd::Inbox);
    assert_eq!(world.dead, [(third, DeadReason::InboxFull)], "never silently gone");
    assert_eq!((world.desk.load().inbox, world.outcomes(third)), (2, vec![Outcome::InboxFull]));
}

/// How long the end of a login takes that so many pushes wait for.
fn end_of_a_login_with(pushes: usize) -> Duration {
    let now = 1_700_000_000_000;
    let rules = Rules { pushes_max: usize::MAX, bytes_max: usize::MAX, entries_max: usize::MAX, ..rules() };
    let mut desk = Desk::new(rules, Partition(0), 1, now);
    desk.apply(Event::Ready, now);
    let (user, login_id) = (user("alice"), login("l1"));
    for n in 0..pushes {
        let call_id = CallId::new(&format!("c{n}")).unwrap();
        let unit = Unit::new("g").unwrap();
        let id = PushId::of_call(&kind(), &call_id, &user, &login_id);
        let body = Body::Call(Call { kind: kind(), call_id, unit, started_at: now, data: None });
        let target = Target::Login { login_id: login_id.clone(), device: device("phone") };
        let policy = Policy { at_end: AtEnd::Dead, lifetime_ms: LIFETIME };
        let delivery = Delivery { id, user: user.clone(), target, body, policy, at: now, source: None, trace: None };
        let order = PushOrder::Deliver(delivery);
        let order = Event::Order { sequence: n as u64, order, stored_at: now, delivered_before: false };
        for action in desk.apply(order, now) {
            if let Action::Effect(Effect::Keep { push, .. }) = action {
                desk.apply(Event::Done(Done::Kept { push }), now);
            }
        }
    }
    let order = PushOrder::LoginEnded(LoginEnded { user, login_id, kind: kind(), at: now, by: None });
    let begun = Instant::now();
    desk.apply(Event::Order { sequence: pushes as u64, order, stored_at: now, delivered_before: false }, now);
    let took = begun.elapsed();
    assert_eq!(desk.load(), Load::default());
    took
}

#[test]
fn many_pushes_of_one_user_cost_no_more_than_as_many_of_many() {
    // The fastest of some: what a busy machine does in between counts for neither.
    let fastest = |pushes| (0..5).map(|_| end_of_a_login_with(pushes)).min().expect("five");
    let (few, many) = (fastest(1_000), fastest(16_000));
    // Sixteen times as long as that, did each look at all the others.
    assert!(many < 16 * few * 5, "{few:?} for 1,000, {many:?} for 16,000");
}
