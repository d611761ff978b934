use pushmesh_testkit::wait_for;

use crate::mesh::{LONG, Mesh};

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_waits_in_the_stream_and_nothing_is_dropped() {
    let mesh = Mesh::start().await;
    let ack_retry = mesh.ack_retry("one", &["service.pushes_max=5", "service.retry_interval=60s"]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    // Alice is connected once something reaches her; until then, what waits for her fills nothing.
    let mut pushes = vec![mesh.call("alice", "phone", "l1", "warm").await];
    comet.has(pushes[0], 1).await;
    for number in 1..40 {
        pushes.push(mesh.call("alice", "phone", "l1", &format!("c{number}")).await);
    }
    wait_for("the partition to be full", LONG, async || {
        match mesh.metric(&ack_retry, "pushmesh_ack_retry_full_partitions").await {
            1.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    assert!(comet.items().len() <= 5);
    for push in pushes {
        comet.has(push, 1).await;
        comet.ack("alice", "a", push).await;
    }
    mesh.nothing_is_left().await;
    assert_eq!(comet.items().len(), 40);
}
