//! Rooms that nobody is in.

use std::time::Duration;

use pushmesh_protocol::{
    frame::RoomPosition,
    room::{JoinAsk, RoomAnswer},
};

use super::world::{STREAMS, World, limits, room, user};
use crate::room::{Asked, Effect, Limits, Source, Sources};

#[test]
fn a_room_without_people_and_words_leaves_memory_once_it_is_stored() {
    let mut world = World::new(limits());
    world.gift(room(0), user(0), 5);
    world.read_all();
    world.pass(60_000);
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (1, 0), "it is not stored");
    world.store(|_| false, true);
    world.present(room(0), 1);
    // Said again every 10 s, as comets do.
    for _ in 0..6 {
        world.pass(10_000);
        world.recount();
    }
    world.store(|_| false, true);
    assert_eq!(world.rooms.awake(), 1, "somebody is there");
    world.present(room(0), 0);
    world.pass(30_000);
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (0, 1));
}

#[test]
fn a_sleeping_room_is_woken_by_what_needs_it_and_has_lost_nothing() {
    let mut world = World::new(limits());
    world.gift(room(0), user(0), 60);
    world.gift(room(0), user(1), 5);
    world.like(0, room(0), 3);
    world.settle();
    world.pass(60_000);
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (0, 1));
    let position = RoomPosition { epoch: STREAMS, gifts: 2, high: 0, normal: 0 };
    let ask = JoinAsk { room: room(0), user: user(0), resume: Some(position), trace: None };
    assert_eq!(world.rooms.join(&ask, Sources::Memory, world.now), Asked::Asleep(room(0)));
    assert_eq!(world.rooms.info(&room(0)), Asked::Asleep(room(0)));
    assert_eq!(world.rooms.ranking(&room(0), 10), Asked::Asleep(room(0)));
    let gift = world.gift(room(0), user(1), 6);
    world.like(0, room(0), 4);
    // A message of another room passes by.
    world.chat(room(1), None);
    world.read_all();
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (2, 0));
    let Asked::Answer(RoomAnswer::Joined(answer)) = world.rooms.join(&ask, Sources::Memory, world.now) else {
        panic!()
    };
    assert_eq!((answer.joined.gifts_total, answer.joined.likes_total), (71, 7));
    assert_eq!((answer.joined.position.gifts, answer.missed.len()), (gift, 1));
    assert_eq!(answer.joined.top.iter().map(|ranked| ranked.total).collect::<Vec<_>>(), [60, 11]);
    assert_eq!(world.levels.len(), 1, "a level is reached once");
}

#[test]
fn at_a_take_over_rooms_stay_asleep_until_they_are_needed() {
    let mut world = World::new(limits());
    for n in 0..10 {
        world.chat(room(n), None);
    }
    world.settle();
    world.pass(60_000);
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (0, 10));
    world.take_over();
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (0, 10));
    world.chat(room(3), None);
    world.read_on(Source::Chats, 1);
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (1, 9));
}

#[test]
fn a_room_with_a_level_up_that_may_not_be_stored_does_not_sleep_over_a_take_over() {
    let mut world = World::new(limits());
    world.gift(room(0), user(0), 60);
    world.read_on(Source::Gifts, 1);
    // Asked for, and lost with its owner.
    let effects = world.rooms.tick(world.now);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Level { .. })));
    world.store(|_| false, true);
    world.now += 60_000;
    world.take_over();
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (1, 0));
    world.pass(1_000);
    assert_eq!(world.levels.len(), 1);
    world.read_all();
    world.store(|_| false, true);
    world.now += 60_000;
    world.take_over();
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (0, 1));
}

#[test]
fn half_a_room_is_not_woken() {
    let mut world = World::new(limits());
    world.gift(room(0), user(0), 60);
    world.settle();
    world.pass(60_000);
    let entries = world.bucket.iter().map(|(key, (value, revision))| {
        let value = if key.starts_with("u.") { "junk".into() } else { value.clone() };
        (key.clone(), value, *revision)
    });
    assert!(world.rooms.wake(&room(0), entries.collect::<Vec<_>>(), world.now).is_err());
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (0, 1));
}

#[test]
fn a_room_is_over_when_nothing_was_said_for_long_by_both_clocks() {
    let after = Duration::from_secs(3_600);
    let mut world = World::new(Limits { forget_after: Some(after), ..limits() });
    world.gift(room(0), user(0), 5);
    world.gift(room(1), user(0), 5);
    world.settle();
    world.pass(60_000);
    assert_eq!(world.rooms.asleep(), 2);
    let said = world.now;
    world.now += after.as_millis() as u64;
    assert_eq!(world.rooms.forgettable(world.now), None, "nobody knows what time it is at the server");
    world.rooms.stored_at(Source::Chats, world.now);
    assert_eq!(world.rooms.forgettable(said), None);
    for _ in 0..2 {
        let over = world.rooms.forgettable(world.now).unwrap();
        world.rooms.forgotten(&over);
    }
    assert_eq!((world.rooms.forgettable(world.now), world.rooms.asleep()), (None, 0));
    assert_eq!(world.rooms.take_tally().forgotten, 2);
    // What there is anew is another room, of the same name.
    world.gift(room(0), user(0), 7);
    world.read_all();
    assert_eq!((world.rooms.awake(), world.rooms.asleep()), (1, 0));
}
