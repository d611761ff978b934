use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use pushmesh_bus::{StoreError, provision};
use pushmesh_protocol::{
    name::Stream,
    topology::{TopologyConfig, topology},
};
use pushmesh_testkit::Nats;

use super::{
    scripted::{Said, Scripted},
    *,
};

/// How many messages are stored in LOGIN, by their partitions' consumers.
pub(super) async fn all_stored(bus: &pushmesh_bus::Bus) -> Vec<usize> {
    let mut numbers = vec![];
    for partition in partitions().all() {
        let mut consumer =
            bus.take_partition(&Stream::LOGIN, partition, pushmesh_bus::TakeOver::Crashed).await.unwrap();
        let mut left = consumer.pending();
        while left > 0 {
            let delivered = tokio::time::timeout(SOON, consumer.next()).await.expect("what is pending comes").unwrap();
            numbers.push(number(&delivered.payload));
            left -= 1;
        }
        consumer.abandon();
    }
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn a_message_is_stored_once() {
    let (_nats, bus) = mesh().await;
    let first = bus.store(numbered(1)).await.unwrap();
    assert!(!first.duplicate);
    let again = bus.store(numbered(1)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.sequence, first.sequence);
    assert_eq!(bus.awaited(), 0);
}

#[tokio::test]
async fn many_are_stored_as_batches_and_singly_where_one_was_there() {
    let (_nats, bus) = mesh().await;
    bus.store(numbered(700)).await.unwrap();
    let outcomes = bus.store_all(&Stream::LOGIN, (0..1200).map(numbered).collect()).await;
    let stored: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(stored.iter().filter(|stored| stored.duplicate).count(), 1);
    assert!(stored[700].duplicate);
    // Batches and singles alike keep the order.
    let new: Vec<_> = stored.iter().filter(|stored| !stored.duplicate).map(|stored| stored.sequence).collect();
    assert!(new.is_sorted());
    assert_eq!(all_stored(&bus).await, (0..1200).collect::<Vec<_>>());

    // An atomic batch is what stored the others: their sequences follow each other.
    let outcomes = bus.store_all(&Stream::LOGIN, (2000..2500).map(numbered).collect()).await;
    let sequences: Vec<_> = outcomes.into_iter().map(|stored| stored.unwrap().sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(bus.store_all(&Stream::LOGIN, vec![]).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_messages_outlive_a_killed_server() {
    let (mut nats, bus) = mesh().await;
    let storing: Vec<_> = (0..1000)
        .map(|number| {
            let bus = bus.clone();
            tokio::spawn(async move {
                if number % 10 == 0 {
                    // Some go as batches of ten, with numbers of their own.
                    let batch = (0..10).map(|extra| numbered(10_000 + number + extra)).collect();
                    for outcome in bus.store_all(&Stream::LOGIN, batch).await {
                        outcome.unwrap();
                    }
                }
                bus.store(numbered(number)).await.unwrap();
            })
        })
        .collect();
    // In the middle of it: some are stored, some on their way, some not begun.
    nats.kill();
    tokio::time::timeout(SOON, bus.health().wait_for(|health| !health.connected)).await.unwrap().unwrap();
    nats.restart().await;
    for task in storing {
        task.await.unwrap();
    }
    let expected: Vec<_> = (0..1000).chain(10_000..11_000).collect();
    assert_eq!(all_stored(&bus).await, expected, "each once");
}

#[tokio::test]
async fn an_outage_is_told_after_the_hold_and_the_held_bytes_are_bounded() {
    let (mut nats, _bus) = mesh().await;
    let bus = connect_as(&nats, "short", |config| {
        config.outage_hold = Duration::from_millis(400);
        config.hold_max_bytes = 4096;
    })
    .await;
    nats.kill();
    tokio::time::timeout(SOON, bus.health().wait_for(|health| !health.connected)).await.unwrap().unwrap();
    let all = (0..100).map(|number| bus.store(numbered(number)));
    let outcomes = futures_util::future::join_all(all).await;
    let (mut held, mut refused) = (0, 0);
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.is_outage());
        match error {
            StoreError::Outage { .. } => held += 1,
            StoreError::HoldFull { limit: 4096 } => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(held > 5 && refused > 50, "{held} held, {refused} refused");
}

#[tokio::test]
async fn a_full_stream_refuses_and_a_big_message_says_its_limit() {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    let config = TopologyConfig { partitions: partitions(), stream_max_bytes: 20_000, ..TopologyConfig::default() };
    provision(&bus, &topology(&config)).await.unwrap();
    let outcomes = bus.store_all(&Stream::LOGIN, (0..400).map(numbered).collect()).await;
    let full = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Full { .. }))).count();
    let stored: HashSet<_> = outcomes.iter().flatten().map(|stored| stored.sequence).collect();
    assert_eq!(full + stored.len(), 400, "{outcomes:?}");
    assert!(full > 0 && !stored.is_empty());
    assert!(matches!(bus.store(numbered(1000)).await, Err(StoreError::Full { .. })));
    assert_eq!(all_stored(&bus).await.len(), stored.len());

    let mut big = numbered(1001);
    big.payload = vec![0; 2_000_000].into();
    assert!(matches!(bus.store(big).await, Err(StoreError::TooLarge { bytes: 2_000_000, .. })));
}

#[tokio::test]
async fn a_stream_that_does_not_exist_is_an_outage() {
    let nats = Nats::start().await;
    let bus = connect_as(&nats, "tester", |config| config.outage_hold = Duration::from_millis(200)).await;
    assert!(bus.store(numbered(1)).await.unwrap_err().is_outage());
    let outcomes = bus.store_all(&Stream::LOGIN, (0..3).map(numbered).collect()).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap_err().is_outage()));
}

