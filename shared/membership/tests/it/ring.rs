//! The ring's stated bounds, over seeded cases.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use pushmesh_membership::ring::{Map, Ring, capacity};
use pushmesh_protocol::{Partition, Partitions, id::Instance};

type Members = BTreeMap<Instance, u16>;

fn map(partitions: Partitions, members: &Members) -> Map {
    Map::new(partitions, members.iter().map(|(instance, weight)| (instance, *weight)))
}

fn total(members: &Members) -> u64 {
    members.values().map(|weight| u64::from(*weight)).sum()
}

fn members() -> impl Strategy<Value = Members> {
    prop::collection::btree_map(
        "[a-z0-9-]{1,12}".prop_map(|name| Instance::new(&name).expect("a token")),
        1u16..=100,
        1..=32,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_partition_has_an_owner_and_nobody_more_than_his_bound(members in members(), count in 1u16..=256) {
        let partitions = Partitions::new(count).expect("allowed");
        let map = map(partitions, &members);
        let mut owned = 0;
        for (instance, weight) in &members {
            let (has, may) = (map.count(instance) as u64, capacity(partitions, u64::from(*weight), total(&members)));
            prop_assert!(has <= may, "{instance} with {weight} of {} has {has} of {count}, may have {may}", total(&members));
            owned += has;
        }
        prop_assert_eq!(owned, u64::from(count));
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(members in members(), seed in any::<u64>()) {
        let partitions = Partitions::default();
        let mut shuffled: Vec<_> = members.iter().map(|(instance, weight)| (instance, *weight)).collect();
        let mut draw = Draw(seed);
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, draw.below(index as u64 + 1) as usize);
        }
        prop_assert_eq!(map(partitions, &members), Map::new(partitions, shuffled));
    }
}

fn ring(partitions: Partitions, members: &Members) -> Ring {
    Ring::new(partitions, members.iter().map(|(instance, weight)| (instance, *weight)))
}

fn some_name(draw: &mut Draw) -> Instance {
    Instance::new(&format!("node-{:08x}", draw.next() as u32)).expect("a token")
}

/// Whether a step between two sets of members, one of which has `mover` more, moves more than its ideal share and 5 % of P.
fn too_much(partitions: Partitions, moved: usize, most: &Members, mover: &Instance) -> bool {
    let (count, weight, total) = (u64::from(partitions.count()), u64::from(most[mover]), total(most));
    // moved > P·w/W + P/20, in whole numbers.
    20 * total * moved as u64 > count * (20 * weight + total)
}

#[test]
fn a_join_or_a_leave_moves_its_ideal_share_and_little_more() {
    for (count, cases) in [(64, 1000), (128, 100), (256, 50)] {
        let partitions = Partitions::new(count).expect("allowed");
        let (mut joins, mut leaves) = (0, 0);
        for case in 0..cases {
            let mut draw = Draw(case);
            let most: Members =
                (0..draw.below(31) + 2).map(|_| (some_name(&mut draw), draw.below(100) as u16 + 1)).collect();
            let mover = most.keys().nth(draw.below(most.len() as u64) as usize).expect("one of them").clone();
            let fewer: Members =
                most.iter().filter(|(name, _)| **name != mover).map(|(name, weight)| (name.clone(), *weight)).collect();
            let (with, without) = (ring(partitions, &most), ring(partitions, &fewer));

            let before = without.map();
            let moved = before.moved(&before.next(&with));
            joins += u64::from(too_much(partitions, moved, &most, &mover));
            let before = with.map();
            let after = before.next(&without);
            assert_eq!(
                before.moved(&after),
                before.count(&mover),
                "a leave moves the leaver's partitions and no other"
            );
            leaves += u64::from(too_much(partitions, before.moved(&after), &most, &mover));
        }
        eprintln!("{count} partitions: {joins} joins and {leaves} leaves of {cases} moved too much");
        assert!(joins * 100 <= cases, "{joins} of {cases} joins over {count} partitions moved too much");
        assert!(leaves * 100 <= cases, "{leaves} of {cases} leaves over {count} partitions moved too much");
    }
}

