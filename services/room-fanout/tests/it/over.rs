//! Rooms that are over.

use std::time::Duration;

use pushmesh_protocol::name::{Bucket, Key};
use pushmesh_testkit::wait_for;

use crate::mesh::{Crew, LONG, Mesh, now, partition, room, user};

const SETTINGS: [&str; 5] = [
    "service.idle_after=1s",
    "service.write_every=100ms",
    "service.heads_for=100ms",
    "service.heads_every=100ms",
    "service.forget_after=30d",
];
const MONTH_AND_A_DAY: Duration = Duration::from_secs(31 * 24 * 3600);

/// All times in a room's own record become so much older.
async fn age(mesh: &Mesh, of: &str, by: Duration) {
    let ledger = mesh.bus.bucket(&Bucket::LEDGER).await.unwrap();
    let key = Key::room_snapshot(partition(of), &room(of));
    let record = ledger.get(&key).await.unwrap().unwrap();
    let (mut bytes, now, mut found) = (record.value.to_vec(), now(), 0);
    for at in 1..bytes.len() - 7 {
        let number: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
        let time = u64::from_be_bytes(number);
        if bytes[at - 1] == 0xcf && (now - 600_000..=now).contains(&time) {
            bytes[at..at + 8].copy_from_slice(&(time - by.as_millis() as u64).to_be_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "a record says when something was last said");
    ledger.update(&key, bytes.into(), record.revision).await.unwrap();
}

async fn reaches(mesh: &Mesh, crew: &Crew, name: &str, metric: &str, value: f64) {
    wait_for(metric, LONG, async || match mesh.metric(crew.at(name), metric).await {
        found if found == value => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_was_silent_for_a_month_is_forgotten_and_begins_at_zero() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &SETTINGS).await;
    for of in ["a", "b"] {
        for n in 0..100 {
            mesh.give(of, &format!("giver-{n}"), 1 + n).await;
        }
        mesh.likes(of, "api1", 1, 20).await;
    }
    reaches(&mesh, &crew, "one", "pushmesh_room_fanout_rooms_asleep", 2.0).await;
    crew.get("one").expect_drained(LONG).await;
    age(&mesh, "a", MONTH_AND_A_DAY).await;
    crew.add(&mesh, "two", &SETTINGS).await;
    reaches(&mesh, &crew, "two", "pushmesh_room_fanout_forgotten_total", 1.0).await;
    reaches(&mesh, &crew, "two", "pushmesh_room_fanout_rooms_asleep", 1.0).await;
    let ledger = mesh.bus.bucket(&Bucket::LEDGER).await.unwrap();
    let stored = async |of: &str| {
        let own = ledger.get(&Key::room_snapshot(partition(of), &room(of))).await.unwrap().is_some();
        let mut rows = 0;
        for n in 0..100 {
            let row = Key::ledger_row(partition(of), &room(of), &user(&format!("giver-{n}")));
            rows += usize::from(ledger.get(&row).await.unwrap().is_some());
        }
        (own, rows)
    };
    assert_eq!((stored("a").await, stored("b").await), ((false, 0), (true, 100)));
    mesh.give("a", "giver-7", 3).await;
    mesh.expect_total("a", 3).await;
    assert_eq!(mesh.ranking("a").await, (vec![("giver-7".to_owned(), 3)], 3));
    assert_eq!(mesh.ranking("b").await.1, 5050);
    // The next owner reads nothing of the past either.
    reaches(&mesh, &crew, "two", "pushmesh_room_fanout_rooms_asleep", 2.0).await;
    crew.get("two").expect_drained(LONG).await;
    crew.add(&mesh, "three", &SETTINGS).await;
    assert_eq!(mesh.ranking("a").await.1, 3);
    assert_eq!(stored("a").await, (true, 1));
}
