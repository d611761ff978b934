//! A mute everywhere: it holds at every door, and whoever a mute in one room would be told to is told of it.

use e2e::{Mesh, PATIENCE, Shape, Viewer, gift_key};
use pushmesh_protocol::frame::{RoomItem, item};
use pushmesh_testkit::wait_for;
use serde_json::json;

fn mute(item: &RoomItem) -> item::Mute {
    item::read(&item.data).expect("a mute's data")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_everywhere_is_seen_where_he_is_and_holds_wherever_he_goes() {
    let shape = Shape::rooms().set("api", "service.limits.chat_per_user=1000");
    let mesh = Mesh::start(shape.set("api", "service.limits.requests_per_user=1000")).await;
    let doors = [mesh.front(0), mesh.front(1)];
    assert!(doors[0].put("/v1/rooms/stage/roles/hana", &json!({ "role": "host" })).await.status.is_success());
    let mut phone = Viewer::enter(&mesh, "troll", 0).await;
    let on_tablet = |options: &mut pushmesh_client::Options| options.device = "tablet".parse().expect("a device");
    let mut tablet = Viewer::enter_with(&mesh, "troll", 1, on_tablet).await;
    let mut host = Viewer::enter(&mesh, "hana", 1).await;
    let mut elsewhere = Viewer::enter(&mesh, "ann", 0).await;
    for room in ["stage", "side"] {
        assert_eq!(phone.join(room).await.muted_until, None);
    }
    tablet.join("back").await;
    host.join("stage").await;
    elsewhere.join("far").await;

    let said = doors[0].put("/v1/mutes/troll", &json!({ "for": "10m" })).await;
    let until = said.body["until"].as_u64().unwrap_or_else(|| panic!("a mute: {said:?}"));
    let mut seen = phone.expect_items("stage", item::MUTE, 1).await;
    seen.extend(phone.expect_items("side", item::MUTE, 1).await);
    seen.extend(tablet.expect_items("back", item::MUTE, 1).await);
    seen.extend(host.expect_items("stage", item::MUTE, 1).await);
    let expected = item::Mute { user: "troll".parse().expect("a user"), until, everywhere: true };
    assert!(seen.iter().all(|item| mute(item) == expected), "{seen:?}");

    let troll = mesh.client_token("troll", None);
    let line = json!({ "type": "chat", "data": "you fools" });
    let gift = json!({ "key": gift_key(), "gift": "rose", "value": 1, "note": "you fools" });
    for door in doors.iter().map(|door| door.with_token(&troll)) {
        for room in ["stage", "side", "back", "far"] {
            let said = wait_for("the mute to hold", PATIENCE, async || {
                let said = door.post(&format!("/v1/rooms/{room}/messages"), &line).await;
                if said.status == 403 { Ok(said) } else { Err(format!("{said:?}")) }
            })
            .await;
            assert_eq!((&said.body["error"], &said.body["until"]), (&json!("muted"), &json!(until)), "{said:?}");
        }
        let said = door.post("/v1/rooms/stage/gifts", &gift).await;
        assert_eq!((said.status.as_u16(), &said.body["field"]), (403, &json!("note")), "{said:?}");
    }
    assert_eq!(phone.join("late").await.muted_until, Some(until), "a room that he enters later says so too");
    assert_eq!(phone.join("stage").await.muted_until, Some(until));

    assert!(doors[1].delete("/v1/mutes/troll").await.status.is_success());
    for room in ["stage", "side", "late"] {
        let seen = phone.expect_items(room, item::MUTE, if room == "late" { 1 } else { 2 }).await;
        assert_eq!(seen.last().map(|item| mute(item).until), Some(0), "{room}");
    }
    host.expect_items("stage", item::MUTE, 2).await;
    for door in doors.iter().map(|door| door.with_token(&troll)) {
        wait_for("the mute to end", PATIENCE, async || {
            let said = door.post("/v1/rooms/stage/messages", &json!({ "type": "chat", "data": "sorry" })).await;
            if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }
    host.expect_chat("stage", "sorry").await;
    assert_eq!(phone.join("side").await.muted_until, None);
    elsewhere.read();
    assert!(elsewhere.seen("far", item::MUTE).is_empty(), "he is not there");
    mesh.stop().await;
}
