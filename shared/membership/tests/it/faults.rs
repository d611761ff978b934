use std::{sync::atomic::Ordering, time::Duration};

use pushmesh_bus::TakeOver;
use pushmesh_protocol::Partition;
use pushmesh_testkit::wait_for;

use crate::mesh::Mesh;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_costs_new_epochs_at_most() {
    let mut mesh = Mesh::start().await;
    let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
    mesh.shared_by("two", &[&a, &b]).await;
    mesh.nats.restart().await;
    mesh.shared_by("two after the restart", &[&a, &b]).await;
    mesh.log.take_longest_pause();
    wait_for("work goes on", Duration::from_secs(5), || async {
        if mesh.log.take_longest_pause() > Duration::ZERO { Ok(()) } else { Err("no effect") }
    })
    .await;
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_fences_everybody_and_nobody_is_taken_for_dead() {
    let mesh = Mesh::start().await;
    let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
    mesh.shared_by("two", &[&a, &b]).await;
    let before = mesh.log.epochs();
    mesh.nats.pause();
    wait_for("nobody holds anything", Duration::from_secs(3), || async {
        let held = a.ownership.held().len() + b.ownership.held().len();
        if held == 0 { Ok(()) } else { Err(format!("{held} held")) }
    })
    .await;
    mesh.nats.resume();
    mesh.renewed("all under new epochs", &before).await;
    mesh.shared_by("two again", &[&a, &b]).await;
    let takes = mesh.log.last_takes();
    assert!(takes.values().all(|(_, _, how)| *how == TakeOver::Crashed), "{takes:?}");
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_returns_is_begun_anew_under_a_new_epoch() {
    let mesh = Mesh::start().await;
    let a = mesh.join("a", 50).await;
    mesh.shared_by("a alone", &[&a]).await;
    let before = mesh.log.epochs()[&0];
    a.work.quits.store(true, Ordering::Relaxed);
    wait_for("partition 0 under a new epoch", Duration::from_secs(5), || async {
        let now = mesh.log.epochs()[&0];
        if now > before { Ok(()) } else { Err(format!("epoch {now}")) }
    })
    .await;
    assert_eq!(mesh.log.last_takes()[&0].2, TakeOver::Crashed);
    assert!(a.ownership.held().iter().any(|(partition, _)| *partition == Partition(0)));
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_the_same_name_takes_the_place_of_the_first() {
    let mesh = Mesh::start().await;
    let first = mesh.join("a", 50).await;
    mesh.shared_by("the first", &[&first]).await;
    let before = mesh.log.epochs();
    let second = mesh.join("a", 50).await;
    mesh.renewed("all under the second's epochs", &before).await;
    mesh.shared_by("the second", &[&second]).await;
    assert!(*first.membership.superseded().borrow());
    assert_eq!(first.ownership.held(), []);
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_heartbeats_stop_is_replaced_and_has_stopped_before() {
    let mesh = Mesh::start().await;
    let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
    mesh.shared_by("two", &[&a, &b]).await;
    // Everything of b ends at once but its connection for JetStream.
    b.membership.abort().await;
    assert_eq!(b.ownership.held(), []);
    mesh.shared_by("a alone", &[&a]).await;
    b.bus.drain().await;
    mesh.expect_no_fault();
}
