//! Whatever kinds, LATE and leases do, every record reaches every kind, and a user's in their order.

use std::time::Duration;

use proptest::prelude::*;

use super::{world::*, *};

#[derive(Debug, Clone)]
enum Step {
    Arrive(u16, u8),
    Answer,
    Store,
    Pass(u64),
    Set(KindIndex, Health),
    LateRefuses(bool),
    Lose(u16),
    Close(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let health = prop_oneof![
        3 => Just(Health::Up),
        1 => Just(Health::Silent),
        1 => Just(Health::Mute),
        1 => Just(Health::Failing),
        1 => Just(Health::NotMine),
        1 => Just(Health::NoOwner),
    ];
    let step = prop_oneof![
        8 => (0..PARTITIONS, 0..2u8).prop_map(|(p, user)| Step::Arrive(p, user)),
        8 => Just(Step::Answer),
        4 => Just(Step::Store),
        4 => (0..1500u64).prop_map(Step::Pass),
        2 => (0..KINDS, health).prop_map(|(kind, health)| Step::Set(kind, health)),
        1 => any::<bool>().prop_map(Step::LateRefuses),
        1 => (0..PARTITIONS).prop_map(Step::Lose),
        1 => (0..PARTITIONS).prop_map(Step::Close),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_record_reaches_every_kind_in_order(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Arrive(p, user) => world.arrive(p, user),
                Step::Answer => world.answer(),
                Step::Store => world.store(),
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Set(kind, health) => world.set(kind, health),
                Step::LateRefuses(refuses) => world.late_refuses = refuses,
                Step::Lose(p) => world.lose(Partition(p)),
                Step::Close(p) => world.close(Partition(p)),
            }
        }
        world.settle();
        world.check();
    }
}
