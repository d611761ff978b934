//! What goes out when.

use super::world::{World, limits, room, user};
use crate::room::{Limits, Source};

fn quiet() -> Limits {
    // Without what a room tells by itself.
    Limits { levels: vec![], ranking_every: std::time::Duration::from_secs(3_600), ..limits() }
}

#[test]
fn a_gift_goes_at_once_and_first_chat_in_10_ms_the_rest_later() {
    let mut world = World::new(quiet());
    world.pass(5_000);
    world.take_told();
    let (room, ann) = (room(0), user(1));
    world.gift(room.clone(), ann.clone(), 0);
    world.read_all();
    world.pass(0);
    // The first gift brings the first ranking; now it is quiet for an hour.
    world.pass(1_000);
    world.take_told();
    world.event(room.clone(), pushmesh_protocol::room::RoomHappening::State(Default::default()));
    world.like(0, room.clone(), 3);
    world.chat(room.clone(), Some(ann.clone()));
    world.chat(room.clone(), Some(ann.clone()));
    world.like(1, room.clone(), 4);
    world.gift(room.clone(), ann.clone(), 0);
    world.read_all();
    world.pass(250);
    assert_eq!(
        world.take_told(),
        [
            "6000 high! all: gift 1>4",
            "6010 high all: chat 0>2, chat 2>3",
            "6050 normal all: state 0>1",
            "6200 low all: like {\"count\":7,\"total\":7}",
        ]
    );
}

#[test]
fn gifts_go_before_chat_in_one_batch_where_both_are_due() {
    let mut world = World::new(quiet());
    let room = room(0);
    world.chat(room.clone(), None);
    world.read_all();
    world.pass(9);
    // The owner is busy for a while.
    world.now += 5;
    world.gift(room.clone(), user(1), 0);
    world.read_all();
    world.told.clear();
    world.pass(0);
    let (_, batch) = &world.told[0];
    assert_eq!((batch.frames.len(), batch.frames[0].urgent, batch.frames[1].urgent), (2, true, false));
}

#[test]
fn much_chat_goes_before_its_time_in_frames_of_a_segment() {
    let mut world = World::new(quiet());
    for _ in 0..400 {
        world.chat(room(0), Some(user(1)));
    }
    world.read_on(Source::Chats, 100);
    world.pass(0);
    assert!(world.told.is_empty(), "so much may wait");
    world.read_on(Source::Chats, 300);
    world.pass(0);
    assert_eq!(world.told.len(), 1);
    let sizes: Vec<_> = world.told[0].1.frames.iter().map(|frame| frame.frame.len()).collect();
    assert!(
        sizes.len() > 10 && sizes[..sizes.len() - 1].iter().all(|size| (1_300..=1_396).contains(size)),
        "{sizes:?}"
    );
}

#[test]
fn one_publish_is_bounded() {
    let mut world = World::new(Limits { batch_max_bytes: 4_000, ..quiet() });
    for _ in 0..400 {
        world.chat(room(0), None);
    }
    world.read_all();
    world.pass(20);
    let frames = |batch: &pushmesh_protocol::room::RoomBatch| batch.frames.iter().map(|frame| frame.frame.len()).sum();
    let bytes: Vec<usize> = world.told.iter().map(|(_, batch)| frames(batch)).collect();
    assert!(bytes.len() > 4 && bytes.iter().all(|bytes| *bytes <= 4_000), "{bytes:?}");
}

#[test]
fn heads_are_repeated_for_half_a_minute_after_the_last_word() {
    let mut world = World::new(quiet());
    world.chat(room(0), None);
    world.read_all();
    world.pass(60_000);
    let heads: Vec<_> = world.take_told().into_iter().filter(|line| line.contains("heads")).collect();
    assert_eq!(heads.len(), 15, "{heads:?}");
    assert_eq!((&*heads[0], &*heads[14]), ("2000 low all: heads 0 1 0", "30000 low all: heads 0 1 0"));
}

#[test]
fn heads_never_overtake_what_they_name() {
    let mut world = World::new(quiet());
    world.chat(room(0), None);
    world.read_all();
    world.pass(1_995);
    world.chat(room(0), None);
    world.read_all();
    world.take_told();
    world.pass(5);
    // The chat had 5 ms left.
    assert_eq!(world.take_told(), ["2000 high all: chat 1>2", "2000 low all: heads 0 2 0"]);
}

#[test]
fn a_new_owner_tells_heads_and_asks_who_is_here() {
    let mut world = World::new(quiet());
    world.chat(room(0), None);
    world.read_all();
    world.pass(1_000);
    world.store(|_| false, true);
    world.take_told();
    world.take_over();
    world.pass(2_000);
    assert_eq!(
        world.take_told(),
        ["1000 low order: Recount", "1000 low all: heads 0 1 0", "3000 low all: heads 0 1 0"]
    );
}
