//! A chain in which little is said, in a stream that drops its oldest because of others.

use pushmesh_protocol::{
    frame::{RoomPosition, RoomState},
    room::{JoinAsk, RoomAnswer, RoomHappening},
};

use super::world::{World, limits, room, user};
use crate::room::{Asked, Past, Sources};

/// Something in each chain of a room; returns where they stand.
fn say(world: &mut World, of: u8) -> RoomPosition {
    let gifts = world.gift(room(of), user(1), 1);
    let high = world.chat(room(of), Some(user(1)));
    let normal = world.event(room(of), RoomHappening::State(RoomState::default()));
    RoomPosition { epoch: super::world::STREAMS, gifts, high, normal }
}

fn others_talk(world: &mut World) {
    for _ in 0..50 {
        say(world, 1);
    }
}

/// All is applied and stored, and another owner comes.
fn another_owner(world: &mut World) {
    world.read_all();
    world.pass(1_000);
    world.store(|_| false, true);
    world.take_over();
    world.read_all();
    world.pass(1_000);
}

/// Whether somebody who comes back to the first room gets all that he missed.
fn comes_back(world: &mut World, resume: RoomPosition) -> bool {
    let ask = JoinAsk { room: room(0), user: user(2), resume: Some(resume), trace: None };
    let asked = match world.rooms.join(&ask, Sources::Memory, world.now) {
        Asked::Read(past) => {
            let past = Past {
                gifts: past.gifts.map(|span| world.streams.past_gifts(&room(0), span)),
                high: past.high.map(|span| world.streams.past_chat(&room(0), span)),
                normal: past.normal.map(|span| world.streams.past_events(&room(0), span)),
            };
            world.rooms.join(&ask, Sources::With(&past), world.now)
        }
        asked => asked,
    };
    let Asked::Answer(RoomAnswer::Joined(answer)) = asked else { panic!("{asked:?}") };
    assert_eq!(answer.missed.is_empty(), !answer.joined.recovered);
    answer.joined.recovered
}

#[test]
fn who_missed_nothing_of_what_is_gone_is_told_everything_else() {
    let mut world = World::new(limits());
    let nothing = RoomPosition { epoch: super::world::STREAMS, ..RoomPosition::default() };
    others_talk(&mut world);
    let first = say(&mut world, 0);
    others_talk(&mut world);
    let second = say(&mut world, 0);
    others_talk(&mut world);
    let third = say(&mut world, 0);
    another_owner(&mut world);
    // Everything before the first word in the room.
    world.drop_oldest(first.gifts as usize - 1, first.normal as usize - 1);
    assert!([nothing, first, second].into_iter().all(|resume| comes_back(&mut world, resume)));
    // One of each chain is gone, and much more.
    world.drop_oldest(70, 30);
    assert!(world.streams.gone.0 > first.high as usize && world.streams.gone.1 > first.normal as usize);
    assert!(!comes_back(&mut world, nothing));
    assert!(comes_back(&mut world, first) && comes_back(&mut world, second));
    // The second of gifts, and not yet of chat.
    world.drop_oldest(second.gifts as usize - world.streams.gone.0, 0);
    assert!(!comes_back(&mut world, first));
    assert!(comes_back(&mut world, RoomPosition { gifts: second.gifts, ..first }));
    // All.
    world.drop_oldest(1_000, 1_000);
    assert!(!comes_back(&mut world, RoomPosition { normal: second.normal, ..third }));
    assert!(!comes_back(&mut world, second));
}

#[test]
fn an_owner_whose_record_does_not_reach_back_claims_nothing() {
    let mut world = World::new(limits());
    let first = say(&mut world, 0);
    let mut second = first;
    for _ in 0..200 {
        second = say(&mut world, 0);
    }
    say(&mut world, 0);
    another_owner(&mut world);
    assert!(comes_back(&mut world, first), "the streams hold everything");
    world.drop_oldest(first.high as usize, 0);
    assert!(!comes_back(&mut world, first), "nothing of his is gone, but nobody knows");
    world.drop_oldest((second.high - first.high) as usize, 0);
    assert!(comes_back(&mut world, second));
}
