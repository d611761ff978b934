use std::time::Instant;

use pushmesh_protocol::{
    PushId,
    message::{AckOutcome, AtEnd, CometOrder, DeadReason, PendingState, PushOrder},
    wire,
};
use pushmesh_testkit::wait_for;

use crate::mesh::{LONG, Mesh, RETRY};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_acknowledges_gets_exactly_three_and_then_it_is_a_dead_letter() {
    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &[]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    let begun = Instant::now();
    let push = mesh.call("alice", "phone", "l1", "call").await;
    let dead = wait_for("a dead letter", LONG, async || {
        let dead = mesh.dead().await;
        if dead.is_empty() { Err("none") } else { Ok(dead) }
    })
    .await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, DeadReason::Unacknowledged);
    let order: PushOrder = wire::decode(&dead[0].payload).unwrap();
    assert!(matches!(order, PushOrder::Deliver(delivery) if delivery.id == push));
    let times = comet.transmissions(push);
    assert_eq!(times.len(), 3, "never a fourth: {times:?}");
    // The intervals themselves are the desk's to prove: what comes late here may be followed soon.
    let took = begun.elapsed();
    assert!(took >= RETRY * 2, "{took:?}");
    mesh.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_settles_a_push_and_leaves_nothing() {
    let mesh = Mesh::start().await;
    let mut ack_retry = mesh.ack_retry("one", &["service.retry_interval=60s"]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    let pushes = futures_util::future::join_all(
        (0..50).map(async |n| mesh.call("alice", "phone", "l1", &format!("c{n}")).await),
    );
    for push in pushes.await {
        comet.has(push, 1).await;
        comet.ack("alice", "a", push).await;
    }
    wait_for("all to be acknowledged", LONG, async || {
        match mesh.metric(&ack_retry, "pushmesh_ack_retry_outcomes_total{outcome=\"acked\"}").await {
            50.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    mesh.nothing_is_left().await;
    assert_eq!(comet.items().len(), 50);
    ack_retry.expect_drained(LONG).await;
    mesh.no_push_waits().await;
    assert!(mesh.dead().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_a_session_and_a_reconnect_is_sent_to_at_once() {
    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &["service.retry_interval=60s"]).await;
    let (first, second) = (mesh.comet("c1").await, mesh.comet("c2").await);
    let push = mesh.call("alice", "phone", "l1", "call").await;
    wait_for("it to wait in pending", LONG, async || match &mesh.pending_of("alice").await[..] {
        [pending] if pending.tries == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    mesh.put_session(&first, "alice", "phone", "l1", "a").await;
    first.has(push, 1).await;
    // The connection breaks, and comes back elsewhere.
    first.answer("alice", "a", push, AckOutcome::Gone).await;
    mesh.put_session(&second, "alice", "phone", "l1", "b").await;
    second.has(push, 1).await;
    second.ack("alice", "b", push).await;
    mesh.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_users_inbox_waits_for_his_next_login() {
    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &[]).await;
    let comet = mesh.comet("c1").await;
    let push = mesh.message("alice", "m1", AtEnd::Inbox).await;
    let in_inbox = async || match &mesh.pending_of("alice").await[..] {
        [pending] if pending.state == PendingState::Inbox => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for("it to be in the inbox", LONG, in_inbox).await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    comet.has(push, 3).await;
    wait_for("it to be in the inbox again", LONG, in_inbox).await;
    assert_eq!(comet.transmissions(push).len(), 3);
    mesh.put_session(&comet, "alice", "phone", "l2", "b").await;
    let times = comet.has(push, 4).await;
    assert_eq!(times[3], "b");
    comet.ack("alice", "b", push).await;
    mesh.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_settles_its_push_even_before_that_comes() {
    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &["service.retry_interval=60s"]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    // Alice is connected once something reaches her.
    let warm = mesh.call("alice", "phone", "l1", "warm").await;
    comet.has(warm, 1).await;
    comet.ack("alice", "a", warm).await;
    let ended = mesh.withdraw("alice", "phone", "l1", "call").await;
    let push = mesh.call("alice", "phone", "l1", "call").await;
    let after = mesh.call("alice", "phone", "l1", "after").await;
    comet.has(after, 1).await;
    comet.has(ended, 1).await;
    comet.ack("alice", "a", ended).await;
    comet.ack("alice", "a", after).await;
    assert!(comet.transmissions(push).is_empty());
    let told =
        comet.items().into_iter().any(|item| matches!(item.order, CometOrder::CallEnded(end) if end.ends == push));
    assert!(told);
    mesh.nothing_is_left().await;
    // A login without a session is told of nothing, and nothing waits for it.
    mesh.call("bob", "phone", "l9", "call").await;
    mesh.withdraw("bob", "phone", "l9", "call").await;
    mesh.call("carol", "phone", "l8", "call").await;
    mesh.login_ended("carol", "l8").await;
    mesh.nothing_is_left().await;
    assert!(mesh.dead().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_uses_up_no_tries() {
    let mut mesh = Mesh::start().await;
    let ack_retry = mesh.ack_retry("one", &["service.retry_interval=3s"]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    let push = mesh.call("alice", "phone", "l1", "call").await;
    comet.has(push, 1).await;
    mesh.nats.kill();
    let away = Instant::now();
    // Long enough for all three tries and the outcome, had the time counted.
    wait_for("10 s to pass", LONG, async || if away.elapsed().as_secs() >= 10 { Ok(()) } else { Err("not yet") }).await;
    mesh.nats.restart().await;
    comet.has(push, 2).await;
    comet.ack("alice", "a", push).await;
    mesh.nothing_is_left().await;
    wait_for("it to count as acknowledged", LONG, async || {
        match mesh.metric(&ack_retry, "pushmesh_ack_retry_outcomes_total{outcome=\"acked\"}").await {
            1.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    assert!(mesh.dead().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_order_is_a_dead_letter_and_the_partition_goes_on() {
    use pushmesh_bus::Outgoing;
    use pushmesh_protocol::name::{MessageId, Subject};

    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &[]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    let subject = || Subject::push(crate::mesh::partition("alice"), &crate::mesh::user("alice"));
    let bombs: [&'static [u8]; 4] = [b"", b"\xc1", &[0x91; 5000], &[0xdd, 255, 255, 255, 255]];
    for (number, bomb) in bombs.into_iter().enumerate() {
        let id = MessageId::push(PushId::from_bytes([number as u8; 16]));
        mesh.bus.store(Outgoing { subject: subject(), payload: bomb.into(), id, trace: None }).await.unwrap();
    }
    let push = mesh.call("alice", "phone", "l1", "call").await;
    comet.has(push, 1).await;
    comet.ack("alice", "a", push).await;
    mesh.nothing_is_left().await;
    wait_for("four dead letters", LONG, async || {
        let dead = mesh.dead().await;
        let malformed = dead.iter().filter(|letter| letter.reason == DeadReason::Malformed).count();
        if malformed == 4 { Ok(()) } else { Err(format!("{dead:?}")) }
    })
    .await;
}
