//! Rooms at their limits, and bad input through every door of theirs.

use std::time::Instant;

use e2e::{Mesh, PATIENCE, Shape, Viewer, gift_key};
use futures_util::future::join_all;
use pushmesh_proto::v1::{SendGiftRequest, rooms_client::RoomsClient};
use pushmesh_protocol::frame::item;
use pushmesh_testkit::wait_for;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_storm_is_refused_and_gifts_are_not() {
    let mesh = Mesh::start(Shape::rooms().set("api", "service.limits.chat_per_room=20")).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let doors = [mesh.front(0), mesh.front(1)];
    let storm = join_all((0..400).map(|number| {
        let door = doors[number % 2].clone();
        async move { door.try_chat("stage", &format!("s{number}"), &format!("line {number}")).await }
    }));
    let gifts = join_all((0..20).map(|number| {
        let door = doors[number % 2].clone();
        async move { door.gift("stage", &gift_key(), "gil", 1).await }
    }));
    let begun = Instant::now();
    let (said, given) = tokio::join!(storm, gifts);
    // What both doors let through in that time, should neither know of the other yet.
    let most = 2 * 20 * (begun.elapsed().as_secs() as usize + 2);
    assert!(given.iter().all(|said| said.status.is_success()), "{given:?}");
    let accepted = said.iter().filter(|said| said.status.is_success()).count();
    let refused: Vec<_> = said.iter().filter(|said| said.status == 429).collect();
    assert_eq!(accepted + refused.len(), 400, "every line is answered");
    assert!(accepted <= most, "{accepted} accepted, and {most} may be");
    assert!(refused.iter().all(|said| said.body["limit"] == json!("chat_per_room") && said.retry_after.is_some()));
    ann.expect_items("stage", item::GIFT, 20).await;
    ann.expect_items("stage", item::CHAT, accepted).await;
    ann.assert_in_order();
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_limits_of_his_own_and_sends_for_himself_alone() {
    let mesh = Mesh::start(Shape::rooms()).await;
    let eve = mesh.front(0).with_token(&mesh.client_token("eve", None));
    let line = |data: &str| json!({ "type": "chat", "data": data });
    assert!(eve.post("/v1/rooms/stage/messages", &line("one")).await.status.is_success());
    let second = wait_for("a line too many", PATIENCE, async || {
        let said = eve.post("/v1/rooms/stage/messages", &line("two")).await;
        if said.status.is_success() { Err("a second has passed") } else { Ok(said) }
    })
    .await;
    assert_eq!((second.status.as_u16(), &second.body["limit"]), (429, &json!("chat_per_user")), "{second:?}");
    let as_bob = eve.post("/v1/rooms/stage/messages", &json!({ "type": "chat", "data": "x", "from": "bob" })).await;
    assert_eq!((as_bob.status.as_u16(), &as_bob.body["field"]), (403, &json!("from")), "{as_bob:?}");
    let fake = eve.post("/v1/rooms/stage/likes", &json!({ "count": 100_000 })).await;
    let few = fake.body["accepted"].as_u64().is_some_and(|accepted| accepted < 1000);
    assert!(fake.status == 429 || fake.status == 400 || few, "{fake:?}");
    let ban = eve.put("/v1/rooms/stage/state", &json!({ "banned": true })).await;
    assert_eq!(ban.status, 403, "{ban:?}");
    mesh.stop().await;
}

fn grpc_gift() -> SendGiftRequest {
    SendGiftRequest {
        room: "stage".into(),
        key: gift_key(),
        from: "gil".into(),
        gift: "rose".into(),
        count: 1,
        value: 5,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_at_the_front_door_is_refused_by_field_and_limit() {
    let mesh = Mesh::start(Shape::rooms()).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let door = mesh.front(0);
    let gift = |key: &str| json!({ "key": key, "gift": "rose", "count": 1, "value": 5, "from": "gil" });
    let with = |field: &str, value: Value| {
        let mut body = gift(&gift_key());
        body[field] = value;
        body
    };
    let long = "x".repeat(5000);
    for (field, body) in [
        ("key", gift("not-a-key")),
        ("key", gift("018cc251-f400-4000-8000-000000000001")),
        ("from", with("from", json!("a.b"))),
        ("from", with("from", json!("*"))),
        ("from", with("from", json!(">"))),
        ("from", with("from", json!("a b"))),
        ("from", with("from", json!("a\r\nb"))),
        ("from", with("from", json!(""))),
        ("from", with("from", json!(long))),
        ("gift", with("gift", json!("a.b"))),
        ("count", with("count", json!(0))),
        ("count", with("count", json!(-1))),
        ("count", with("count", json!("many"))),
        ("value", with("value", json!(1.5))),
    ] {
        let said = door.post("/v1/rooms/stage/gifts", &body).await;
        assert_eq!(said.status, 400, "{field} of {body}: {said:?}");
        assert_eq!(said.body["field"], json!(field), "{body}: {said:?}");
        assert!(said.body["message"].as_str().is_some_and(|text| !text.is_empty()), "{said:?}");
    }
    let old = door.post("/v1/rooms/stage/gifts", &gift("01800000-0000-7000-8000-000000000001")).await;
    assert_eq!(old.status, 410, "{old:?}");
    let future = door.post("/v1/rooms/stage/gifts", &gift("ff800000-0000-7000-8000-000000000001")).await;
    assert_eq!(future.status, 400, "{future:?}");
    for room in ["a.b", "*", "%3E", "a%20b", "a%0D%0Ab", long.as_str()] {
        let said = door.post(&format!("/v1/rooms/{room}/gifts"), &gift(&gift_key())).await;
        assert!(said.status == 400 || said.status == 414, "{room:.20}: {said:?}");
    }
    let long_note = door.post("/v1/rooms/stage/gifts", &with("note", json!("n".repeat(5000)))).await;
    assert_eq!((long_note.status.as_u16(), &long_note.body["field"]), (413, &json!("note")), "{long_note:?}");
    let message = |kind: &str, data: &str| json!({ "type": kind, "data": data, "from": "gil" });
    for (status, field, body) in [
        (400, "type", message("gift", "x")),
        (400, "type", message("a.b", "x")),
        (413, "data", message("chat", &"x".repeat(10_000))),
    ] {
        let said = door.post("/v1/rooms/stage/messages", &body).await;
        assert_eq!((said.status.as_u16(), &said.body["field"]), (status, &json!(field)), "{said:?}");
    }
    let huge = door.post("/v1/rooms/stage/messages", &message("chat", &"x".repeat(200_000))).await;
    assert_eq!(huge.status, 413, "{huge:?}");
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    assert_eq!(door.post("/v1/rooms/stage/gifts", &with("to", deep)).await.status, 400);
    for token in ["", "nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJldmUifQ."] {
        let said = door.with_token(token).post("/v1/rooms/stage/gifts", &gift(&gift_key())).await;
        assert_eq!(said.status, 401, "{token:?}: {said:?}");
    }
    let mut grpc = RoomsClient::new(mesh.backend().channel("api"));
    for (field, gift) in [
        ("room", SendGiftRequest { room: "a.b".into(), ..grpc_gift() }),
        ("key", SendGiftRequest { key: "no-key".into(), ..grpc_gift() }),
        ("from", SendGiftRequest { from: long.clone(), ..grpc_gift() }),
        ("to", SendGiftRequest { to: "a b".into(), ..grpc_gift() }),
        ("gift", SendGiftRequest { gift: String::new(), ..grpc_gift() }),
    ] {
        let status = grpc.send_gift(mesh.backend().request(gift)).await.expect_err(field);
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(field), "{field}: {status:?}");
    }
    // Nothing of it cost anything that is good.
    let key = gift_key();
    assert!(door.post("/v1/rooms/stage/gifts", &gift(&key)).await.status.is_success());
    ann.expect_items("stage", item::GIFT, 1).await;
    assert_eq!(ann.gifts("stage"), [key]);
    mesh.stop().await;
}
