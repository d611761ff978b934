//! A room that is cut and merged.

use pushmesh_protocol::{
    frame::{Role, RoomPosition},
    room::{JoinAsk, RoomAnswer, part_of},
};

use super::{
    client::{Client, State},
    world::{STREAMS, World, limits, room, user},
};
use crate::room::{Asked, Limits, Sources};

/// Two users of different parts, where there are two.
fn pair() -> (u8, u8) {
    let one = (0..).find(|n| part_of(&user(*n), 2) == 0).unwrap();
    (one, (0..).find(|n| part_of(&user(*n), 2) == 1).unwrap())
}

fn told(world: &mut World) -> Vec<String> {
    world.read_all();
    world.pass(20);
    let lines = world.take_told().into_iter().filter(|line| line.contains("high"));
    // Without the time.
    lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn each_part_has_a_chain_of_its_own_and_all_begin_where_the_whole_stands() {
    let mut world = World::new(Limits { levels: vec![], ..limits() });
    let (a, b) = pair();
    world.chat(room(0), Some(user(a)));
    assert_eq!(told(&mut world), ["high all: chat 0>1"]);
    world.present(room(0), 11);
    world.pass(1_000);
    assert_eq!(told(&mut world), ["high all: parts 1>1"]);
    for from in [Some(user(a)), Some(user(b)), Some(user(a)), None] {
        world.chat(room(0), from);
    }
    assert_eq!(told(&mut world), ["high 0/2: chat 1>2, chat 2>4, chat 4>5", "high 1/2: chat 1>3, chat 3>5"]);
    world.chat(room(0), Some(user(a)));
    told(&mut world);
    world.present(room(0), 0);
    world.pass(4_000);
    assert_eq!(told(&mut world), ["high 0/2: parts 6>6", "high 1/2: parts 5>6"]);
    world.chat(room(0), Some(user(b)));
    assert_eq!(told(&mut world), ["high all: chat 6>7"]);
    let tally = world.rooms.take_tally();
    assert_eq!((tally.cuts, tally.merges), (1, 1));
}

#[test]
fn overseers_see_all_and_are_moved_where_their_part_was_behind() {
    let mut world = World::new(limits());
    let (a, b) = pair();
    world.chat(room(0), Some(user(a)));
    world.present(room(0), 11);
    world.read_all();
    world.pass(1_000);
    world.chat(room(0), Some(user(b)));
    told(&mut world);
    world.role(room(0), user(a), Some(Role::Admin));
    world.chat(room(0), Some(user(b)));
    assert_eq!(
        told(&mut world),
        [
            &format!("high user{a}: parts 1>2"),
            &format!("high order: Oversee {{ user: UserId(user{a}), overseer: true }}"),
            "high overseers: chat 2>3",
            "high 1/2: chat 2>3"
        ]
    );
    world.role(room(0), user(a), None);
    world.chat(room(0), Some(user(a)));
    let lines = told(&mut world);
    assert_eq!(lines[1], "high 0/2: chat 1>4");
    assert!(lines[0].ends_with("overseer: false }"));
}

#[test]
fn heads_and_positions_are_those_of_the_part() {
    let mut world = World::new(limits());
    let (a, b) = pair();
    world.present(room(0), 11);
    world.pass(1_000);
    world.chat(room(0), Some(user(a)));
    world.chat(room(0), Some(user(b)));
    world.read_all();
    world.take_told();
    world.pass(2_000);
    let heads: Vec<_> = world.take_told().into_iter().filter(|line| line.contains("heads")).collect();
    let expected = ["0/2: heads 0 1 0", "1/2: heads 0 2 0", "overseers: heads 0 2 0"];
    assert_eq!(heads.iter().map(|line| line.split_once("low ").unwrap().1).collect::<Vec<_>>(), expected);
    let mut high = |n| {
        let ask = JoinAsk { room: room(0), user: user(n), resume: None, trace: None };
        match world.rooms.join(&ask, Sources::Memory, world.now) {
            Asked::Answer(RoomAnswer::Joined(answer)) => answer.joined.position.high,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((high(a), high(b)), (1, 2));
}

#[test]
fn who_returns_is_told_what_his_part_was_told_then_and_led_to_where_it_stands_now() {
    let mut world = World::new(Limits { tail_items: 100, ..limits() });
    let (a, b) = pair();
    for from in [a, b] {
        world.chat(room(0), Some(user(from)));
    }
    world.read_all();
    world.present(room(0), 11);
    world.pass(1_000);
    for from in [a, b, b] {
        world.chat(room(0), Some(user(from)));
    }
    world.read_all();
    world.present(room(0), 0);
    world.pass(10_000);
    let mut client = Client::new(&user(a), &room(0));
    client.at = Some(RoomPosition { epoch: STREAMS, gifts: 0, high: 0, normal: 0 });
    world.clients.push(client);
    world.ask();
    let client = &world.clients[0];
    assert_eq!(client.state, State::In);
    let seen: Vec<_> = client.seen.iter().map(|item| (item.kind.to_string(), item.prev, item.offset)).collect();
    let item = |kind: &str, prev, offset| (kind.to_owned(), prev, offset);
    assert_eq!(seen, [item("chat", 0, 1), item("chat", 1, 2), item("chat", 2, 3), item("parts", 3, 5)]);
}

#[test]
fn a_room_that_is_loud_is_cut_and_one_that_is_told_late_is_not() {
    for (late, cuts) in [(0, 1), (60_000, 0)] {
        let mut world = World::new(limits());
        for _ in 0..60 {
            for n in 0..8 {
                world.chat(room(0), Some(user(n)));
            }
            world.now += late;
            world.read_all();
            world.now -= late;
            world.pass(50);
        }
        assert_eq!(world.rooms.take_tally().cuts, cuts, "told {late} ms late");
    }
}
