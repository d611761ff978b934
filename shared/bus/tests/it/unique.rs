use std::{collections::HashSet, time::Duration};

use pushmesh_bus::{StoreError, Unique, UniqueOutcome};
use pushmesh_protocol::{
    GiftKey, RoomId,
    name::{Filter, Stream, Subject},
};
use pushmesh_testkit::wait_for;

use super::*;

/// A gift whose marker and payload say `content`.
fn gift(number: usize, content: &str) -> Unique {
    let key = GiftKey::new(&format!("018cc251-f400-7000-8000-{number:012}")).unwrap();
    let (partition, room) = (Partition((number % 8) as u16), RoomId::new("stage").unwrap());
    let outgoing = |subject, payload: String, id| Outgoing { subject, payload: payload.into(), id, trace: None };
    Unique {
        marker: outgoing(Subject::gift_key(partition, &key), content.to_owned(), MessageId::gift_key(&key)),
        marker_ttl: Duration::from_secs(600),
        message: outgoing(Subject::gift(partition, &room), format!("{number} {content}"), MessageId::gift(&key)),
    }
}

fn gifts(numbers: impl Iterator<Item = usize>, content: &str) -> Vec<Unique> {
    numbers.map(|number| gift(number, content)).collect()
}

async fn store(bus: &Bus, pairs: Vec<Unique>) -> Vec<Result<UniqueOutcome, StoreError>> {
    bus.store_unique(&Stream::ROOM_HIGH, pairs).await
}

