//! At a limit the mesh says so, and when or where to try again.

use std::time::Duration;

use e2e::{Mesh, PATIENCE, Person, Shape, record};
use pushmesh_client::Event;
use pushmesh_proto::v1::{LoginEvent, report_response::Answer};
use pushmesh_testkit::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_comet_refuses_with_when_to_try_again() {
    let mesh = Mesh::start(Shape::default().set("comet", "service.limits.connections=2")).await;
    let (one, two) = (mesh.login("alice").await, mesh.login("bob").await);
    let mut third = Person::connect(&mesh, "carol", "phone", 0, |_| {});
    let again_in = third
        .expect("a refusal", |event| match event {
            Event::Disconnected { again_in, reason } => {
                assert!(reason.contains("full") || reason.contains("connections"), "{reason}");
                Some(*again_in)
            }
            _ => None,
        })
        .await;
    assert!(again_in > Duration::ZERO);
    one.vanish();
    third.expect_logged_in().await;
    two.vanish();
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stays_away_makes_answers_unknown_and_logins_unavailable() {
    let mut mesh = Mesh::start(
        Shape::default().set("login-ingest", "nats.outage_hold=2s").set("comet", "service.report_within=1s"),
    )
    .await;
    let backend = mesh.backend();
    mesh.broker.kill(0);
    let answers = backend.report(vec![record(7, "alice", "sid-1", LoginEvent::Online)]).await.expect("answered");
    match &answers[0].answer {
        Some(Answer::Unknown(unknown)) => {
            assert!(unknown.retry_after_ms > 0 && unknown.login_id == "sid-1", "{unknown:?}");
        }
        other => panic!("{other:?}"),
    }
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |_| {});
    alice.expect("a refusal", |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    mesh.broker.restart(0).await;
    // Said again with the same id it is accepted, and the client comes in by itself.
    wait_for("login-ingest to accept again", PATIENCE, async || {
        let answers = backend.report(vec![record(8, "alice", "sid-1", LoginEvent::Online)]).await;
        match answers.map(|answers| answers[0].answer.clone()) {
            Ok(Some(Answer::Accepted(accepted))) if accepted.login_id == "sid-1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    alice.expect_logged_in().await;
    mesh.stop().await;
}
