//! NATS away, and PUSH full.

use std::time::Duration;

use pushmesh_bus::{Outgoing, StoreError, TakeOver};
use pushmesh_protocol::{
    UserId,
    message::OnlineResult,
    name::{MessageId, Stream, Subject},
};
use pushmesh_testkit::wait_for;

use crate::mesh::{Mesh, PATIENCE, TestKind, offline, online};

#[tokio::test]
async fn the_engine_goes_on_after_a_restart_of_the_server() {
    let mut mesh = Mesh::start(TestKind::group()).await;
    let push = mesh.engine("group-1").await;
    push.join("g", &["ann"]).await;
    mesh.session("ann", "conn-1", "l1", None).await;
    mesh.record(&push.instance, "ann", online("l1")).await;

    mesh.nats.kill();
    let error = push.try_start("c", "g", "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");
    assert!(error.metadata().get("grpc-retry-pushback-ms").is_some());
    mesh.nats.restart().await;

    let mut tap = wait_for("the tap", PATIENCE, || async { Ok::<_, String>(mesh.tap().await) }).await;
    wait_for("the call to start", PATIENCE, || async {
        push.try_start("c", "g", "").await.map_err(|error| error.to_string())
    })
    .await;
    tap.expect(&["+c@l1"]).await;
    push.engine.drain().await;
}

#[tokio::test]
async fn what_push_has_no_room_for_is_tried_until_it_has() {
    let mesh = Mesh::start_with(TestKind::group(), |config| config.stream_max_bytes = 256 * 1024).await;
    let push = mesh.engine("group-1").await;
    push.join("g", &["ann"]).await;
    mesh.record(&push.instance, "ann", online("l1")).await;

    // Full of somebody else's pushes.
    let other = UserId::new("other").unwrap();
    let partition = mesh.partition(&other);
    let mut filled = 0;
    for bytes in [64 * 1024, 1024, 16] {
        loop {
            let id = MessageId::late(filled);
            let subject = Subject::push(partition, &other);
            let outcome = mesh.bus.store(Outgoing { subject, payload: vec![0; bytes].into(), id, trace: None }).await;
            match outcome {
                Ok(_) => filled += 1,
                Err(StoreError::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let mut tap = mesh.tap().await;
    push.start("c1", "g").await;
    let results = wait_for("the record to fail", PATIENCE, || async {
        let results = mesh.ask(&push.instance, vec![mesh.entry("ann", online("l2"))]).await?;
        match &results[..] {
            [OnlineResult::Failed { .. }] => Ok(results),
            // The call's news may not have come yet: then there was nothing to store but the older login's end.
            _ => Err(format!("{results:?}")),
        }
    })
    .await;
    assert_eq!(results.len(), 1);

    let mut consumer = mesh.bus.take_partition(&Stream::PUSH, partition, TakeOver::Fresh).await.unwrap();
    for _ in 0..filled {
        let delivered = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        delivered.acker().ack();
    }
    // By itself: what came of the call, and the end of the older login; not the failed record's own.
    let mut lines = vec![tap.next().await];
    while !lines.iter().any(|line| line == "end l1") || !lines.iter().any(|line| line.starts_with("+c1@")) {
        lines.push(tap.next().await);
    }
    // And the record, said again.
    mesh.record(&push.instance, "ann", online("l3")).await;
    while lines.last().map(String::as_str) != Some("+c1@l3") {
        lines.push(tap.next().await);
    }
    mesh.record(&push.instance, "ann", offline("l3")).await;
    while lines.last().map(String::as_str) != Some("end l3") {
        lines.push(tap.next().await);
    }
    drop(consumer);
    tokio::time::timeout(Duration::from_secs(10), push.engine.drain()).await.unwrap();
}