const NO_BATCHES: &str = r#"{"error":{"code":400,"err_code":10174,"description":"batches are off"}}"#;

async fn scripted(server: &Scripted, ack_timeout: Duration) -> pushmesh_bus::Bus {
    let config = Config { ack_timeout, outage_hold: SOON, ..Config::to(&server.url) };
    pushmesh_bus::Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.unwrap()
}

/// The `number`th record of a user.
fn of_user(who: usize, number: usize) -> Outgoing {
    Outgoing {
        payload: format!("u{who}-{number}").into(),
        id: MessageId::online(&UserId::new("ann").unwrap(), &LoginId::new(&format!("l{who}-{number}")).unwrap()),
        ..in_partition(Partition(0), who)
    }
}

#[tokio::test]
async fn a_message_that_fails_in_passing_is_not_overtaken_by_the_next_of_its_user() {
    let (mut stored, mut failed) = (vec![], false);
    let order = Arc::new(Mutex::new(vec![]));
    let seen = order.clone();
    let server = Scripted::start(move |said| {
        if said.is_of_a_batch() {
            return Some(NO_BATCHES.to_owned());
        }
        // An election, just as the first of user 1 comes.
        if said.payload == "u1-0" && !std::mem::replace(&mut failed, true) {
            return Some(r#"{"error":{"code":503,"err_code":10008,"description":"no leader"}}"#.to_owned());
        }
        stored.push(said.payload.clone());
        seen.lock().unwrap().push(said.payload.clone());
        Some(format!(r#"{{"stream":"LOGIN","seq":{}}}"#, stored.len()))
    })
    .await;
    let bus = scripted(&server, SOON).await;
    let messages = vec![of_user(1, 0), of_user(2, 0), of_user(1, 1), of_user(1, 2), of_user(2, 1)];
    for outcome in bus.store_all(&Stream::LOGIN, messages).await {
        outcome.unwrap();
    }
    let order = order.lock().unwrap().clone();
    for user in ["u1", "u2"] {
        let own: Vec<_> = order.iter().filter(|said| said.starts_with(user)).cloned().collect();
        assert!(own.is_sorted(), "{order:?}");
    }
    assert_eq!(order.len(), 5);
}

#[tokio::test]
async fn behind_a_message_that_found_no_room_none_of_its_user_is_stored() {
    let server = Scripted::start(|said| {
        if said.is_of_a_batch() {
            return Some(NO_BATCHES.to_owned());
        }
        // There is room again at once.
        if said.payload == "u1-0" {
            return Some(
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#.to_owned(),
            );
        }
        Some(r#"{"stream":"LOGIN","seq":1}"#.to_owned())
    })
    .await;
    let bus = scripted(&server, SOON).await;
    let outcomes = bus.store_all(&Stream::LOGIN, vec![of_user(1, 0), of_user(2, 0), of_user(1, 1)]).await;
    assert!(
        matches!(outcomes[..], [Err(StoreError::Full { .. }), Ok(_), Err(StoreError::Full { .. })]),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_batch_that_the_server_may_still_hold_keeps_its_place() {
    // It takes batches, and never says what became of them.
    let server = Scripted::start(|said| match said.is_of_a_batch() {
        true if said.headers.contains_key("Nats-Batch-Commit") => None,
        true => Some(String::new()),
        false => Some(r#"{"stream":"LOGIN","seq":1}"#.to_owned()),
    })
    .await;
    let bus = scripted(&server, Duration::from_millis(300)).await;
    let stores = (0..12).map(|user| bus.store_all(&Stream::LOGIN, vec![of_user(user, 0), of_user(user, 1)]));
    for outcome in futures_util::future::join_all(stores).await.into_iter().flatten() {
        outcome.unwrap();
    }
    let opened = |said: &[Said]| {
        let ids: HashSet<_> = said.iter().filter_map(|said| said.headers.get("Nats-Batch-Id").cloned()).collect();
        ids.len()
    };
    assert_eq!(opened(&server.said()), 8, "as many as one connection may have open");
}
