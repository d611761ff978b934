//! What a room tells of itself, and what it answers.

use pushmesh_protocol::{
    Instance, Token,
    frame::{Chain, Ranked, Role, RoomPosition, RoomState, item},
    room::{JoinAsk, Note, RoomAnswer, RoomCount, RoomEvent, RoomHappening, RoomOrder, RoomPresence},
};

use super::{
    client::Client,
    streams::{High, Low},
    world::{World, limits, room, user},
};
use crate::room::{Asked, Event, Limits, NotRecovered, Sources};

fn ask(n: u8, resume: Option<RoomPosition>) -> JoinAsk {
    JoinAsk { room: room(0), user: user(n), resume, trace: None }
}

fn lines(world: &mut World, of: &str) -> Vec<String> {
    world.take_told().into_iter().filter(|line| line.contains(of)).collect()
}

#[test]
fn the_ranking_is_told_at_most_every_second_and_the_first_to_reach_a_total_stands_above() {
    let mut world = World::new(Limits { levels: vec![], ..limits() });
    world.pass(1_000);
    world.gift(room(0), user(2), 10);
    world.gift(room(0), user(1), 10);
    world.read_all();
    world.pass(500);
    assert_eq!(
        lines(&mut world, "ranking"),
        [
            "1050 normal all: ranking {\"top\":[{\"user\":\"user2\",\"total\":10},{\"user\":\"user1\",\"total\":10}],\"gifts_total\":20}"
        ]
    );
    for value in 1..=5 {
        world.gift(room(0), user(1), value);
        world.read_all();
        world.pass(100);
    }
    world.pass(5_000);
    let told = lines(&mut world, "ranking");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("2050 normal all: ranking {\"top\":[{\"user\":\"user1\",\"total\":25}"), "{told:?}");
    let ranked = |n, total| Ranked { user: user(n), total };
    assert_eq!(world.rankings[&room(0)], [ranked(1, 25), ranked(2, 10)]);
    let Asked::Answer(RoomAnswer::Ranking { top, gifts_total }) = world.rooms.ranking(&room(0), 1) else { panic!() };
    assert_eq!((top, gifts_total), (vec![ranked(1, 25)], 35));
}

#[test]
fn a_level_is_stored_once_and_told_as_it_comes_back() {
    let mut world = World::new(limits());
    world.gift(room(0), user(1), 70);
    world.read_all();
    world.pass(1_000);
    assert_eq!(world.levels.len(), 1);
    world.gift(room(0), user(1), 70);
    world.read_all();
    world.pass(1_000);
    assert_eq!(lines(&mut world, "level"), ["1200 low all: level {\"user\":\"user1\",\"level\":1,\"total\":70}",]);
    world.read_all();
    world.pass(1_000);
    assert_eq!(lines(&mut world, "level"), ["2200 low all: level {\"user\":\"user1\",\"level\":2,\"total\":140}"]);
    world.settle();
    world.take_over();
    world.settle();
    assert_eq!((world.levels.len(), lines(&mut world, "level").len()), (2, 0));
}

#[test]
fn who_is_kicked_sees_it_and_goes() {
    let mut world = World::new(limits());
    world.event(room(0), RoomHappening::Kick { user: user(1) });
    world.event(room(0), RoomHappening::State(RoomState::default()));
    world.read_all();
    world.pass(100);
    let kick = format!("{:?}", RoomOrder::Kick { user: user(1) });
    let order = format!("50 normal order: {kick}");
    assert_eq!(world.take_told(), ["50 normal all: kick 0>1", &order, "50 normal all: state 1>2"]);
}

