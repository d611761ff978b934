//! The ring's stated bounds, over seeded cases.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pushmesh_membership::ring::{Map, capacity};
use pushmesh_protocol::{Partitions, id::Instance};

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
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

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
