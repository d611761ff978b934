//! The owner dies in a storm of gifts, at every point of it.

use pushmesh_protocol::{frame::Chain, room::RoomAnswer};

use super::{
    client::Client,
    world::{World, limits, room, user},
};
use crate::room::{Asked, Limits, Source};

const GIFTS: u64 = 30;

/// What the storing had come to when the owner died.
#[derive(Debug, Clone, Copy)]
enum Stored {
    Nothing,
    /// Every second record: some rows without the room, or the room without some rows.
    Some(usize),
    Records,
    Checkpoint,
}

#[test]
fn the_ledger_is_exact_and_every_gift_is_seen_once_wherever_the_owner_dies() {
    for killed_after in 1..GIFTS {
        for stored in [Stored::Nothing, Stored::Some(0), Stored::Some(1), Stored::Records, Stored::Checkpoint] {
            for told in [false, true] {
                storm(killed_after, stored, told);
            }
        }
    }
}

fn storm(killed_after: u64, stored: Stored, told: bool) {
    let mut world = World::new(Limits { idle_after: std::time::Duration::from_secs(600), ..limits() });
    world.clients.push(Client::new(&user(0), &room(0)));
    world.ask();
    for n in 0..GIFTS {
        world.gift(room(0), user((n % 5) as u8), n);
        world.read_on(Source::Gifts, 1);
        if told {
            world.pass(1);
        }
        // As always: once in a while.
        if n % 7 == 3 {
            world.store(|_| false, true);
        }
        if n + 1 == killed_after {
            match stored {
                Stored::Nothing => {}
                Stored::Some(odd) => world.store(|at| at % 2 == odd, false),
                Stored::Records => world.store(|_| false, false),
                Stored::Checkpoint => world.store(|_| false, true),
            }
            world.take_over();
        }
    }
    world.settle();
    let point = format!("killed after {killed_after}, {stored:?}, told {told}");
    assert_eq!(world.clients[0].offsets(Chain::Gifts), (1..=GIFTS).collect::<Vec<_>>(), "{point}");
    let Asked::Answer(RoomAnswer::Ranking { top, gifts_total }) = world.rooms.ranking(&room(0), 10) else { panic!() };
    assert_eq!(gifts_total, (0..GIFTS).sum::<u64>(), "{point}");
    let mut totals: Vec<u64> = (0..5).map(|user| (0..GIFTS).filter(|n| n % 5 == user).sum()).collect();
    totals.reverse();
    assert_eq!(top.iter().map(|ranked| ranked.total).collect::<Vec<_>>(), totals, "{point}");
    let levels: usize = totals.iter().map(|total| limits().levels.iter().filter(|level| *level <= total).count()).sum();
    assert_eq!(world.levels.len(), levels, "{point}");
}

#[test]
fn no_ranking_is_told_in_the_middle_of_a_replay() {
    let mut world = World::new(limits());
    world.gift(room(0), user(0), 5);
    world.read_all();
    // The room's record says that the gift is counted; its sender's was not written.
    world.store(|at| at == 0, false);
    world.take_over();
    world.pass(2_000);
    assert_eq!(world.rankings.len(), 0);
    world.read_all();
    world.pass(2_000);
    assert_eq!(world.rankings[&room(0)].len(), 1);
}

#[test]
fn a_newer_owner_that_was_undone_by_an_older_would_know() {
    let mut world = World::new(limits());
    world.gift(room(0), user(0), 5);
    world.read_all();
    world.store(|_| false, true);
    world.gift(room(0), user(0), 6);
    world.read_all();
    // The old owner stands still with this in its hands; the new one stores what it has replayed.
    let (_, late) = world.rooms.writes(world.now).unwrap();
    let late = world.rooms.entries(&late);
    world.take_over();
    world.read_all();
    world.store(|_| false, true);
    for (key, _, expected) in late {
        let stored = &world.bucket[key.as_str()];
        assert_ne!(stored.1, expected, "the late write of {key} fails");
        assert_eq!(crate::room::lease_of(&stored.0).unwrap(), 2);
    }
}

#[test]
fn nothing_to_store_is_no_write_and_one_that_is_out_is_waited_for() {
    let mut world = World::new(limits());
    assert!(world.rooms.writes(0).is_none());
    world.gift(room(0), user(0), 5);
    world.read_all();
    let (effects, writes) = world.rooms.writes(0).unwrap();
    assert_eq!((effects.is_empty(), writes.len()), (false, 2));
    world.gift(room(0), user(0), 5);
    world.read_all();
    assert!(world.rooms.writes(0).is_none(), "two would overtake each other");
    assert!(world.rooms.written(writes, &[Some(1), None], 0).is_none(), "one is missing");
    let (_, writes) = world.rooms.writes(0).unwrap();
    let revisions: Vec<_> = world.rooms.entries(&writes).iter().map(|(_, _, expected)| *expected).collect();
    assert_eq!(revisions, [1, 0]);
}
