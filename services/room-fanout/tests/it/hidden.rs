use std::time::Duration;

use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Crew, LONG, Mesh},
    viewer::Viewer,
};

const SETTINGS: [&str; 1] = ["service.write_every=100ms"];

/// Until the owner knows whether somebody is muted.
async fn is_muted(mesh: &Mesh, who: &str, muted: bool) {
    wait_for("the owner to know", LONG, async || {
        let until = Viewer::join(mesh, "a", who).await.joined.muted_until;
        if until.is_some() == muted { Ok(()) } else { Err(format!("{until:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_muted_user_said_is_told_to_nobody_who_comes_back_later_either() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &SETTINGS).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let left_at = ann.position;
    mesh.chat("a", "troll", "first").await;
    ann.until("his word", |ann| ann.count("chat") == 1).await;
    mesh.mute("a", "troll", Duration::from_secs(600)).await;
    is_muted(&mesh, "troll", true).await;
    // Accepted by an api that did not know yet.
    mesh.chat("a", "troll", "second").await;
    mesh.chat("a", "bob", "third").await;
    ann.until("what others say", |ann| ann.count("chat") == 2).await;
    let told = ["first", "third"];
    assert_eq!(ann.texts("chat"), told);
    assert_eq!(Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await.texts("chat"), told);
    // The next owner reads the stream, and knows of no mute any more.
    mesh.unmute("a", "troll").await;
    is_muted(&mesh, "troll", false).await;
    crew.add(&mesh, "two", &SETTINGS).await;
    crew.get("one").expect_drained(LONG).await;
    let back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
    assert_eq!((back.texts("chat"), back.joined.recovered), (told.map(str::to_owned).to_vec(), true));
    // Free again, he is heard, also by an owner whom nobody has told anything.
    mesh.chat("a", "troll", "fourth").await;
    ann.until("his word", |ann| ann.count("chat") == 3).await;
    crew.add(&mesh, "three", &SETTINGS).await;
    crew.get("two").kill();
    ann.until("the third owner", |ann| ann.lease > back.lease).await;
    let back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
    assert_eq!(back.texts("chat"), ["first", "third", "fourth"]);
    assert_eq!((ann.texts("chat"), ann.lost), (back.texts("chat"), 0));
}
