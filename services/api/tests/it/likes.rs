use futures_util::future::join_all;
use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::mesh::{LONG, Mesh};

pub const LIKES: &str = "/v1/rooms/stage/likes";

/// What has been accepted arrives, and no more.
pub async fn conserved(mesh: &Mesh, accepted: u64) {
    wait_for("the likes to be told", LONG, || async {
        match mesh.likes("stage").await.0 {
            total if total >= accepted => Ok(()),
            total => Err(format!("{total} of {accepted}")),
        }
    })
    .await;
    assert_eq!(mesh.likes("stage").await.0, accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn likes_are_summed_and_conserved_over_both_doors_and_a_restart() {
    let mut mesh = Mesh::start_with(&["service.likes_tick=50ms"]).await;
    let mut accepted = 0;
    for round in 0..2 {
        let storm = (0..200).map(|number: usize| {
            let token = mesh.client(&format!("u{round}-{number}"));
            let door = if number.is_multiple_of(2) { mesh.at_one(token) } else { mesh.at_two(token) };
            async move { door.post(LIKES, json!({"count": 1 + number % 20})).await }
        });
        for said in join_all(storm).await {
            assert_eq!(said.status.as_u16(), 202, "{said:?}");
            assert_eq!(said.ok()["stored_within_ms"], 50);
            accepted += said.ok()["accepted"].as_u64().unwrap();
        }
        if round == 0 {
            // It tells what it has accepted before it ends.
            mesh.restart_one().await;
        }
    }
    conserved(&mesh, accepted).await;
    let (_, lives) = mesh.likes("stage").await;
    assert_eq!(lives, 3, "one subject a life of an instance, however many likes");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_finger_makes_is_fake() {
    let mesh = Mesh::start_with(&["service.limits.likes_per_user=30", "service.likes_tick=20ms"]).await;
    let alice = mesh.at_one(mesh.client("alice"));
    let some = alice.post(LIKES, json!({"count": 4_000_000_000_u32})).await;
    assert_eq!((&some.ok()["accepted"], &some.ok()["limit"]), (&json!(30), &json!("likes_per_user")));
    let none = alice.post(LIKES, json!({"count": 4_000_000_000_u32})).await;
    let mut accepted = 30;
    match none.status.as_u16() {
        // A moment later one more may be real.
        202 => accepted += none.ok()["accepted"].as_u64().unwrap(),
        _ => {
            none.refused(429, "rate_limited", "likes_per_user");
            assert_eq!(none.headers["retry-after"], "1");
        }
    }
    // A backend may sum likes, and has to say whose they are.
    mesh.keeper().post(LIKES, json!({"count": 1})).await.refused(400, "invalid", "from");
    mesh.keeper().post(LIKES, json!({"count": 5, "from": "bob"})).await.ok();
    alice.post(LIKES, json!({"count": 0})).await.refused(400, "invalid", "count");
    conserved(&mesh, accepted + 5).await;
}
