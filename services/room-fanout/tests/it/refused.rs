//! What NATS refuses, though it is there.

use pushmesh_protocol::{
    message::DeadReason,
    name::{Bucket, Key},
    room::Note,
    wire,
};
use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::{
    mesh::{Crew, LONG, Mesh, partition, room, user},
    server::{bytes_of, change_stream},
    viewer::Viewer,
};

/// Another room of the same partition.
fn neighbour() -> String {
    (0..).map(|n| format!("n{n}")).find(|name| partition(name) == partition("a")).unwrap()
}

async fn at_least(mesh: &Mesh, crew: &Crew, name: &str, metric: &str, least: f64) {
    wait_for(metric, LONG, async || match mesh.metric(crew.at(name), metric).await {
        found if found >= least => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_up_that_is_refused_three_times_is_a_dead_letter_once() {
    let mesh = Mesh::start().await;
    let settings = ["service.levels=[5]", "service.write_every=100ms"];
    let mut crew = Crew::start(&mesh, &["one"], &settings).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let mut near = Viewer::join(&mesh, &neighbour(), "ann").await;
    change_stream(&mesh.nats, "ROOM_LOW", |config| config["max_msg_size"] = json!(1)).await;
    mesh.give("a", "bob", 6).await;
    let letters = wait_for("the dead letter", LONG, async || match mesh.dead().await {
        letters if letters.is_empty() => Err("none"),
        letters => Ok(letters),
    })
    .await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.reason, letter.service.as_str()), (DeadReason::Rejected, "room-fanout"));
    assert!(letter.detail.contains("size"), "{}", letter.detail);
    let note: Note = wire::decode(&letter.payload).unwrap();
    assert_eq!((note.room, note.from, note.kind.as_str()), (room("a"), Some(user("bob")), "level"));
    at_least(&mesh, &crew, "one", "pushmesh_room_fanout_dead_total", 1.0).await;
    // Of three tries, two came again.
    at_least(&mesh, &crew, "one", "pushmesh_room_fanout_write_retries_total", 2.0).await;
    mesh.give(&neighbour(), "bob", 1).await;
    mesh.give("a", "bob", 1).await;
    near.until("a gift next door", |near| near.count("gift") == 1).await;
    ann.until("both gifts", |ann| ann.count("gift") == 2).await;
    assert_eq!((ann.gaps, near.gaps), (0, 0));
    // The stream takes it again; nobody says it again, whichever way the owner goes.
    change_stream(&mesh.nats, "ROOM_LOW", |config| config["max_msg_size"] = json!(-1)).await;
    for (from, to) in [("one", "two"), ("two", "three")] {
        crew.add(&mesh, to, &settings).await;
        crew.get(from).expect_drained(LONG).await;
        mesh.give("a", "bob", 1).await;
        let gifts = ann.count("gift");
        ann.until("the next owner's gift", |ann| ann.count("gift") > gifts).await;
        assert_eq!(mesh.metric(crew.at(to), "pushmesh_room_fanout_dead_total").await, 0.0);
    }
    assert_eq!((mesh.dead().await.len(), ann.count("level")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_takes_no_more_holds_up_no_room_and_loses_no_gift() {
    let mesh = Mesh::start().await;
    let settings = ["service.write_every=100ms"];
    let mut crew = Crew::start(&mesh, &["one"], &settings).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.give("a", "bob", 1).await;
    let ledger = mesh.bus.bucket(&Bucket::LEDGER).await.unwrap();
    let row = Key::ledger_row(partition("a"), &room("a"), &user("bob"));
    let stored = wait_for("the row", LONG, async || ledger.get(&row).await.unwrap().ok_or("not yet")).await;
    let full = bytes_of(&mesh.nats, "KV_ledger").await;
    change_stream(&mesh.nats, "KV_ledger", |config| config["max_bytes"] = json!(full)).await;
    for n in 0..20 {
        mesh.give("a", &format!("giver{n}"), 10).await;
    }
    ann.until("every gift", |ann| ann.count("gift") == 21).await;
    at_least(&mesh, &crew, "one", "pushmesh_room_fanout_write_retries_total", 20.0).await;
    assert_eq!(mesh.info("a").await.gifts_total, 201);
    // What could not be written is replayed.
    crew.add(&mesh, "two", &settings).await;
    crew.get("one").kill();
    mesh.give("a", "bob", 5).await;
    ann.until("the next owner's gift", |ann| ann.count("gift") == 22).await;
    assert_eq!((mesh.info("a").await.gifts_total, ann.gaps), (206, 0));
    change_stream(&mesh.nats, "KV_ledger", |config| config["max_bytes"] = json!(1 << 30)).await;
    wait_for("the row to be written", LONG, async || match ledger.get(&row).await.unwrap() {
        Some(entry) if entry.revision > stored.revision => Ok(()),
        _ => Err("not yet"),
    })
    .await;
    crew.get("two").expect_drained(LONG).await;
    crew.add(&mesh, "three", &settings).await;
    let (ranking, total) = mesh.ranking("a").await;
    assert_eq!((ranking.len(), total), (21, 206));
    assert_eq!(mesh.metric(crew.at("three"), "pushmesh_room_fanout_repeated_total").await, 0.0);
    assert!(mesh.dead().await.is_empty());
}