#[test]
fn names_of_who_comes_and_goes_are_told_in_small_rooms_alone() {
    let mut world = World::new(Limits { notices_up_to: 3, ..limits() });
    let report = |world: &mut World, members, came: &[u8], went: &[u8]| {
        let names = |of: &[u8]| of.iter().map(|n| user(*n)).collect();
        let rooms = vec![RoomCount { room: room(0), members, came: names(came), went: names(went) }];
        let comet = Instance::new("comet").unwrap();
        world.apply(Event::Presence(RoomPresence { comet, comet_epoch: 1, whole: false, rooms }));
        world.pass(2_500);
        lines(world, "presence").concat()
    };
    assert!(report(&mut world, 1, &[1], &[]).ends_with("presence {\"present\":1,\"came\":[\"user1\"]}"));
    // As many as before, but others.
    assert!(report(&mut world, 1, &[2], &[1]).ends_with("{\"present\":1,\"came\":[\"user2\"],\"went\":[\"user1\"]}"));
    assert!(report(&mut world, 4, &[3, 4, 5], &[]).ends_with("presence {\"present\":4}"));
    assert_eq!(report(&mut world, 4, &[], &[]), "", "nothing changed");
    world.pass(40_000);
    assert!(lines(&mut world, "presence").concat().ends_with("presence {\"present\":0}"), "the comet is silent");
}

#[test]
fn a_chat_of_somebody_muted_is_told_to_nobody_and_counted() {
    let mut world = World::new(limits());
    world.mute(room(0), user(1));
    world.pass(10);
    world.chat(room(0), Some(user(1)));
    world.chat(room(0), Some(user(2)));
    world.chat(room(1), Some(user(1)));
    world.read_all();
    world.pass(100);
    assert_eq!(lines(&mut world, "chat"), ["20 high all: chat 0>2", "20 high all: chat 0>3"]);
    assert_eq!(world.rooms.take_tally().muted, 1);
}

/// Somebody who comes back to where he left the room, and gets what he missed from the stream.
fn come_back(world: &mut World, at: Option<RoomPosition>) {
    let mut client = Client::new(&user(9), &room(0));
    client.at = at;
    world.clients.push(client);
    world.settle();
}

fn unmute(world: &mut World, n: u8) {
    world.mutes_end();
    world.apply(Event::Mute { room: Some(room(0)), user: user(n), mute: None });
}

#[test]
fn what_somebody_muted_says_in_a_type_of_class_normal_is_told_to_nobody_now_or_later() {
    let mut world = World::new(limits());
    come_back(&mut world, None);
    let left_at = world.clients[0].at;
    world.mute(room(0), user(1));
    world.pass(10);
    let say = |world: &mut World, by: u8| {
        let what = RoomHappening::Message { kind: Token::new("wave").unwrap(), data: "hello".into() };
        world.streams.normal.push(RoomEvent { room: room(0), by: Some(user(by)), at: world.now, what, trace: None });
    };
    for by in [1, 2, 1] {
        say(&mut world, by);
    }
    // He may still keep order.
    let what = RoomHappening::State(RoomState::default());
    world.streams.normal.push(RoomEvent { room: room(0), by: Some(user(1)), at: world.now, what, trace: None });
    world.settle();
    assert_eq!(world.clients[0].offsets(Chain::Normal), [2, 4]);
    assert_eq!(world.rooms.take_tally().muted, 2);
    // The next owner knows of no mute, and memory holds four.
    unmute(&mut world, 1);
    world.take_over();
    for _ in 0..10 {
        say(&mut world, 2);
    }
    world.settle();
    come_back(&mut world, left_at);
    let expected: Vec<u64> = [2, 4].into_iter().chain(5..=14).collect();
    assert_eq!((world.clients[1].offsets(Chain::Normal), world.clients[1].gaps), (expected, 0));
    say(&mut world, 2);
    world.read_all();
    let Asked::Answer(RoomAnswer::Skipped { normal, normal_forgotten, .. }) = world.rooms.skipped(&room(0)) else {
        panic!()
    };
    assert_eq!((normal, normal_forgotten), (vec![1, 3], 0));
}