#[test]
fn the_bounds_hold_after_any_history() {
    let partitions = Partitions::default();
    let (mut steps, mut over) = (0, 0);
    for case in 0..20 {
        let mut draw = Draw(1_000_000 + case);
        let mut members: Members = [(some_name(&mut draw), draw.below(100) as u16 + 1)].into();
        let mut now = map(partitions, &members);
        for _ in 0..25 {
            let before = members.clone();
            let joins = members.len() < 2 || (members.len() < 32 && draw.below(2) == 0);
            let mover = if joins {
                some_name(&mut draw)
            } else {
                members.keys().nth(draw.below(members.len() as u64) as usize).expect("one of them").clone()
            };
            if joins {
                members.insert(mover.clone(), draw.below(100) as u16 + 1);
            } else {
                members.remove(&mover);
            }
            let next = now.next(&ring(partitions, &members));
            for (instance, weight) in &members {
                let may = capacity(partitions, u64::from(*weight), total(&members));
                assert!(next.count(instance) as u64 <= may, "{instance} has {} of {may}", next.count(instance));
            }
            steps += 1;
            over += u64::from(too_much(partitions, now.moved(&next), if joins { &members } else { &before }, &mover));
            now = next;
        }
    }
    assert!(over * 100 <= steps, "{over} of {steps} steps moved too much");
}

/// Everybody computes the map while it is being carried out by everybody else.
#[test]
fn carrying_a_map_out_does_not_change_it() {
    let partitions = Partitions::default();
    for case in 0..20 {
        let mut draw = Draw(2_000_000 + case);
        let old: Members = (0..draw.below(8) + 1).map(|_| (some_name(&mut draw), draw.below(100) as u16 + 1)).collect();
        let new: Members =
            old.clone().into_iter().skip(1).chain([(some_name(&mut draw), 50), (some_name(&mut draw), 70)]).collect();
        let ring = ring(partitions, &new);
        let before = map(partitions, &old);
        let goal = before.next(&ring);
        let mut held: Vec<Option<Instance>> = partitions.all().map(|p| before.of(p).cloned()).collect();
        let mut left: Vec<Partition> = partitions.all().filter(|p| before.of(*p) != goal.of(*p)).collect();
        while !left.is_empty() {
            let partition = left.swap_remove(draw.below(left.len() as u64) as usize);
            let at = usize::from(partition.0);
            held[at] = None;
            assert_eq!(ring.map_from(|p| held[usize::from(p.0)].as_ref()), goal);
            held[at] = goal.of(partition).cloned();
            assert_eq!(ring.map_from(|p| held[usize::from(p.0)].as_ref()), goal);
        }
    }
}

#[test]
fn the_map_is_made_in_a_moment() {
    let members: Members = (0..32).map(|n| (Instance::new(&format!("n{n}")).expect("a token"), 100)).collect();
    // A moment: a hundred times what it takes, without optimisation, on a machine that is slow and busy.
    for (count, limit) in [(64, Duration::from_millis(500)), (1024, Duration::from_secs(10))] {
        let partitions = Partitions::new(count).expect("allowed");
        let fastest = (0..5).map(|_| {
            let begun = Instant::now();
            std::hint::black_box(map(partitions, &members));
            begun.elapsed()
        });
        let fastest = fastest.min().expect("five");
        eprintln!("{count} partitions: {fastest:?}");
        assert!(fastest < limit, "{count} partitions: {fastest:?}");
    }
}

/// Pinned: a version that maps otherwise would move partitions during an upgrade, and two versions would disagree.
#[test]
fn the_maps_are_the_golden_ones() {
    let stories: [(&str, &[(&str, u16)]); 5] = [
        ("one", &[("a", 50)]),
        ("two equal", &[("a", 50), ("b", 50)]),
        ("three, one of double weight", &[("distributor-0", 25), ("distributor-1", 25), ("distributor-2", 50)]),
        ("light and heavy", &[("light", 1), ("heavy", 100), ("middle", 10)]),
        ("eight", &[("n0", 10), ("n1", 20), ("n2", 30), ("n3", 40), ("n4", 50), ("n5", 60), ("n6", 70), ("n7", 80)]),
    ];
    let mut found = String::new();
    for (story, members) in stories {
        for count in [8, 64] {
            let partitions = Partitions::new(count).expect("allowed");
            let members: Members =
                members.iter().map(|(name, weight)| (Instance::new(name).expect("a token"), *weight)).collect();
            let map = map(partitions, &members);
            let owners: Vec<_> = partitions.all().map(|p| map.of(p).expect("an owner").to_string()).collect();
            found += &format!("{story}, {count} partitions: {}\n", owners.join(" "));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ring.txt");
    if std::env::var_os("PUSHMESH_WRITE_GOLDEN").is_some() {
        std::fs::write(path, &found).expect("the golden file is written");
    }
    let golden = std::fs::read_to_string(path).expect("tests/golden/ring.txt: written with PUSHMESH_WRITE_GOLDEN=1");
    assert_eq!(found, golden);
}

/// SplitMix64: the same cases everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
