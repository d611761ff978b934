use pushmesh_auth::Scope;
use pushmesh_bus::TakeOver;
use pushmesh_protocol::{
    PushId,
    message::{AtEnd, Body, Delivery, Policy, PushOrder, Target},
    name::Stream,
    room::RoomHappening,
    wire,
};
use reqwest::{Method, header::RETRY_AFTER};
use serde_json::{Value, json};

use crate::mesh::{Door, LONG, Mesh, partitions};

fn pusher(mesh: &Mesh) -> Door {
    mesh.at_one(mesh.backend(&[Scope::PushWrite]))
}

fn push(users: &[&str], id: &str) -> Value {
    json!({"users": users, "sender": "shop", "id": id, "data": "hello"})
}

/// All that PUSH holds, by user.
async fn stored(mesh: &Mesh) -> Vec<Delivery> {
    let mut all = Vec::new();
    for partition in partitions().all() {
        let mut consumer = mesh.bus.take_partition(&Stream::PUSH, partition, TakeOver::Crashed).await.unwrap();
        for _ in 0..consumer.pending() {
            let delivered = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap();
            let PushOrder::Deliver(delivery) = wire::decode(&delivered.payload).unwrap() else { panic!("no delivery") };
            assert_eq!(partitions().of_user(&delivery.user), partition);
            all.push(delivery);
        }
        consumer.release().await;
    }
    all.sort_by(|one, other| one.user.cmp(&other.user));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_gets_a_push_of_his_own_once() {
    let mesh = Mesh::start().await;
    let pusher = pusher(&mesh);
    let mut request = push(&["bob", "alice", "bob", "carol"], "order 17");
    request["policy"] = json!("drop");
    request["lifetime"] = json!("10m");
    let expected = json!({"stored": 3, "unknown": []});
    assert_eq!(pusher.post("/v1/pushes", request.clone()).await.ok(), &expected);
    assert_eq!(mesh.at_two(mesh.backend(&[Scope::PushWrite])).post("/v1/pushes", request).await.ok(), &expected);
    pusher.post("/v1/pushes", push(&["dave"], "order 17")).await.ok();

    let all = stored(&mesh).await;
    assert_eq!(
        all.iter().map(|delivery| delivery.user.as_str()).collect::<Vec<_>>(),
        ["alice", "bob", "carol", "dave"]
    );
    for delivery in &all {
        assert_eq!(delivery.id, PushId::of_message(&"shop".parse().unwrap(), "order 17", &delivery.user));
        assert_eq!(delivery.target, Target::User);
        let Body::Message(message) = &delivery.body else { panic!("{delivery:?}") };
        assert_eq!((message.sender.as_str(), &message.data.0[..]), ("shop", &b"hello"[..]));
    }
    assert_eq!(all[0].policy, Policy { at_end: AtEnd::Drop, lifetime_ms: 600_000 });
    assert_eq!(all[3].policy, Policy { at_end: AtEnd::Inbox, lifetime_ms: 24 * 3600 * 1000 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_one_request() {
    let mesh = Mesh::start().await;
    let users: Vec<_> = (0..1000).map(|number| format!("{number:0>64}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    let mut request = push(&users, "all");
    request["data"] = json!("x".repeat(16_384));
    assert_eq!(pusher(&mesh).post("/v1/pushes", request).await.ok(), &json!({"stored": 1000, "unknown": []}));
    assert_eq!(stored(&mesh).await.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_told_by_one_message() {
    let mesh = Mesh::start().await;
    let request = json!({"room": "stage", "sender": "shop", "id": "sale \u{1}", "data": "now"});
    for _ in 0..2 {
        let said = pusher(&mesh).post("/v1/pushes", request.clone()).await;
        assert_eq!(said.ok(), &json!({"stored": 0, "unknown": []}));
    }
    let happened = mesh.happened("stage").await;
    let told = RoomHappening::Message { kind: "push".parse().unwrap(), data: "now".into() };
    assert_eq!(happened, [(None, told)], "said twice it is one message");
    mesh.keeper().put("/v1/rooms/stage/state", json!({"banned": true})).await.ok();
    pusher(&mesh).post("/v1/pushes", request).await.refused(403, "room_banned", "room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooms_push_is_no_type_of_the_applications_and_counts_as_nobodys_chat() {
    let settings = ["service.types.others=refused", "service.limits.chat_per_room=2"];
    let mesh = Mesh::start_with(&settings).await;
    let (pusher, keeper) = (pusher(&mesh), mesh.keeper());
    for number in 0..10 {
        let request = json!({"room": "stage", "sender": "shop", "id": number.to_string(), "data": "now"});
        assert_eq!(pusher.post("/v1/pushes", request).await.ok(), &json!({"stored": 0, "unknown": []}));
    }
    assert_eq!(mesh.happened("stage").await.len(), 10);
    // People may still say as much as there was room for before.
    keeper.post("/v1/rooms/stage/messages", json!({"type": "chat", "data": "hello"})).await.ok();
    let own = json!({"type": "push", "data": "now"});
    for who in [&keeper, &mesh.at_one(mesh.client("alice"))] {
        who.post("/v1/rooms/stage/messages", own.clone()).await.refused(400, "invalid", "type");
    }
    let long = json!({"room": "stage", "sender": "shop", "id": "x", "data": "x".repeat(4097)});
    pusher.post("/v1/pushes", long).await.refused(413, "too_large", "data_max_bytes");
    let empty = json!({"room": "stage", "sender": "shop", "id": "x", "data": ""});
    pusher.post("/v1/pushes", empty).await.refused(400, "invalid", "data");
    assert_eq!(mesh.happened("stage").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_none_is_refused_by_its_field_and_nothing_is_stored() {
    let mesh = Mesh::start().await;
    let pusher = pusher(&mesh);
    let many: Vec<_> = (0..1001).map(|number| format!("u{number}")).collect();
    let long = "x".repeat(5000);
    for (change, code, status, what) in [
        (json!({"users": []}), "invalid", 400, "users"),
        (json!({"users": null}), "invalid", 400, "users"),
        (json!({"users": "alice"}), "invalid", 400, "users"),
        (json!({"users": ["alice", "a.b"]}), "invalid", 400, "users[1]"),
        (json!({"users": ["*"]}), "invalid", 400, "users[0]"),
        (json!({"users": [7]}), "invalid", 400, "users[0]"),
        (json!({"users": many}), "invalid", 400, "push_users"),
        (json!({"room": "stage"}), "invalid", 400, "room"),
        (json!({"users": [], "room": "a b"}), "invalid", 400, "room"),
        (json!({"sender": ""}), "invalid", 400, "sender"),
        (json!({"sender": ">"}), "invalid", 400, "sender"),
        (json!({"id": ""}), "invalid", 400, "id"),
        (json!({"id": long}), "too_large", 413, "push_id_bytes"),
        (json!({"data": 7}), "invalid", 400, "data"),
        (json!({"data": "x".repeat(16_385)}), "too_large", 413, "push_data_bytes"),
        (json!({"policy": "keep"}), "invalid", 400, "policy"),
        (json!({"lifetime": "0s"}), "invalid", 400, "push_lifetime"),
        (json!({"lifetime": "8d"}), "invalid", 400, "push_lifetime"),
        (json!({"lifetime": 60}), "invalid", 400, "lifetime"),
        (json!({"lifetime": "soon"}), "invalid", 400, "lifetime"),
        (json!({"colour": "red"}), "invalid", 400, "colour"),
    ] {
        let mut request = push(&["alice"], "x");
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        pusher.post("/v1/pushes", request).await.refused(status, code, what);
    }
    let huge = "x".repeat(256 * 1024 + 1);
    pusher.ask(Method::POST, "/v1/pushes", huge).await.refused(413, "too_large", "large_body_bytes");
    for token in [mesh.client("alice"), mesh.backend(&[Scope::RoomWrite, Scope::RoomRead])] {
        mesh.at_one(token).post("/v1/pushes", push(&["alice"], "x")).await.refused(403, "forbidden", "");
    }
    assert_eq!(stored(&mesh).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_an_outage_nobody_is_told_that_it_was_stored() {
    let mut mesh = Mesh::start_with(&["nats.outage_hold=2s"]).await;
    let pusher = pusher(&mesh);
    mesh.nats.stop().await;
    let said = pusher.post("/v1/pushes", push(&["alice", "bob"], "x")).await;
    said.refused(503, "unavailable", "");
    assert!(said.headers.contains_key(RETRY_AFTER));
    mesh.nats.restart().await;
    pushmesh_testkit::wait_for("the broker again", LONG, async || {
        let said = pusher.post("/v1/pushes", push(&["alice", "bob"], "x")).await;
        if said.json["stored"] == 2 { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    assert_eq!(stored(&mesh).await.len(), 2);
}