#[test]
fn what_somebody_muted_says_in_a_type_of_class_low_is_told_to_nobody() {
    let mut world = World::new(limits());
    world.mute(room(0), user(1));
    world.pass(10);
    for (kind, from) in [("poke", 1), ("poke", 2), (item::LEVEL, 1)] {
        let (kind, data) = (Token::new(kind).unwrap(), format!("of user{from}").as_str().into());
        world.streams.low.push(Low::Note(Note { room: room(0), kind, from: Some(user(from)), at: world.now, data }));
    }
    world.read_all();
    world.pass(1_000);
    let told: Vec<_> = lines(&mut world, "of user");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("all: poke of user2, level of user1"), "a level-up is not his own word: {told:?}");
    assert_eq!(world.rooms.take_tally().muted, 1);
}

#[test]
fn a_gift_of_somebody_muted_counts_and_is_told_without_its_note_now_and_later() {
    let mut world = World::new(Limits { levels: vec![], ..limits() });
    come_back(&mut world, None);
    let left_at = world.clients[0].at;
    world.mute(room(0), user(1));
    world.pass(10);
    let give = |world: &mut World, from: u8| {
        world.gift(room(0), user(from), 5);
        let Some(High::Gift(gift)) = world.streams.high.last_mut() else { panic!("it was given") };
        gift.note = Some("hello".to_owned());
    };
    for from in [1, 2] {
        give(&mut world, from);
    }
    world.settle();
    let notes = |client: &Client| {
        let gifts = client.seen.iter().filter(|item| item.chain == Chain::Gifts);
        gifts.map(|item| item::read::<item::Gift>(&item.data).unwrap().note.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(notes(&world.clients[0]), [false, true]);
    assert_eq!(world.rooms.take_tally().muted, 1);
    unmute(&mut world, 1);
    world.take_over();
    for _ in 0..4 {
        give(&mut world, 1);
    }
    world.settle();
    come_back(&mut world, left_at);
    assert_eq!(notes(&world.clients[1]), [false, true, true, true, true, true]);
    give(&mut world, 2);
    world.read_all();
    let Asked::Answer(RoomAnswer::Skipped { offsets, forgotten, .. }) = world.rooms.skipped(&room(0)) else { panic!() };
    assert_eq!((offsets, forgotten), (vec![1], 0));
    let Asked::Answer(RoomAnswer::Ranking { gifts_total, .. }) = world.rooms.ranking(&room(0), 1) else { panic!() };
    assert_eq!(gifts_total, 35, "the muted one's too");
}

#[test]
fn of_more_muted_lines_than_it_remembers_it_says_where_it_has_forgotten() {
    let mut world = World::new(limits());
    world.mute(room(0), user(1));
    world.pass(10);
    for _ in 0..260 {
        world.chat(room(0), Some(user(1)));
    }
    world.read_all();
    let Asked::Answer(RoomAnswer::Skipped { offsets, forgotten, .. }) = world.rooms.skipped(&room(0)) else { panic!() };
    assert_eq!((offsets.len(), forgotten), (256, 4));
}

#[test]
fn a_join_is_answered_with_what_a_screen_needs() {
    let mut world = World::new(limits());
    world.role(room(0), user(1), Some(Role::Host));
    world.mute(room(0), user(1));
    world.present(room(0), 7);
    world.gift(room(0), user(2), 30);
    world.chat(room(0), Some(user(3)));
    world.event(room(0), RoomHappening::State(RoomState::default()));
    world.like(0, room(0), 9);
    world.read_all();
    let Asked::Answer(RoomAnswer::Joined(answer)) = world.rooms.join(&ask(1, None), Sources::Memory, world.now) else {
        panic!()
    };
    let joined = &answer.joined;
    assert_eq!((answer.epoch, answer.overseer, answer.missed.len()), (1, true, 0));
    assert_eq!((joined.role, joined.muted_until, joined.present), (Some(Role::Host), Some(1_000), 7));
    assert_eq!(joined.top, [Ranked { user: user(2), total: 30 }]);
    assert_eq!((joined.gifts_total, joined.likes_total, joined.recovered), (30, 9, true));
    assert_eq!(joined.position, RoomPosition { epoch: super::world::STREAMS, gifts: 1, high: 2, normal: 1 });
}

#[test]
fn who_comes_back_from_other_streams_or_from_before_them_is_told_of_a_gap() {
    let mut world = World::new(limits());
    world.chat(room(0), None);
    world.read_all();
    let recovered = |world: &mut World, epoch, high| {
        let resume = RoomPosition { epoch, gifts: 0, high, normal: 0 };
        match world.rooms.join(&ask(1, Some(resume)), Sources::Memory, 0) {
            Asked::Answer(RoomAnswer::Joined(answer)) => (answer.joined.recovered, answer.missed.len()),
            other => panic!("{other:?}"),
        }
    };
    let epoch = super::world::STREAMS;
    assert_eq!(recovered(&mut world, epoch, 0), (true, 1));
    assert_eq!(recovered(&mut world, epoch, 1), (true, 0));
    assert_eq!(recovered(&mut world, epoch, 2), (false, 0), "what it saw is not there");
    assert_eq!(recovered(&mut world, epoch + 1, 1), (false, 0));
    for _ in 0..10 {
        world.chat(room(0), None);
    }
    world.read_all();
    let resume = Some(RoomPosition { epoch, gifts: 0, high: 2, normal: 0 });
    assert!(matches!(world.rooms.join(&ask(1, resume), Sources::Memory, 0), Asked::Read(_)), "memory keeps four");
    let Asked::Answer(RoomAnswer::Joined(answer)) =
        world.rooms.join(&ask(1, resume), Sources::Without(NotRecovered::Unread), 0)
    else {
        panic!()
    };
    assert_eq!((answer.joined.recovered, answer.joined.position.high), (false, 11));
}

#[test]
fn too_much_is_a_gap_too() {
    let few = Limits { tail_items: 1_000, recover_items: 5, ..limits() };
    let small = Limits { tail_items: 1_000, recover_bytes: 500, ..limits() };
    for (limits, count) in [(few, 6), (small, 30)] {
        let mut world = World::new(limits);
        for _ in 0..count {
            world.chat(room(0), None);
        }
        world.read_all();
        let mut recovered = |high| {
            let resume = RoomPosition { epoch: super::world::STREAMS, gifts: 0, high, normal: 0 };
            match world.rooms.join(&ask(1, Some(resume)), Sources::Memory, 0) {
                Asked::Answer(RoomAnswer::Joined(answer)) => answer.joined.recovered,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([recovered(0), recovered(count - 2)], [false, true]);
    }
}

#[test]
fn a_closed_room_takes_nobody_and_a_take_over_answers_later() {
    let mut world = World::new(limits());
    let closed = RoomState { open: false, ..RoomState::default() };
    world.apply(Event::State { room: room(0), state: Some(closed) });
    assert_eq!(world.rooms.join(&ask(1, None), Sources::Memory, 0), Asked::Answer(RoomAnswer::Closed));
    world.chat(room(0), None);
    world.take_over();
    assert_eq!(world.rooms.join(&ask(1, None), Sources::Memory, 0), Asked::Answer(RoomAnswer::NotReady));
    world.read_all();
    assert!(matches!(world.rooms.join(&ask(1, None), Sources::Memory, 0), Asked::Answer(RoomAnswer::Joined(_))));
}

#[test]
fn asking_for_a_room_makes_none() {
    let mut world = World::new(limits());
    assert!(matches!(world.rooms.join(&ask(1, None), Sources::Memory, 0), Asked::Answer(RoomAnswer::Joined(_))));
    assert!(matches!(world.rooms.info(&room(0)), Asked::Answer(RoomAnswer::Info(_))));
    assert_eq!(world.rooms.awake(), 0);
}
