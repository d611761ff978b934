//! NATS away, and PUSH full.

use std::time::Duration;

use pushmesh_bus::{Outgoing, StoreError, TakeOver};
use pushmesh_proto::v1::{ListCallsRequest, calls_server::Calls};
use pushmesh_protocol::{
    UserId,
    message::OnlineResult,
    name::{MessageId, Stream, Subject},
    wire,
};
use pushmesh_testkit::wait_for;
use tonic::{Request, Status};

use crate::mesh::{Mesh, PATIENCE, Running, TestKind, line, offline, online, user};

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

/// What PUSH holds for a user, up to this line.
async fn told_up_to(mesh: &Mesh, name: &str, last: &str) -> Vec<String> {
    let partition = mesh.partition(&user(name));
    let taken = wait_for("a consumer", PATIENCE, async || {
        mesh.bus.take_partition(&Stream::PUSH, partition, TakeOver::Crashed).await.map_err(|error| error.to_string())
    });
    let (mut consumer, mut lines) = (taken.await, Vec::new());
    while lines.last().map(String::as_str) != Some(last) {
        let delivered = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time").expect("open");
        lines.push(line(&wire::decode(&delivered.payload).unwrap()));
        delivered.acker().ack();
    }
    consumer.release().await;
    lines
}

/// Does not end while NATS is away, for longer than one that only asks would wait; then ends well.
async fn held<T: std::fmt::Debug>(
    running: impl Future<Output = Result<T, Status>>,
    push: &Running,
    back: impl AsyncFnOnce(),
) -> T {
    let mut running = std::pin::pin!(running);
    let away = tokio::time::timeout(Duration::from_secs(8), &mut running).await;
    assert!(away.is_err(), "{away:?}");
    // Who only asks is not held: nothing comes back before this is answered.
    push.calls.list_calls(Request::new(ListCallsRequest::default())).await.unwrap();
    back().await;
    tokio::time::timeout(PATIENCE, running).await.expect("soon after").unwrap()
}

#[tokio::test]
async fn a_call_that_starts_or_ends_while_nats_is_away_for_8_seconds_does_so_once() {
    let mut mesh = Mesh::start(TestKind::group()).await;
    mesh.bus_config.outage_hold = PATIENCE;
    let push = mesh.engine("group-1").await;
    push.join("g", &["ann"]).await;
    mesh.session("ann", "conn-1", "l1", None).await;
    mesh.record(&push.instance, "ann", online("l1")).await;

    mesh.nats.pause();
    let started_at = held(push.try_start("c", "g", "data"), &push, async || mesh.nats.resume()).await;
    assert_eq!(push.try_start("c", "g", "data").await.unwrap(), started_at, "said again, it is the same");
    push.start("d", "g").await;
    let mut told = told_up_to(&mesh, "ann", "+d@l1").await;

    mesh.nats.kill();
    let ended_at = held(push.try_end("c"), &push, async || mesh.nats.restart().await).await;
    assert_eq!(push.try_end("c").await.unwrap(), ended_at);
    push.end("d").await;
    told.extend(told_up_to(&mesh, "ann", "-d@l1").await);
    for line in ["+c@l1", "-c@l1"] {
        assert_eq!(told.iter().filter(|told| *told == line).count(), 1, "{told:?}");
    }
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
    tokio::time::timeout(PATIENCE, push.engine.drain()).await.unwrap();
}
