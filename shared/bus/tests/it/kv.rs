use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use pushmesh_bus::{Bus, GoneReason, Kv, KvError, KvEvent, KvWatch};
use pushmesh_protocol::{
    Partition,
    name::{Bucket, Key, KeyFilter},
};
use pushmesh_testkit::wait_for;

use super::*;

async fn sessions(bus: &Bus) -> Kv {
    bus.bucket(&Bucket::SESSIONS).await.unwrap()
}

fn key(number: usize) -> Key {
    Key::used_sid(Partition(1), &user(number), &token("sid"))
}

async fn next(watch: &mut KvWatch) -> KvEvent {
    tokio::time::timeout(SOON, watch.next()).await.expect("an event in time").expect("an open watch")
}

/// Reads on to the end of a snapshot.
async fn snapshot(watch: &mut KvWatch) -> HashMap<String, Bytes> {
    let mut all = HashMap::new();
    loop {
        match next(watch).await {
            KvEvent::Put(entry) => {
                all.insert(entry.key, entry.value);
            }
            KvEvent::Gone { key, .. } => {
                all.remove(&key);
            }
            KvEvent::Current => return all,
            KvEvent::Restarted => all.clear(),
        }
    }
}

#[tokio::test]
async fn a_key_is_created_updated_and_purged() {
    let (_nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    assert_eq!(kv.get(&key(1)).await, Ok(None));
    let first = kv.create(&key(1), "a".into()).await.unwrap();
    assert_eq!(kv.create(&key(1), "b".into()).await, Err(KvError::Exists));
    let entry = kv.get(&key(1)).await.unwrap().unwrap();
    assert_eq!((entry.value, entry.revision), ("a".into(), first));
    assert!(entry.at > 1_700_000_000_000);

    let second = kv.update(&key(1), "c".into(), first).await.unwrap();
    assert_eq!(kv.update(&key(1), "d".into(), first).await, Err(KvError::WrongRevision));
    assert_eq!(kv.delete_expect(&key(1), first).await, Err(KvError::WrongRevision));
    kv.delete_expect(&key(1), second).await.unwrap();
    assert_eq!(kv.get(&key(1)).await, Ok(None));
    let third = kv.create(&key(1), "e".into()).await.unwrap();
    assert!(third > second);
    kv.purge(&key(1)).await.unwrap();
    assert_eq!(kv.get(&key(1)).await, Ok(None));

    let many = (0..1200).map(|number| (key(number), Bytes::from(number.to_string()))).collect();
    let revisions: Vec<_> = kv.put_all(many).await.into_iter().map(Result::unwrap).collect();
    assert!(revisions.is_sorted());
    assert_eq!(kv.get(&key(1199)).await.unwrap().unwrap().revision, revisions[1199]);
    let big = Bytes::from(vec![0; 2_000_000]);
    assert!(matches!(kv.put(&key(1), big).await, Err(KvError::TooLarge { bytes: 2_000_000, .. })));
    assert_eq!(bus.awaited(), 0);
}

#[tokio::test]
async fn a_lifetime_ends_also_over_a_marker_and_is_renewed() {
    let (_nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    let second = Duration::from_secs(1);
    let mut watch = kv.watch(KeyFilter::all()).await.unwrap();
    assert_eq!(next(&mut watch).await, KvEvent::Current, "an empty bucket is complete at once");

    // The marker of a purge is what `create` finds; the lifetime must outlast that.
    kv.put(&key(1), "old".into()).await.unwrap();
    kv.purge(&key(1)).await.unwrap();
    kv.create_for(&key(1), "short".into(), second).await.unwrap();
    let revision = kv.create_for(&key(2), "renewed".into(), 20 * second).await.unwrap();
    kv.put_for(&key(3), "put".into(), second).await.unwrap();
    kv.update_for(&key(2), "renewed".into(), revision, 600 * second).await.unwrap();

    let mut gone = vec![];
    while gone.len() < 3 {
        if let KvEvent::Gone { key, reason, .. } = next(&mut watch).await {
            assert_eq!(reason, if gone.is_empty() { GoneReason::Deleted } else { GoneReason::Expired });
            gone.push(key);
        }
    }
    // The purge, then the two that ran out.
    assert_eq!(gone[0], key(1).as_str());
    gone[1..].sort();
    assert_eq!(gone[1..], [key(1).as_str(), key(3).as_str()]);
    assert_eq!(kv.get(&key(1)).await, Ok(None));
    assert_eq!(kv.get(&key(2)).await.unwrap().unwrap().value, "renewed");
    kv.create(&key(3), "over the marker of a lifetime".into()).await.unwrap();
}

#[tokio::test]
async fn one_of_many_creates() {
    let (_nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    let key = Key::mesh_info();
    let all = (0..50).map(|_| kv.create(&key, "mine".into()));
    let outcomes = futures_util::future::join_all(all).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(KvError::Exists)).count(), 49);
}

#[tokio::test]
async fn a_watch_tells_its_restart_and_everything_anew() {
    let (mut nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    let put: Vec<_> = (0..3000).map(|number| (key(number), Bytes::from_static(b"x"))).collect();
    assert!(kv.put_all(put).await.into_iter().all(|outcome| outcome.is_ok()));
    let mut watch = kv.watch(KeyFilter::all()).await.unwrap();
    assert_eq!(snapshot(&mut watch).await.len(), 3000);
    let live = kv.put(&key(0), "live".into()).await.unwrap();
    assert!(matches!(next(&mut watch).await, KvEvent::Put(entry) if entry.revision == live));

    nats.kill();
    nats.restart().await;
    assert_eq!(next(&mut watch).await, KvEvent::Restarted);
    kv.purge(&key(1)).await.unwrap();
    let told = async {
        while !matches!(next(&mut watch).await, KvEvent::Gone { key: gone, .. } if gone == key(1).as_str()) {}
    };
    tokio::time::timeout(SOON, told).await.expect("the purge is told");
    assert_eq!(snapshot(&mut kv.watch(KeyFilter::all()).await.unwrap()).await.len(), 2999);
}

#[tokio::test]
async fn an_operation_outlives_a_restart_and_succeeds_once() {
    let (mut nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    let first = kv.create(&key(1), "a".into()).await.unwrap();
    nats.pause();
    let updating = tokio::spawn({
        let kv = kv.clone();
        async move { kv.update(&key(1), "b".into(), first).await }
    });
    // The write is in the server's socket and its answer is not: then the server is gone.
    wait_for("the write to be on its way", SOON, async || if bus.awaited() > 0 { Ok(()) } else { Err("not yet") })
        .await;
    nats.resume();
    nats.kill();
    nats.restart().await;
    let second = updating.await.unwrap().unwrap();
    assert_eq!(kv.get(&key(1)).await.unwrap().unwrap().revision, second);
}

#[tokio::test]
async fn a_patient_write_outlasts_what_readers_do_not_wait_for() {
    const IMPATIENT: Duration = Duration::from_secs(2);
    let (mut nats, _) = mesh().await;
    let bus = connect_as(&nats, "door", |config| {
        config.kv_timeout = IMPATIENT;
        config.hold_max_bytes = 2_000;
    })
    .await;
    let kv = sessions(&bus).await;
    nats.kill();
    let writing = tokio::spawn({
        let kv = kv.patient();
        async move {
            let revision = kv.create(&key(1), vec![b'a'; 1_000].into()).await?;
            kv.update(&key(1), "b".into(), revision).await
        }
    });
    wait_for("nobody else to be waited for", SOON, async || match kv.get(&key(1)).await {
        Err(KvError::Outage(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(matches!(kv.put(&key(2), "c".into()).await, Err(KvError::Outage(_))));
    let beyond = kv.patient().put(&key(3), vec![b'd'; 1_000].into()).await;
    assert!(matches!(&beyond, Err(KvError::Outage(reason)) if reason.contains("hold_max_bytes")), "{beyond:?}");
    assert!(!writing.is_finished());
    nats.restart().await;
    let revision = tokio::time::timeout(SOON, writing).await.unwrap().unwrap().unwrap();
    let entry = kv.get(&key(1)).await.unwrap().unwrap();
    assert_eq!((entry.value, entry.revision), ("b".into(), revision));
    assert_eq!(bus.awaited(), 0);
}

#[tokio::test]
async fn a_patient_request_has_one_time_for_all_that_it_does() {
    let (mut nats, _) = mesh().await;
    let bus = connect_as(&nats, "door", |config| config.outage_hold = Duration::from_secs(3)).await;
    let kv = sessions(&bus).await.patient();
    nats.kill();
    let begun = std::time::Instant::now();
    assert!(matches!(kv.put(&key(0), "a".into()).await, Err(KvError::Outage(_))));
    let first = begun.elapsed();
    for number in 1..8 {
        assert!(matches!(kv.put(&key(number), "a".into()).await, Err(KvError::Outage(_))));
        assert!(matches!(kv.get(&key(number)).await, Err(KvError::Outage(_))));
    }
    let all = begun.elapsed();
    assert!(all < 3 * first, "the first took {first:?}, all of fifteen {all:?}");
}

#[tokio::test]
async fn a_missing_bucket_says_what_to_run() {
    let nats = pushmesh_testkit::Nats::start().await;
    let bus = connect(&nats).await;
    let error = bus.bucket(&Bucket::MESH).await.err().unwrap();
    assert_eq!(error, KvError::NoBucket("mesh".to_owned()));
}

#[tokio::test]
async fn a_purged_key_is_told_gone_once_and_leaves_nothing() {
    let nats = pushmesh_testkit::Nats::start().await;
    let bus = connect(&nats).await;
    let mut topology = small_topology();
    for bucket in &mut topology.buckets {
        bucket.marker_lifetime = Duration::from_secs(1);
    }
    pushmesh_bus::provision(&bus, &topology).await.unwrap();
    let kv = sessions(&bus).await;
    let mut watch = kv.watch(KeyFilter::all()).await.unwrap();
    kv.put(&key(1), "a".into()).await.unwrap();
    kv.purge(&key(1)).await.unwrap();
    wait_for("the marker to go", SOON, async || {
        let mut anew = kv.watch(KeyFilter::all()).await.map_err(|error| error.to_string())?;
        match next(&mut anew).await {
            KvEvent::Current => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    kv.put(&key(2), "end".into()).await.unwrap();
    let mut gone = 0;
    loop {
        match next(&mut watch).await {
            KvEvent::Gone { .. } => gone += 1,
            KvEvent::Put(entry) if entry.value == "end" => break,
            _ => {}
        }
    }
    assert_eq!(gone, 1);
}

#[tokio::test]
async fn many_are_updated_each_at_its_own_revision() {
    let (_nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    let write = async |revisions: &[u64], value: &'static str| {
        let entries = revisions.iter().enumerate();
        kv.update_all(entries.map(|(number, revision)| (key(number), value.into(), *revision)).collect()).await
    };
    let new = write(&[0; 1200], "a").await;
    let mut revisions: Vec<u64> = new.into_iter().map(Result::unwrap).collect();
    // Somebody else writes one: only that one fails.
    kv.put(&key(700), "b".into()).await.unwrap();
    let outcomes = write(&revisions, "c").await;
    assert_eq!(outcomes[700], Err(KvError::WrongRevision));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1199);
    assert_eq!(kv.get(&key(700)).await.unwrap().unwrap().value, "b");
    assert_eq!(kv.get(&key(699)).await.unwrap().unwrap().value, "c");
    revisions.truncate(1);
    assert_eq!(write(&revisions, "d").await, [Err(KvError::WrongRevision)]);
}

#[tokio::test]
async fn keys_are_read_without_a_watch() {
    let (_nats, bus) = mesh().await;
    let kv = sessions(&bus).await;
    assert_eq!(kv.entries(KeyFilter::all()).await.unwrap(), []);
    kv.put_all((0..1300).map(|number| (key(number), Bytes::from(number.to_string()))).collect()).await;
    kv.purge(&key(7)).await.unwrap();
    let revision = kv.put(&key(3), "new".into()).await.unwrap();
    let entries = kv.entries(KeyFilter::all()).await.unwrap();
    assert_eq!(entries.len(), 1299);
    let last = entries.last().unwrap();
    assert_eq!((last.key.as_str(), last.revision, &last.value[..]), (key(3).as_str(), revision, &b"new"[..]));
    assert!(entries.iter().all(|entry| entry.key != key(7).as_str()));
    assert_eq!(kv.entries(KeyFilter::of_partition(Partition(5))).await.unwrap(), []);
}
