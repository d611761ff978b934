//! Many who ask at once.

use pushmesh_protocol::{
    frame::{Role, RoomPosition},
    room::{JoinAnswer, JoinAsk, JoinsAnswer, JoinsAsk, RoomAnswer},
};

use super::world::{STREAMS, World, limits, room, user};
use crate::room::{Asked, Limits, NotRecovered, Past, PastAsk, Sources};

fn at(high: u64) -> Option<RoomPosition> {
    Some(RoomPosition { epoch: STREAMS, gifts: 0, high, normal: 0 })
}

fn ask(users: impl IntoIterator<Item = u8>, resume: Option<RoomPosition>) -> JoinsAsk {
    JoinsAsk { room: room(0), users: users.into_iter().map(user).collect(), resume, trace: None }
}

fn past(world: &World, ask: PastAsk) -> Past {
    Past {
        gifts: ask.gifts.map(|span| world.streams.past_gifts(&room(0), span)),
        high: ask.high.map(|span| world.streams.past_chat(&room(0), span)),
        normal: ask.normal.map(|span| world.streams.past_events(&room(0), span)),
    }
}

fn answer(asked: Asked) -> JoinsAnswer {
    match asked {
        Asked::Answer(RoomAnswer::JoinedAll(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

/// Reads as often as it has to.
fn alone(world: &mut World, n: u8, resume: Option<RoomPosition>) -> JoinAnswer {
    let ask = JoinAsk { room: room(0), user: user(n), resume, trace: None };
    let mut asked = world.rooms.join(&ask, Sources::Memory, world.now);
    loop {
        asked = match asked {
            Asked::Answer(RoomAnswer::Joined(answer)) => return *answer,
            Asked::Read(needs) => {
                let past = past(world, needs);
                world.rooms.join(&ask, Sources::With(&past), world.now)
            }
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn who_asks_with_others_is_told_what_he_would_be_told_alone() {
    let mut world = World::new(limits());
    world.role(room(0), user(1), Some(Role::Host));
    world.mute(room(0), user(2));
    // Whole, in two parts, in four, in two again.
    for members in [5, 15, 40, 8] {
        world.present(room(0), members);
        world.pass(20_000);
        for from in 0..12 {
            world.chat(room(0), Some(user(from)));
            world.gift(room(0), user(from), 1);
        }
        world.read_all();
        world.pass(100);
    }
    for resume in [None, at(0), at(30), at(60), at(96), at(5_000)] {
        let ask = ask(0..12, resume);
        let mut asked = world.rooms.joins(&ask, Sources::Memory, world.now);
        if let Asked::Read(needs) = asked {
            asked = world.rooms.joins(&ask, Sources::With(&past(&world, needs)), world.now);
        }
        let JoinsAnswer { views, users, .. } = answer(asked);
        assert!(views.len() <= 5, "{resume:?}: four parts, and the host");
        for (n, user) in (0..12).zip(users) {
            let view = &views[usize::from(user.view.unwrap())];
            let alone = alone(&mut world, n, resume);
            assert_eq!((user.told(view), &view.missed), (alone.joined, &alone.missed), "{n} from {resume:?}");
            assert_eq!(user.role.is_some(), alone.overseer);
        }
    }
}

#[test]
fn what_was_read_for_one_serves_all_behind_him() {
    let mut world = World::new(limits());
    for n in 0..50 {
        world.chat(room(0), Some(user(n)));
    }
    world.read_all();
    world.store(|_| false, true);
    world.take_over();
    world.read_all();
    let Asked::Read(needs) = world.rooms.joins(&ask([1], at(5)), Sources::Memory, 0) else { panic!("memory is empty") };
    let whole = past(&world, needs);
    world.rooms.take_tally();
    for high in 5..50 {
        let told = answer(world.rooms.joins(&ask([1, 2], at(high)), Sources::With(&whole), 0));
        assert!(told.views[0].joined.recovered && !told.views[0].missed.is_empty(), "{high}");
    }
    assert!(matches!(world.rooms.joins(&ask([1], at(3)), Sources::With(&whole), 0), Asked::Read(_)));
    // Too much from there on: so it is from before it, and behind it nobody knows.
    let mut needs = needs;
    needs.high.as_mut().unwrap().max_messages = 10;
    let some = past(&world, needs);
    for (high, is_known) in [(2, true), (5, true), (6, false)] {
        let asked = world.rooms.joins(&ask([1], at(high)), Sources::With(&some), 0);
        assert_eq!(matches!(asked, Asked::Answer(_)), is_known, "{high}");
    }
    let tally = world.rooms.take_tally();
    assert_eq!((tally.joins, tally.recovered), (92, 90));
    assert_eq!(tally.not_recovered[NotRecovered::TooMuch as usize], 2);
}

#[test]
fn what_memory_knows_to_be_too_much_is_not_read() {
    let mut world = World::new(Limits { tail_items: 6, recover_items: 5, ..limits() });
    for n in 0..20 {
        world.chat(room(0), Some(user(n)));
    }
    world.read_all();
    assert!(!answer(world.rooms.joins(&ask([1, 2], at(3)), Sources::Memory, 0)).views[0].joined.recovered);
    assert!(answer(world.rooms.joins(&ask([1], at(15)), Sources::Memory, 0)).views[0].joined.recovered);
    let tally = world.rooms.take_tally();
    assert_eq!((tally.not_recovered[NotRecovered::TooMuch as usize], tally.recovered), (2, 1));
}

#[test]
fn an_answer_is_bounded_and_the_rest_asks_again() {
    let mut world = World::new(Limits { tail_items: 1_000, recover_bytes: 2_000, ..limits() });
    world.present(room(0), 500);
    world.pass(20_000);
    for n in 0..200 {
        world.chat(room(0), Some(user(n)));
    }
    world.read_all();
    let (mut waiting, mut rounds): (Vec<u8>, _) = ((0..200).collect(), 0);
    while !waiting.is_empty() {
        let JoinsAnswer { views, users, .. } =
            answer(world.rooms.joins(&ask(waiting.clone(), at(0)), Sources::Memory, 0));
        let bytes: usize = views.iter().flat_map(|view| &view.missed).map(|frame| frame.len()).sum();
        assert!(views.iter().all(|view| view.joined.recovered) && (1..=4_000).contains(&bytes), "{bytes}");
        let left = waiting.iter().zip(users).filter(|(_, user)| user.view.is_none()).map(|(n, _)| *n);
        (waiting, rounds) = (left.collect(), rounds + 1);
    }
    assert!((2..=8).contains(&rounds), "{rounds} for eight parts");
    assert_eq!(world.rooms.take_tally().joins, 200);
}
