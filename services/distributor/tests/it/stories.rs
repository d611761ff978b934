use std::time::Duration;

use pushmesh_protocol::message::DeadReason;

use crate::mesh::{LONG, Mesh, PARTITIONS, expect_metric};

const RECORDS: &str = "pushmesh_distributor_records_total";
const WAITING: &str = "pushmesh_distributor_waiting_records";
const LATE_STORED: &str = "pushmesh_distributor_late_stored_total";
const LATE_PARTITIONS: &str = "pushmesh_distributor_late_partitions";

#[tokio::test(flavor = "multi_thread")]
async fn every_record_reaches_every_kind_in_order() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    mesh.login(300, 40).await;
    let mut distributor = mesh.distributor("dist-1").await;
    mesh.login(300, 40).await;
    for kind in &kinds {
        kind.log.expect(600).await;
        kind.log.assert_order();
    }
    expect_metric(&distributor, RECORDS, |records| records == 600.0).await;
    expect_metric(&distributor, WAITING, |waiting| waiting == 0.0).await;
    distributor.expect_drained(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_follow_their_owner() {
    let mut mesh = Mesh::start().await;
    let [group, discuss, org] = mesh.kinds().await;
    let distributor = mesh.distributor("dist-1").await;
    mesh.login(200, 40).await;
    let second = group.another(&mesh.nats.url(), "group", "g2").await;
    second.expect_owner_of(usize::from(PARTITIONS) / 2).await;
    mesh.login(200, 40).await;
    let log = group.log.clone();
    let leaving = tokio::spawn(group.leave());
    mesh.login(200, 40).await;
    leaving.await.unwrap();
    second.expect_owner_of(usize::from(PARTITIONS)).await;
    mesh.login(200, 40).await;
    for log in [&log, &discuss.log, &org.log] {
        log.expect(mesh.stored()).await;
        log.assert_order();
    }
    expect_metric(&distributor, WAITING, |waiting| waiting == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_kind_delays_only_itself() {
    let mut mesh = Mesh::start().await;
    let [group, discuss, org] = mesh.kinds().await;
    let distributor = mesh.distributor("dist-1").await;
    mesh.login(50, 20).await;
    org.log.expect(50).await;
    org.silence(true);
    for _ in 0..5 {
        mesh.login(40, 20).await;
        group.log.expect(mesh.stored()).await;
        discuss.log.expect(mesh.stored()).await;
    }
    assert_eq!(org.log.records().len(), 50);
    // Its part is in LATE, and LOGIN waits for nobody.
    expect_metric(&distributor, LATE_STORED, |late| late == 200.0).await;
    expect_metric(&distributor, WAITING, |waiting| waiting == 0.0).await;
    mesh.login(40, 20).await;
    group.log.expect(mesh.stored()).await;
    org.silence(false);
    mesh.login(40, 20).await;
    org.log.expect(mesh.stored()).await;
    org.log.assert_order();
    expect_metric(&distributor, LATE_PARTITIONS, |late| late == 0.0).await;
    // Direct again: nothing goes the long way any more.
    let (before, records) = (mesh.stored(), mesh.stored() + 20);
    mesh.login(20, 20).await;
    org.log.expect(records).await;
    expect_metric(&distributor, RECORDS, |all| all == before as f64 + 20.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_distributor_loses_nothing() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    let mut first = mesh.distributor("dist-1").await;
    let second = mesh.distributor("dist-2").await;
    // 1,000 records a second, for as long as it takes to notice and take over.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for round in 0..120 {
        pace.tick().await;
        mesh.login(20, 40).await;
        if round == 20 {
            first.kill();
        }
    }
    for kind in &kinds {
        kind.log.expect(mesh.stored()).await;
        kind.log.assert_order();
    }
    expect_metric(&second, WAITING, |waiting| waiting == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_late_is_the_next_owners_too() {
    let mut mesh = Mesh::start().await;
    let [group, discuss, org] = mesh.kinds().await;
    let mut first = mesh.distributor("dist-1").await;
    org.silence(true);
    mesh.login(100, 20).await;
    expect_metric(&first, LATE_STORED, |late| late == 100.0).await;
    first.kill();
    mesh.login(100, 20).await;
    let second = mesh.distributor("dist-2").await;
    group.log.expect(200).await;
    discuss.log.expect(200).await;
    expect_metric(&second, WAITING, |waiting| waiting == 0.0).await;
    org.silence(false);
    org.log.expect(200).await;
    org.log.assert_order();
    expect_metric(&second, LATE_PARTITIONS, |late| late == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_becomes_a_dead_letter() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    let distributor = mesh.distributor("dist-1").await;
    mesh.garbage("u1").await;
    mesh.login(40, 20).await;
    kinds[0].log.expect(40).await;
    let letter = mesh.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::Malformed);
    assert_eq!(&letter.payload[..], b"garbage");
    assert_eq!(letter.service.as_str(), "distributor");
    expect_metric(&distributor, "pushmesh_distributor_malformed_total", |dead| dead == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_distributor_hands_over_under_load() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    let mut first = mesh.distributor("dist-1").await;
    let second = mesh.distributor("dist-2").await;
    mesh.login(200, 40).await;
    kinds[0].log.expect(200).await;
    first.term();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..60 {
        pace.tick().await;
        mesh.login(20, 40).await;
    }
    first.expect_exit(0, LONG).await;
    for kind in &kinds {
        kind.log.expect(mesh.stored()).await;
        kind.log.assert_order();
    }
    expect_metric(&second, WAITING, |waiting| waiting == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_distributor_comes_back_and_breaks_nothing() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    let mut first = mesh.distributor("dist-1").await;
    let second = mesh.distributor("dist-2").await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for round in 0..200 {
        pace.tick().await;
        mesh.login(20, 40).await;
        match round {
            20 => first.stop(),
            150 => first.cont(),
            _ => {}
        }
    }
    for kind in &kinds {
        kind.log.expect(mesh.stored()).await;
        kind.log.assert_order();
    }
    expect_metric(&first, WAITING, |waiting| waiting == 0.0).await;
    expect_metric(&second, WAITING, |waiting| waiting == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_loses_nothing() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    let distributor = mesh.distributor("dist-1").await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for round in 0..100 {
        pace.tick().await;
        mesh.login(20, 40).await;
        if round == 20 {
            mesh.nats.restart().await;
        }
    }
    for kind in &kinds {
        kind.log.expect(mesh.stored()).await;
        kind.log.assert_order();
    }
    expect_metric(&distributor, WAITING, |waiting| waiting == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_a_server_that_stands_still_aborts_nothing() {
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    mesh.login(50, 10).await;
    let mut distributor = mesh.distributor("dist-1").await;
    expect_metric(&distributor, RECORDS, |records| records == 50.0).await;
    mesh.nats.pause();
    distributor.term();
    distributor.expect_exit(69, LONG).await;
    mesh.nats.resume();
    let log = distributor.stderr();
    assert!(!log.contains("aborted"), "{log}");
    drop(kinds);
}
