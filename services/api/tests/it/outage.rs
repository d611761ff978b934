use std::time::{Duration, Instant};

use pushmesh_auth::Scope;
use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::{
    likes::{LIKES, conserved},
    mesh::{Door, LONG, Mesh, key_of, now},
    peers,
};

/// Likes until they are refused, not before 2 s: how many were accepted.
async fn like_until_refused(door: &Door) -> u64 {
    let (begun, mut accepted) = (Instant::now(), 0);
    loop {
        let said = door.post(LIKES, json!({"count": 1})).await;
        if said.status.as_u16() == 503 {
            said.refused(503, "unavailable", "");
            assert_eq!(said.headers["retry-after"], "2");
            assert!(said.json["message"].as_str().unwrap().contains("none of these was counted"), "{said:?}");
            break;
        }
        accepted += said.ok()["accepted"].as_u64().unwrap();
        assert!(begun.elapsed() < LONG, "{accepted} likes wait to be stored");
    }
    assert!(begun.elapsed() >= Duration::from_secs(2), "refused after {:?}", begun.elapsed());
    accepted
}

async fn like_until_taken(door: &Door) -> u64 {
    wait_for("likes to be taken again", LONG, || async {
        let said = door.post(LIKES, json!({"count": 1})).await;
        if said.status.is_success() { Ok(said.json["accepted"].as_u64().unwrap()) } else { Err(format!("{said:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn likes_that_can_not_be_stored_are_refused_after_a_while_and_taken_again_once_they_are() {
    let fast = ["service.limits.likes_per_user=1000000", "service.limits.requests_per_user=1000000"];
    let mut mesh = Mesh::start_with(&fast).await;
    let alice = mesh.at_one(mesh.client("alice"));
    let mut accepted = like_until_taken(&alice).await;
    conserved(&mesh, accepted).await;
    // It hears nothing, then it is gone.
    mesh.nats.pause();
    accepted += like_until_refused(&alice).await;
    mesh.nats.resume();
    accepted += like_until_taken(&alice).await;
    conserved(&mesh, accepted).await;
    mesh.nats.kill();
    accepted += like_until_refused(&alice).await;
    mesh.nats.restart().await;
    accepted += like_until_taken(&alice).await;
    conserved(&mesh, accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_it_says_503_and_what_is_said_again_counts_once() {
    let mut mesh = Mesh::start_with(&["nats.outage_hold=2s", "nats.kv_timeout=2s"]).await;
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
    // Likes are a promise for the next tick, which can be kept for a while.
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
async fn over_an_outage_a_mute_and_a_state_are_held_and_who_only_asks_is_not() {
    let mut mesh = Mesh::start_with(&["nats.kv_timeout=1s"]).await;
    let (mute, state, asker) = (mesh.keeper(), mesh.keeper(), mesh.at_one(mesh.backend(&[Scope::RoomRead])));
    mesh.nats.kill();
    let muting = tokio::spawn(async move { mute.put("/v1/rooms/stage/mutes/bob", json!({"for": "1m"})).await });
    let opening = tokio::spawn(async move { state.put("/v1/rooms/stage/state", json!({"open": true})).await });
    // Longer than these may ask the buckets that they read.
    for _ in 0..3 {
        asker.get("/v1/online/users/bob").await.refused(503, "unavailable", "");
    }
    assert!(!muting.is_finished() && !opening.is_finished());
    mesh.nats.restart().await;
    for held in [muting, opening] {
        tokio::time::timeout(LONG, held).await.unwrap().unwrap().ok();
    }
}

/// Until it is told how many are online, or that nobody knows.
async fn until_online(reader: &Door, expected: Option<u64>) {
    wait_for("totals", LONG, async || {
        let said = reader.get("/v1/online").await;
        match expected {
            Some(count) if said.status.is_success() && said.json["connections"] == count => Ok(()),
            None if said.status.as_u16() == 503 && said.headers["retry-after"] == "2" => Ok(()),
            // Nobody is gone: nobody may be told so.
            _ if said.json["connections"] == 0 => panic!("{said:?}"),
            _ => Err(format!("{said:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_an_outage_nobody_is_told_that_nobody_is_online() {
    let mut mesh = Mesh::start().await;
    let reader = mesh.at_one(mesh.backend(&[Scope::RoomRead]));
    let _comet = peers::comet(&mesh.bus, "one", peers::status("one", 4, 10));
    until_online(&reader, Some(4)).await;
    // It hears nothing, and does not know why yet.
    mesh.nats.pause();
    until_online(&reader, None).await;
    mesh.nats.resume();
    until_online(&reader, Some(4)).await;
    mesh.nats.kill();
    until_online(&reader, None).await;
    mesh.nats.restart().await;
    until_online(&reader, Some(4)).await;
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
