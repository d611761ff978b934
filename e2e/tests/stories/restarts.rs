//! What survives the broker's restart and a mesh's.

use e2e::{Mesh, Shape};
use pushmesh_proto::v1::PushPolicy;

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_killed_and_comes_back_and_nothing_accepted_is_lost() {
    let mut mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    let mut alice = mesh.login("alice").await;
    mesh.broker.kill(0);
    // Said during the outage: held, and stored when the broker is back.
    let said = tokio::spawn({
        let backend = backend.clone();
        async move { backend.start_call("group", "friends", "standup").await }
    });
    let pushed = tokio::spawn({
        let backend = backend.clone();
        async move { backend.push("alice", "1", "hello", PushPolicy::Inbox).await }
    });
    mesh.broker.restart(0).await;
    said.await.expect("held over the outage");
    pushed.await.expect("held over the outage");
    alice.expect_call("standup").await;
    alice.expect_message("hello").await;
    assert_eq!(alice.counts(), [("standup".to_owned(), 1), ("hello".to_owned(), 1)].into());
    assert_eq!(mesh.all_dead_letters().await.len(), 0);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ack_retry_killed_with_pushes_under_way_loses_none() {
    let mut mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    for n in 0..50 {
        backend.push("alice", &format!("{n}"), &format!("message {n}"), PushPolicy::Inbox).await;
    }
    mesh.kill("ack-retry", 0);
    mesh.add("ack-retry").await;
    let mut alice = mesh.login("alice").await;
    for n in 0..50 {
        alice.expect_message(&format!("message {n}")).await;
    }
    assert!(alice.counts().values().all(|count| *count == 1));
    mesh.stop().await;
}