/// All gifts of the stream, by their sequence.
async fn stored(bus: &Bus) -> Vec<(u64, String)> {
    let mut all = vec![];
    for partition in partitions().all() {
        let gifts = Filter::gifts_of(partition);
        let history = bus.read_history(&Stream::ROOM_HIGH, gifts, 0, 10_000, 10_000_000).await.unwrap();
        assert_eq!(history.pending, 0);
        let text = |payload: &[u8]| std::str::from_utf8(payload).unwrap().to_owned();
        all.extend(history.messages.iter().map(|message| (message.sequence, text(&message.payload))));
    }
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_later_one_learns_what_the_first_said_and_where_it_stands() {
    let (_nats, bus) = mesh().await;
    let outcomes = store(&bus, vec![gift(1, "a"), gift(2, "a")]).await;
    assert_eq!(outcomes, [Ok(UniqueOutcome::Stored { sequence: 2 }), Ok(UniqueOutcome::Stored { sequence: 4 })]);
    let taken = |sequence| UniqueOutcome::Taken { marker: "a".into(), sequence };
    let outcomes = store(&bus, vec![gift(2, "b"), gift(3, "b"), gift(1, "a"), gift(3, "c")]).await;
    let of_third = UniqueOutcome::Taken { marker: "b".into(), sequence: 6 };
    assert_eq!(outcomes, [Ok(taken(4)), Ok(UniqueOutcome::Stored { sequence: 6 }), Ok(taken(2)), Ok(of_third)]);
    assert_eq!(stored(&bus).await, [(2, "1 a".to_owned()), (4, "2 a".to_owned()), (6, "3 b".to_owned())]);
    let marker = |number| gift(number, "").marker.subject;
    assert_eq!(bus.find_unique(&Stream::ROOM_HIGH, &marker(2)).await, Ok(Some(taken(4))));
    assert_eq!(bus.find_unique(&Stream::ROOM_HIGH, &marker(9)).await, Ok(None));
    assert_eq!(store(&bus, vec![]).await, []);
    assert_eq!(bus.awaited(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_say_the_same_at_the_same_time_one_is_first() {
    let (nats, bus) = mesh().await;
    let other = connect_as(&nats, "other", |_| {}).await;
    let (ours, theirs) =
        tokio::join!(store(&bus, gifts(0..700, "ours")), store(&other, gifts((0..700).rev(), "theirs")),);
    let mut sequences = HashSet::new();
    for (number, (ours, theirs)) in ours.into_iter().zip(theirs.into_iter().rev()).enumerate() {
        let (first, content, second) = match (ours.unwrap(), theirs.unwrap()) {
            (UniqueOutcome::Stored { sequence }, second) => (sequence, "ours", second),
            (second, UniqueOutcome::Stored { sequence }) => (sequence, "theirs", second),
            neither => panic!("{number}: {neither:?}"),
        };
        assert_eq!(second, UniqueOutcome::Taken { marker: content.into(), sequence: first });
        assert!(sequences.insert(first));
    }
    assert_eq!(stored(&bus).await.len(), 700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_killed_server_each_is_stored_once_and_known_as_ones_own() {
    let (mut nats, bus) = mesh().await;
    let storing: Vec<_> = (0..40)
        .map(|batch| {
            let bus = bus.clone();
            tokio::spawn(async move { store(&bus, gifts(batch * 25..(batch + 1) * 25, "once")).await })
        })
        .collect();
    nats.kill();
    tokio::time::timeout(SOON, bus.health().wait_for(|health| !health.connected)).await.unwrap().unwrap();
    nats.restart().await;
    for task in storing {
        for outcome in task.await.unwrap() {
            assert!(matches!(outcome, Ok(UniqueOutcome::Stored { .. })), "{outcome:?}");
        }
    }
    let stored: HashSet<_> = stored(&bus).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(stored.len(), 1000);
}

#[tokio::test]
async fn an_outage_is_told_after_the_hold() {
    let (mut nats, _bus) = mesh().await;
    let bus = connect_as(&nats, "short", |config| config.outage_hold = Duration::from_millis(300)).await;
    nats.kill();
    for outcome in store(&bus, gifts(0..600, "never")).await {
        assert!(outcome.as_ref().unwrap_err().is_outage(), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_id_that_was_used_without_its_marker_refuses_its_own_pair_alone() {
    let (_nats, bus) = mesh().await;
    bus.store(gift(7, "alone").message).await.unwrap();
    let outcomes = store(&bus, gifts(0..20, "x")).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(UniqueOutcome::Stored { .. }) => assert_ne!(number, 7),
            Err(StoreError::Rejected(reason)) => assert!(number == 7 && reason.contains("without its marker")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stored(&bus).await.len(), 20);
}

#[tokio::test]
async fn a_marker_goes_after_its_time_and_leaves_nothing() {
    let (_nats, bus) = mesh().await;
    let first = Unique { marker_ttl: Duration::from_millis(700), ..gift(1, "first") };
    let subject = first.marker.subject.clone();
    store(&bus, vec![first]).await.remove(0).unwrap();
    wait_for("the marker to go", SOON, || async {
        match bus.find_unique(&Stream::ROOM_HIGH, &subject).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Within the stream's duplicate window the message is still known by its id.
    let mut again = gift(1, "again");
    again.marker.id = MessageId::online(&UserId::new("ann").unwrap(), &LoginId::new("another").unwrap());
    again.message.id = MessageId::online(&UserId::new("ann").unwrap(), &LoginId::new("anothers").unwrap());
    assert!(matches!(store(&bus, vec![again]).await[..], [Ok(UniqueOutcome::Stored { .. })]));
}

#[tokio::test]
async fn one_that_is_too_large_or_finds_no_room_harms_no_other() {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    let config = TopologyConfig { partitions: partitions(), stream_max_bytes: 30_000, ..TopologyConfig::default() };
    pushmesh_bus::provision(&bus, &topology(&config)).await.unwrap();
    let mut big = gift(1, "big");
    big.message.payload = vec![0; 2_000_000].into();
    let outcomes = store(&bus, vec![gift(0, "x"), big, gift(2, "x")]).await;
    assert!(
        matches!(
            outcomes[..],
            [Ok(UniqueOutcome::Stored { .. }), Err(StoreError::TooLarge { .. }), Ok(UniqueOutcome::Stored { .. })]
        ),
        "{outcomes:?}"
    );
    let outcomes = store(&bus, gifts(100..400, "much")).await;
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(StoreError::Full { .. }))), "{outcomes:?}");
}
