use pushmesh_protocol::name::{Bucket, Key};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Crew, LONG, Mesh, partition, room, user},
    viewer::Viewer,
};

fn row_of(who: &str) -> Key {
    Key::ledger_row(partition("a"), &room("a"), &user(who))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_room_falls_asleep_and_wakes_with_all_its_sums() {
    let mesh = Mesh::start().await;
    let settings = ["service.idle_after=1s", "service.heads_for=100ms", "service.heads_every=100ms"];
    let owner = mesh.room_fanout("one", &settings).await;
    let settled = async |name: &str, value: f64| {
        wait_for(name, LONG, async || match mesh.metric(&owner, name).await {
            found if found == value => Ok(()),
            found => Err(format!("{found}")),
        })
        .await;
    };
    for (who, value) in [("bob", 5), ("cat", 7), ("bob", 3)] {
        mesh.give("a", who, value).await;
    }
    mesh.likes("a", "api1", 1, 20).await;
    mesh.chat("a", "bob", "hello").await;
    settled("pushmesh_room_fanout_rooms_asleep", 1.0).await;
    // A question wakes it, and so does a gift.
    let everything = (vec![("bob".to_owned(), 8), ("cat".to_owned(), 7)], 15);
    assert_eq!(mesh.ranking("a").await, everything);
    settled("pushmesh_room_fanout_rooms_asleep", 1.0).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    assert_eq!((ann.joined.gifts_total, ann.joined.likes_total), (15, 20));
    settled("pushmesh_room_fanout_rooms_asleep", 1.0).await;
    mesh.give("a", "cat", 10).await;
    mesh.likes("a", "api1", 1, 21).await;
    ann.until("the gift and the like", |ann| (ann.count("gift"), ann.count("like")) == (1, 1)).await;
    assert_eq!(ann.gaps, 0);
    assert_eq!(mesh.ranking("a").await, (vec![("cat".to_owned(), 17), ("bob".to_owned(), 8)], 25));
    assert_eq!(mesh.info("a").await.likes_total, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_reads_no_rows_of_rooms_that_sleep_and_their_totals_survive_it() {
    let mesh = Mesh::start().await;
    let settings =
        ["service.idle_after=1s", "service.write_every=100ms", "service.heads_for=100ms", "service.heads_every=100ms"];
    let mut crew = Crew::start(&mesh, &["one"], &settings).await;
    let rooms: Vec<_> = (0..12).map(|n| if n == 0 { "a".to_owned() } else { format!("room{n}") }).collect();
    for (n, of) in rooms.iter().enumerate() {
        for (who, value) in [("bob", 100 + n as u64), ("cat", 7), ("dan", 0)] {
            mesh.give(of, who, value).await;
        }
        mesh.likes(of, "api1", 1, 20 + n as u64).await;
    }
    let asleep = async |crew: &Crew, name: &str| {
        wait_for("all to sleep", LONG, async || {
            match mesh.metric(crew.at(name), "pushmesh_room_fanout_rooms_asleep").await {
                12.0 => Ok(()),
                other => Err(format!("{other}")),
            }
        })
        .await;
    };
    asleep(&crew, "one").await;
    // Who read this would not take the partition.
    let ledger = mesh.bus.bucket(&Bucket::LEDGER).await.unwrap();
    let row = ledger.get(&row_of("bob")).await.unwrap().unwrap();
    let garbage = ledger.update(&row_of("bob"), "garbage".into(), row.revision).await.unwrap();
    crew.get("one").kill();
    crew.add(&mesh, "two", &settings).await;
    asleep(&crew, "two").await;
    assert_eq!(mesh.metric(crew.at("two"), "pushmesh_room_fanout_unreadable_records_total").await, 0.0);
    ledger.update(&row_of("bob"), row.value, garbage).await.unwrap();
    for (n, of) in rooms.iter().enumerate() {
        let bob = 100 + n as u64;
        assert_eq!(mesh.ranking(of).await, (vec![("bob".to_owned(), bob), ("cat".to_owned(), 7)], bob + 7));
        let info = mesh.info(of).await;
        assert_eq!((info.gifts, info.likes_total), (3, 20 + n as u64));
        mesh.give(of, "cat", 1).await;
        mesh.expect_total(of, bob + 8).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_of_an_earlier_owner_changes_nothing() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one", "two"], &["service.write_every=100ms"]).await;
    let ledger = mesh.bus.bucket(&Bucket::LEDGER).await.unwrap();
    let row = async |other_than: Option<&bytes::Bytes>| {
        wait_for("the row", LONG, async || match ledger.get(&row_of("bob")).await.unwrap() {
            Some(entry) if Some(&entry.value) != other_than => Ok(entry),
            _ => Err("not written"),
        })
        .await
    };
    mesh.give("a", "bob", 5).await;
    let first = row(None).await;
    let (owner, _) = mesh.owner_of("a", ["one", "two"]).await;
    crew.get(owner).kill();
    mesh.give("a", "bob", 6).await;
    mesh.expect_total("a", 11).await;
    let second = row(Some(&first.value)).await;
    wait_for("the checkpoint behind it", LONG, async || {
        match ledger.get(&Key::checkpoint(partition("a"))).await.unwrap() {
            Some(entry) if entry.revision > second.revision => Ok(()),
            _ => Err("not written"),
        }
    })
    .await;
    // What the first owner had on its way, at the revision it knew, is refused: `update` is what it would do.
    assert!(ledger.update(&row_of("bob"), first.value.clone(), first.revision).await.is_err());
    // Were it written nevertheless, the owner would give the partition back rather than write over what it does not know.
    ledger.update(&row_of("bob"), first.value, second.revision).await.unwrap();
    mesh.give("a", "bob", 7).await;
    let survivor = if owner == "one" { "two" } else { "one" };
    wait_for("the owner to find out", LONG, async || {
        match mesh.metric(crew.at(survivor), "pushmesh_room_fanout_foreign_records_total").await {
            0.0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    // What the row had lost is not counted again: the checkpoint is beyond it. What came since is.
    mesh.give("a", "bob", 1).await;
    wait_for("an owner again", LONG, async || match mesh.ranking("a").await.0.as_slice() {
        [(_, 13)] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_nobody_can_read_is_an_alarm_and_nobody_counts_on_without_it() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &["service.write_every=100ms"]).await;
    mesh.give("a", "bob", 5).await;
    mesh.give("a", "cat", 2).await;
    mesh.expect_total("a", 7).await;
    crew.get("one").expect_drained(LONG).await;
    let ledger = mesh.bus.bucket(&Bucket::LEDGER).await.unwrap();
    ledger.put(&row_of("bob"), "garbage".into()).await.unwrap();
    let second = mesh.room_fanout("two", &[]).await;
    wait_for("the alarm", LONG, async || {
        match mesh.metric(&second, "pushmesh_room_fanout_unreadable_records_total").await {
            0.0 => Err("no alarm"),
            _ => Ok(()),
        }
    })
    .await;
    mesh.give("a", "bob", 3).await;
    // People remove it; what is left is right, and what comes is counted.
    ledger.purge(&row_of("bob")).await.unwrap();
    let rows = vec![("bob".to_owned(), 3), ("cat".to_owned(), 2)];
    wait_for("an owner again", LONG, async || match mesh.ranking("a").await.0 {
        found if found == rows => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
