use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::mesh::{LONG, Mesh, key_of, now};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_it_says_503_and_what_is_said_again_counts_once() {
    let mut mesh = Mesh::start_with(&["nats.outage_hold=500ms", "nats.kv_timeout=500ms"]).await;
    let (alice, keeper) = (mesh.at_one(mesh.client("alice")), mesh.keeper());
    let gift = |number| json!({"key": key_of(now() - 60_000 + number, number), "gift": "rose", "value": 5});
    let gifts: Vec<_> = (0..3).map(gift).collect();
    alice.post("/v1/rooms/stage/gifts", gifts[0].clone()).await.ok();
    mesh.nats.kill();
    for said in [
        alice.post("/v1/rooms/stage/gifts", gifts[1].clone()).await,
        alice.post("/v1/rooms/stage/gifts", gifts[0].clone()).await,
        alice.post("/v1/rooms/stage/messages", json!({"type": "chat", "data": "x", "id": "m1"})).await,
        keeper.put("/v1/rooms/stage/state", json!({"open": true})).await,
        keeper.put("/v1/rooms/stage/mutes/bob", json!({"for": "1m"})).await,
        keeper.post("/v1/rooms/stage/kicks", json!({"user": "bob"})).await,
    ] {
        said.refused(503, "unavailable", "");
        assert_eq!(said.headers["retry-after"], "2");
    }
    // Likes are a promise for the next tick that can be kept.
    alice.post("/v1/rooms/stage/likes", json!({"count": 7})).await.ok();
    mesh.nats.restart().await;
    for gift in &gifts {
        wait_for("the gift to be taken", LONG, || async {
            let said = alice.post("/v1/rooms/stage/gifts", gift.clone()).await;
            if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }
    assert_eq!(mesh.gifts("stage").await.len(), 3);
    wait_for("the likes to be told", LONG, || async {
        match mesh.likes("stage").await.0 {
            7 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_short_outage_a_gift_is_held_and_stored() {
    let mut mesh = Mesh::start().await;
    let alice = mesh.at_one(mesh.client("alice"));
    mesh.nats.kill();
    let gift = json!({"key": key_of(now(), 1), "gift": "rose", "value": 5});
    let waiting = tokio::spawn(async move { alice.post("/v1/rooms/stage/gifts", gift).await });
    mesh.nats.restart().await;
    let said = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    assert_eq!(said.ok()["repeated"], false);
    assert_eq!(mesh.gifts("stage").await.len(), 1);
}
