use pushmesh_protocol::{
    Instance,
    message::DeadReason,
    name::{Bucket, Key, Subject},
};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Crew, LONG, Mesh, partition, room},
    viewer::Viewer,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_becomes_a_dead_letter_and_holds_up_nothing() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one", "two"], &["service.write_every=100ms"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.give("a", "bob", 1).await;
    let (here, of) = (partition("a"), room("a"));
    mesh.garbage(Subject::gift(here, &of)).await;
    mesh.garbage(Subject::room_chat(here, &of)).await;
    mesh.garbage(Subject::room_event(here, &of)).await;
    mesh.garbage(Subject::room_likes(here, &of, &Instance::new("api1").unwrap(), 7)).await;
    // A gift whose subject names another room than it says.
    let mut strayed = mesh.gift("somewhere", "bob", 100);
    strayed.subject = Subject::gift(here, &of);
    mesh.give_all(vec![strayed]).await;
    mesh.give("a", "bob", 2).await;
    mesh.chat("a", "bob", "hello").await;
    mesh.normal("a", "event").await;
    mesh.likes("a", "api2", 1, 3).await;
    ann.until("what can be read", |ann| {
        (ann.count("gift"), ann.count("chat"), ann.count("custom"), ann.count("like")) == (2, 1, 1, 1)
    })
    .await;
    assert_eq!((ann.gaps, ann.lost), (0, 0));
    let dead = async |count: usize| {
        wait_for("the dead letters", LONG, async || {
            let dead = mesh.dead().await;
            if dead.len() == count { Ok(dead) } else { Err(format!("{} of {count}", dead.len())) }
        })
        .await
    };
    let letters = dead(5).await;
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::Malformed));
    assert_eq!(letters.iter().filter(|letter| letter.payload == "garbage").count(), 4);
    // The next owner is not held up either, and buries nothing twice.
    let (owner, _) = mesh.owner_of("a", ["one", "two"]).await;
    crew.get(owner).expect_drained(LONG).await;
    mesh.give("a", "bob", 4).await;
    ann.until("the new owner's gift", |ann| ann.count("gift") == 3).await;
    assert_eq!(mesh.info("a").await.gifts_total, 7);
    assert_eq!(dead(5).await.len(), 5);
}

/// Another room of the same partition.
fn neighbour() -> String {
    (0..).map(|n| format!("n{n}")).find(|name| partition(name) == partition("a")).unwrap()
}

/// A damaged record makes a room fail where it is used: it says that the room is cut into no parts.
async fn damage(mesh: &Mesh) {
    let (ledger, key) =
        (mesh.bus.bucket(&Bucket::LEDGER).await.unwrap(), Key::room_snapshot(partition("a"), &room("a")));
    let record = ledger.get(&key).await.unwrap().unwrap();
    let mut bytes = record.value.to_vec();
    // The parts' own chains, none; and the timeline: behind 0, one.
    let whole = [0x90, 0x91, 0x92, 0x00, 0x01];
    let at = bytes.windows(whole.len()).position(|window| window == whole).expect("a record of a room that is whole");
    bytes[at + whole.len() - 1] = 0;
    ledger.update(&key, bytes.into(), record.revision).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_three_times_becomes_a_dead_letter_and_its_room_and_all_others_go_on() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &["service.write_every=100ms"]).await;
    mesh.give("a", "bob", 1).await;
    mesh.expect_total("a", 1).await;
    crew.get("one").expect_drained(LONG).await;
    damage(&mesh).await;
    let poison = mesh.chat("a", "bob", "poison").await;
    mesh.give("a", "bob", 2).await;
    mesh.chat(&neighbour(), "bob", "hello").await;
    crew.add(&mesh, "two", &["service.write_every=100ms"]).await;
    let letters = wait_for("the dead letter", LONG, async || {
        let dead = mesh.dead().await;
        if dead.is_empty() { Err("none") } else { Ok(dead) }
    })
    .await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.reason, DeadReason::Rejected);
    assert!(letter.detail.contains("three times"), "{}", letter.detail);
    assert_eq!(letter.subject, Subject::room_chat(partition("a"), &room("a")).to_string());
    assert!(letter.payload.windows(6).any(|window| window == b"poison"), "{poison} is kept as it was");
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let mut near = Viewer::join(&mesh, &neighbour(), "ann").await;
    mesh.give("a", "bob", 4).await;
    mesh.chat(&neighbour(), "bob", "still here").await;
    ann.until("a gift in its room", |ann| ann.count("gift") == 1).await;
    near.until("what is said next door", |near| near.count("chat") == 1).await;
    mesh.expect_total("a", 7).await;
    let failed = mesh.metric(crew.at("two"), "pushmesh_room_fanout_dead_total").await;
    assert_eq!((failed, mesh.dead().await.len(), ann.gaps), (1.0, 1, 0));
}
