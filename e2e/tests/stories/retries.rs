//! Three transmissions, then inbox or dead letter; never silently gone.

use std::time::Duration;

use e2e::{Mesh, PATIENCE, Person, Shape};
use pushmesh_proto::v1::PushPolicy;
use pushmesh_protocol::message::DeadReason;
use pushmesh_testkit::{Process, ProcessOptions, pushmesh_binary, wait_for};

/// Retries come soon.
fn soon() -> Shape {
    Shape { retry: Some("300ms"), ..Shape::default() }
}

/// Logs in and never acknowledges.
async fn silent(mesh: &Mesh, user: &str) -> Person {
    let mut person = Person::connect(mesh, user, "phone", 0, |options| options.auto_ack = false);
    person.expect_logged_in().await;
    person
}

async fn never_acknowledged(shape: Shape, interval: Duration) {
    let mesh = Mesh::start(shape).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    // Everything comes after this, however late it is seen.
    let begun = tokio::time::Instant::now();
    backend.start_call("group", "friends", "standup").await;
    let mut alice = silent(&mesh, "alice").await;
    alice.expect_call("standup").await;
    wait_for("the third transmission", 4 * interval + PATIENCE, async || match alice.client.stats().transmissions {
        3.. => Ok(()),
        count => Err(format!("{count} transmissions")),
    })
    .await;
    let spread = begun.elapsed();
    assert!(spread > interval * 2 - interval / 4, "three transmissions within {spread:?}");
    let dead = mesh.dead_letters(1).await;
    assert_eq!((dead.len(), dead[0].reason), (1, DeadReason::Unacknowledged));
    assert!(begun.elapsed() > interval * 3 - interval / 4, "dead after {:?}", begun.elapsed());
    assert_eq!((alice.client.stats().transmissions, alice.shown.len()), (3, 1));
    assert!(mesh.metric("ack-retry", 0, "pushmesh_ack_retry_transmissions_total").await == 3.0);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_acks_gets_three_transmissions_and_then_it_is_a_dead_letter() {
    never_acknowledged(soon(), Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_interval_is_ten_seconds() {
    let default = Shape { retry: None, ..Shape::default() };
    // The story below can't tell longer from busy.
    let options = ProcessOptions::new(pushmesh_binary()).args(["serve", "ack-retry", "--print-config"]);
    let mut printing = Process::run("ack-retry", options);
    printing.expect_exit(0, PATIENCE).await;
    assert!(printing.stdout().lines().any(|line| line == r#"retry_interval = "10s""#), "{}", printing.stdout());
    never_acknowledged(default, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_users_inbox_waits_for_his_next_login() {
    let mesh = Mesh::start(soon()).await;
    let backend = mesh.backend();
    backend.push("alice", "1", "your invoice", PushPolicy::Inbox).await;
    backend.push("alice", "1", "your invoice", PushPolicy::Inbox).await;
    backend.push("alice", "2", "not worth keeping", PushPolicy::Drop).await;
    let mut alice = mesh.login("alice").await;
    alice.expect_message("your invoice").await;
    backend.push("alice", "3", "while here", PushPolicy::Drop).await;
    alice.expect_message("while here").await;
    assert_eq!(alice.shown.len(), 2, "{:?}", alice.counts());
    assert_eq!(mesh.all_dead_letters().await.len(), 0);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_push_that_one_login_never_acked_is_there_for_the_next() {
    let mesh = Mesh::start(soon()).await;
    let backend = mesh.backend();
    let mut first = silent(&mesh, "alice").await;
    backend.push("alice", "1", "your invoice", PushPolicy::Inbox).await;
    first.expect_message("your invoice").await;
    wait_for("three transmissions", PATIENCE, async || match first.client.stats().transmissions {
        3 => Ok(()),
        count => Err(format!("{count} transmissions")),
    })
    .await;
    wait_for("the inbox", PATIENCE, async || {
        match mesh.metric("ack-retry", 0, "pushmesh_ack_retry_inbox_pushes").await {
            1.0 => Ok(()),
            count => Err(format!("{count} in the inbox")),
        }
    })
    .await;
    first.client.logout().await;
    let mut second = mesh.login("alice").await;
    second.expect_message("your invoice").await;
    assert_eq!(mesh.all_dead_letters().await.len(), 0);
    mesh.stop().await;
}
