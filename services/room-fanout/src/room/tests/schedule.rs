//! Whatever is said, lost, cut, merged and killed in which order: everybody sees what he should, once and in order, and
//! what is stored is what was said.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use pushmesh_protocol::{
    RoomId, UserId,
    frame::{Chain, Ranked, Role, RoomState},
    room::{RoomAnswer, RoomHappening, part_of},
};

use super::{
    client::{Client, State},
    streams::High,
    world::{World, limits, room, user},
};
use crate::room::{Asked, Ends, Owner, Source, record};

const USERS: u8 = 6;
const ROOMS: u8 = 2;

#[derive(Debug, Clone)]
enum Step {
    Gift {
        room: u8,
        user: u8,
        value: u64,
    },
    Chat {
        room: u8,
        user: Option<u8>,
    },
    Event {
        room: u8,
    },
    Like {
        room: u8,
        api: u8,
        count: u8,
    },
    Mute {
        room: u8,
        user: u8,
    },
    Role {
        room: u8,
        user: u8,
        role: Option<bool>,
    },
    Present {
        room: u8,
        members: u8,
    },
    Read {
        source: u8,
        count: u8,
    },
    Pass {
        millis: u16,
    },
    Ask,
    /// The connection's comet loses so many batches.
    Deaf {
        client: u8,
        batches: u8,
    },
    Leave {
        client: u8,
    },
    Store {
        losing: u16,
        checkpoint: bool,
    },
    Kill,
    /// The streams drop their oldest.
    Drop {
        high: u8,
        normal: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (room, user) = (0..ROOMS, 0..USERS);
    prop_oneof![
        6 => (room.clone(), user.clone(), 0u64..60).prop_map(|(room, user, value)| Step::Gift { room, user, value }),
        10 => (room.clone(), prop::option::weighted(0.9, user.clone())).prop_map(|(room, user)| Step::Chat { room, user }),
        2 => room.clone().prop_map(|room| Step::Event { room }),
        4 => (room.clone(), 0u8..2, 1u8..20).prop_map(|(room, api, count)| Step::Like { room, api, count }),
        1 => (room.clone(), user.clone()).prop_map(|(room, user)| Step::Mute { room, user }),
        2 => (room.clone(), user.clone(), prop::option::of(any::<bool>()))
            .prop_map(|(room, user, role)| Step::Role { room, user, role }),
        3 => (room.clone(), 0u8..50).prop_map(|(room, members)| Step::Present { room, members }),
        16 => (0u8..5, 1u8..8).prop_map(|(source, count)| Step::Read { source, count }),
        8 => prop_oneof![0u16..30, 0u16..3_000, Just(7_000u16)].prop_map(|millis| Step::Pass { millis }),
        6 => Just(Step::Ask),
        2 => (0..USERS * ROOMS, 1u8..4).prop_map(|(client, batches)| Step::Deaf { client, batches }),
        1 => (0..USERS * ROOMS).prop_map(|client| Step::Leave { client }),
        3 => (prop_oneof![Just(0u16), any::<u16>()], any::<bool>())
            .prop_map(|(losing, checkpoint)| Step::Store { losing, checkpoint }),
        1 => Just(Step::Kill),
        1 => (0u8..30, 0u8..8).prop_map(|(high, normal)| Step::Drop { high, normal }),
    ]
}

fn sources() -> [Source; 5] {
    [Source::Gifts, Source::Chats, Source::Events, Source::Likes, Source::Notes]
}

fn act(world: &mut World, step: Step) {
    match step {
        Step::Gift { room: r, user: u, value } => drop(world.gift(room(r), user(u), value)),
        Step::Chat { room: r, user: u } => drop(world.chat(room(r), u.map(user))),
        Step::Event { room: r } => drop(world.event(room(r), RoomHappening::State(RoomState::default()))),
        Step::Like { room: r, api, count } => world.like(u64::from(api), room(r), u64::from(count)),
        Step::Mute { room: r, user: u } => world.mute(room(r), user(u)),
        Step::Role { room: r, user: u, role } => {
            world.role(room(r), user(u), role.map(|host| if host { Role::Host } else { Role::Admin }));
        }
        Step::Present { room: r, members } => world.present(room(r), u32::from(members)),
        Step::Read { source, count } => world.read_on(sources()[usize::from(source)], usize::from(count)),
        Step::Pass { millis } => world.pass(u64::from(millis)),
        Step::Ask => world.ask(),
        Step::Deaf { client, batches } => world.clients[usize::from(client)].deaf_for = u32::from(batches),
        Step::Leave { client } => {
            let client = &mut world.clients[usize::from(client)];
            if client.at.is_some() {
                client.state = State::Wants;
            }
        }
        Step::Store { losing, checkpoint } => world.store(|at| losing >> (at % 16) & 1 == 1, checkpoint),
        Step::Kill => world.take_over(),
        Step::Drop { high, normal } => world.drop_oldest(usize::from(high), usize::from(normal)),
    }
}

fn everybody_saw_what_he_should(world: &World) {
    for client in &world.clients {
        assert_eq!(client.state, State::In);
        for chain in [Chain::Gifts, Chain::High, Chain::Normal] {
            let seen = client.offsets(chain);
            assert!(seen.is_sorted_by(|a, b| a < b), "{} saw {seen:?} of {chain:?}", client.user);
        }
        saw_all_gifts_and_events(world, client);
        saw_his_chat(world, client);
    }
}

fn saw_all_gifts_and_events(world: &World, client: &Client) {
    let gifts =
        (1..).zip(&world.streams.high).filter(|(_, high)| matches!(high, High::Gift(gift) if gift.room == client.room));
    let events = (1..).zip(&world.streams.normal).filter(|(_, event)| event.room == client.room);
    let told = [
        (Chain::Gifts, client.since.gifts, gifts.map(|(offset, _)| offset).collect::<BTreeSet<u64>>()),
        (Chain::Normal, client.since.normal, events.map(|(offset, _)| offset).collect()),
    ];
    for (chain, since, told) in told {
        let seen: BTreeSet<_> = client.offsets(chain).into_iter().filter(|offset| *offset > since).collect();
        let told: BTreeSet<_> = told.into_iter().filter(|offset| *offset > since).collect();
        assert_eq!(seen, told, "{} in {chain:?}", client.user);
    }
}

fn saw_his_chat(world: &World, client: &Client) {
    let seen: BTreeSet<_> = client.offsets(Chain::High).into_iter().collect();
    for (offset, high) in (1..).zip(&world.streams.high) {
        let High::Chat(message) = high else { continue };
        if message.room != client.room {
            continue;
        }
        let saw = seen.contains(&offset);
        if world.was_muted(message) {
            assert!(!saw, "{} saw {offset} of somebody muted", client.user);
            continue;
        }
        let parts = world.parts_at.get(&offset).expect("it was told");
        let own = |of: &u16| match &message.from {
            Some(from) => part_of(from, *of) == part_of(&client.user, *of),
            None => true,
        };
        if offset > client.since.high && (client.always_overseer || parts.iter().all(own)) {
            assert!(saw, "{} did not see {offset}, told in {parts:?} parts; since {:?}", client.user, client.since);
        }
        if !client.ever_overseer && !parts.iter().any(own) {
            assert!(!saw, "{} saw {offset}, which is another part's, of {parts:?}", client.user);
        }
    }
}

fn what_is_stored_is_what_was_said(world: &mut World) {
    let owner = Owner { partition: pushmesh_protocol::Partition(0), lease: 0, streams: super::world::STREAMS, low: 1 };
    let ends = Ends::of(owner.streams);
    let mut rows: BTreeMap<(RoomId, UserId), (u64, u64, u64)> = BTreeMap::new();
    for (sequence, high) in (1..).zip(&world.streams.high) {
        if let High::Gift(gift) = high {
            let row = rows.entry((gift.room.clone(), gift.from.clone())).or_default();
            *row = (row.0 + gift.value, row.1 + 1, if gift.value > 0 { sequence } else { row.2 });
        }
    }
    for ((room, user), (total, gifts, _)) in &rows {
        let key = format!("u.0.{room}.{user}");
        let row: record::RowRecord = record::read(owner, &ends, &world.bucket[&key].0).unwrap();
        let row = row.into_row(0);
        assert_eq!((row.total, row.gifts), (*total, *gifts), "{key}");
        let crossed = world.limits.levels.iter().filter(|level| *level <= total).count();
        let told = world.levels.iter().filter(|(_, note)| note.room == *room && note.from.as_ref() == Some(user));
        assert_eq!((row.level_told as usize, told.count()), (crossed, crossed), "levels of {key}");
    }
    for n in 0..ROOMS {
        let own = || rows.iter().filter(|((of, _), _)| *of == room(n));
        let mut top: Vec<_> = own().filter(|(_, row)| row.0 > 0).collect();
        top.sort_by_key(|((_, user), row)| (std::cmp::Reverse(row.0), row.2, user.clone()));
        let top: Vec<_> = top.iter().map(|((_, user), row)| Ranked { user: user.clone(), total: row.0 }).collect();
        let total: u64 = own().map(|(_, row)| row.0).sum();
        if own().next().is_none() {
            continue;
        }
        assert_eq!(world.rankings[&room(n)], top);
        let Some((bytes, _)) = world.bucket.get(&format!("r.0.{}", room(n))) else { panic!("no room {n}") };
        let stored: record::RoomRecord = record::read(owner, &ends, bytes).unwrap();
        let likes: u64 = world.likes.iter().filter(|((_, of), _)| *of == room(n)).map(|(_, likes)| likes).sum();
        assert_eq!((stored.gifts_total, stored.likes.total()), (total, likes));
        if let Asked::Answer(RoomAnswer::Ranking { top: told, gifts_total }) = world.rooms.ranking(&room(n), 100) {
            assert_eq!((told, gifts_total), (top, total));
        }
    }
}

fn world() -> World {
    let mut world = World::new(limits());
    for n in 0..ROOMS {
        world.clients.extend((0..USERS).map(|u| Client::new(&user(u), &room(n))));
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_told_twice(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = world();
        for step in steps {
            act(&mut world, step);
        }
        world.settle();
        everybody_saw_what_he_should(&world);
        what_is_stored_is_what_was_said(&mut world);
    }

    #[test]
    fn where_nothing_breaks_nobody_has_to_ask_twice(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = world();
        world.ask();
        prop_assert!(world.clients.iter().all(|client| client.state == State::In));
        for step in steps {
            if !matches!(step, Step::Deaf { .. } | Step::Leave { .. } | Step::Kill | Step::Ask) {
                act(&mut world, step);
                let asks = world.clients.iter().find(|client| client.state != State::In);
                prop_assert!(asks.is_none(), "{}", asks.map(|client| client.user.as_str()).unwrap_or_default());
            }
        }
        world.settle();
        everybody_saw_what_he_should(&world);
        what_is_stored_is_what_was_said(&mut world);
    }
}
