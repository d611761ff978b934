use pushmesh_protocol::{
    Kind, LoginId,
    message::{AtEnd, EndedBy, OfflineCause, ReportedEvent, Successor},
};
use pushmesh_testkit::wait_for;

use crate::mesh::{LONG, Mesh, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_device_closes_the_first() {
    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &[]).await;
    let (one, two) = (mesh.comet("c1").await, mesh.comet("c2").await);
    mesh.put_session_since(&one, "alice", "phone", "l1", "a", now() - 10, None).await;
    mesh.put_session(&one, "alice", "tablet", "l2", "t").await;
    mesh.put_session(&two, "alice", "phone", "l3", "b").await;
    wait_for(
        "the kick",
        LONG,
        async || if one.kicked() == ["a"] { Ok(()) } else { Err(format!("{:?}", one.kicked())) },
    )
    .await;
    wait_for("its key to be purged", LONG, async || {
        if mesh.has_session("alice", "a").await { Err("still there") } else { Ok(()) }
    })
    .await;
    assert!(two.kicked().is_empty());
    assert!(mesh.has_session("alice", "b").await && mesh.has_session("alice", "t").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_session_ends_its_login_and_goes() {
    let mesh = Mesh::start().await;
    let _ack_retry = mesh.ack_retry("one", &[]).await;
    let (one, two) = (mesh.comet("c1").await, mesh.comet("c2").await);
    mesh.put_session_since(&one, "alice", "phone", "l1", "a", now(), Some(now())).await;
    mesh.put_session(&two, "bob", "phone", "l2", "b").await;
    mesh.put_session(&one, "carol", "phone", "l3", "c").await;
    // Bob's comet falls silent.
    two.membership.leave().await;
    wait_for("both to be reported and purged", LONG, async || {
        let mut reported: Vec<_> = mesh.reports().into_iter().map(|report| report.user.to_string()).collect();
        reported.sort();
        let left = (mesh.has_session("alice", "a").await, mesh.has_session("bob", "b").await);
        if reported == ["alice", "bob"] && left == (false, false) {
            Ok(())
        } else {
            Err(format!("{reported:?} {left:?}"))
        }
    })
    .await;
    assert!(mesh.reports().iter().all(|report| report.event == ReportedEvent::Offline(OfflineCause::Timeout)));
    assert!(mesh.has_session("carol", "c").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_report_that_nobody_answers() {
    let mesh = Mesh::start().await;
    mesh.silence_login_ingest();
    let mut ack_retry = mesh.ack_retry("one", &["shutdown.grace=12s"]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session_since(&comet, "alice", "phone", "l1", "a", now() - 10, Some(now())).await;
    wait_for("the end to be reported", LONG, async || {
        if mesh.reports().is_empty() { Err("nothing is reported") } else { Ok(()) }
    })
    .await;
    ack_retry.term();
    ack_retry.expect_exit(0, LONG).await;
    assert!(mesh.has_session("alice", "a").await, "the next owner reports it");
}

/// A record of this sequence put `l<sequence>` in a login's place.
fn by(sequence: u64) -> EndedBy {
    let login_id = LoginId::new(&format!("l{sequence}")).unwrap();
    EndedBy { sequence, successor: Some(Successor { login_id, at: now() }) }
}

async fn stands_by(mesh: &Mesh, conn: &str, sequence: Option<u64>) -> u64 {
    wait_for("what stands beside the session", LONG, async || {
        let standing = mesh.standing("alice", conn).await;
        let stands = standing.as_ref().map(|(login, _)| login.by.sequence);
        if stands == sequence { Ok(standing.map_or(0, |(_, revision)| revision)) } else { Err(format!("{stands:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_login_stands_beside_its_session_from_owner_to_owner() {
    let mesh = Mesh::start().await;
    let mut one = mesh.ack_retry("one", &[]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session_since(&comet, "alice", "phone", "l1", "a", now() - 10, None).await;
    // All kinds say the same: it is written once.
    for kind in ["group", "discuss", "org"] {
        mesh.login_ended_by(&Kind::new(kind).unwrap(), "alice", "l1", Some(by(5))).await;
    }
    let revision = stands_by(&mesh, "a", Some(5)).await;
    // What is behind them in the partition comes after them.
    let behind = mesh.message("alice", "behind", AtEnd::Drop).await;
    comet.has(behind, 1).await;
    assert_eq!(mesh.standing("alice", "a").await.unwrap().1, revision);
    one.kill();
    let mut two = mesh.ack_retry("two", &[]).await;
    mesh.login_ended_by(&Kind::new("group").unwrap(), "alice", "l5", Some(by(9))).await;
    stands_by(&mesh, "a", Some(9)).await;
    // Her connection goes on elsewhere while nobody owns the partition.
    two.term();
    two.expect_exit(0, LONG).await;
    mesh.put_session(&comet, "alice", "phone", "l1", "b").await;
    mesh.purge_session("alice", "a").await;
    let _three = mesh.ack_retry("three", &[]).await;
    stands_by(&mesh, "b", Some(9)).await;
    stands_by(&mesh, "a", None).await;
    mesh.purge_session("alice", "b").await;
    stands_by(&mesh, "b", None).await;
}
