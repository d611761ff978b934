use pushmesh_protocol::{Instance, message::DeadReason, name::Subject};
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
