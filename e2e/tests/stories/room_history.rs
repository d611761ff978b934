//! What a client that comes back is told of a room's past.

use e2e::{Mesh, PATIENCE, Shape, Viewer};
use pushmesh_bus::Outgoing;
use pushmesh_protocol::{
    Partitions, RoomId, UserId,
    frame::item,
    name::{MessageId, Subject},
    room::RoomMessage,
    wire,
};
use pushmesh_testkit::wait_for;
use serde_json::json;

fn room() -> RoomId {
    RoomId::new("stage").expect("a room of a story")
}

/// A line of somebody who is muted, accepted by an api that has not heard of it.
async fn accepted_late(mesh: &Mesh, from: &str, text: &str) {
    let token = |text: &str| text.parse().expect("a token");
    let from = UserId::new(from).expect("a user of a story");
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let line =
        RoomMessage { room: room(), kind: token("chat"), from: Some(from.clone()), at, data: text.into(), trace: None };
    let partition = Partitions::new(mesh.shape.partitions).expect("some").of_room(&room());
    let outgoing = Outgoing {
        subject: Subject::room_chat(partition, &room()),
        payload: wire::encode(&line).into(),
        id: MessageId::room(&room(), Some(&from), &token("late")),
        trace: None,
    };
    mesh.bus().store(outgoing).await.expect("it is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_muted_user_said_is_told_to_nobody_who_comes_back_to_the_next_owner() {
    let mut mesh = Mesh::start(Shape::rooms().set("room-fanout", "service.write_every=100ms")).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    let position = ann.join("stage").await.position;
    let door = mesh.front(0);
    door.chat("stage", "troll", "before").await;
    ann.expect_chat("stage", "before").await;
    let muted = door.put("/v1/rooms/stage/mutes/troll", &json!({"for": "10m"})).await;
    assert!(muted.status.is_success(), "{muted:?}");
    ann.expect_items("stage", item::MUTE, 1).await;
    // Known to every api, so to every owner's watch a moment later; he is told himself.
    let mut troll = Viewer::enter(&mesh, "troll", 1).await;
    let knowing = async { while troll.join("stage").await.muted_until.is_none() {} };
    tokio::time::timeout(PATIENCE, knowing).await.expect("the owner comes to know");
    accepted_late(&mesh, "troll", "muted").await;
    door.chat("stage", "bob", "after").await;
    ann.expect_items("stage", item::CHAT, 2).await;
    // Until it is written that it was skipped.
    let skipped = wait_for("the line to be skipped", PATIENCE, async || {
        for index in 0..2 {
            if mesh.metric("room-fanout", index, "pushmesh_room_fanout_muted_total").await > 0.0 {
                return Ok(index);
            }
        }
        Err("not yet")
    })
    .await;
    assert!(door.delete("/v1/rooms/stage/mutes/troll").await.status.is_success());
    mesh.leave("room-fanout", skipped).await;
    mesh.add("room-fanout").await;
    door.chat("stage", "bob", "by the next owner").await;
    ann.expect_items("stage", item::CHAT, 3).await;
    let mut back = Viewer::enter(&mesh, "ann", 1).await;
    back.client.join_from(room(), position).await;
    assert!(back.expect_joined("stage").await.recovered);
    back.expect_items("stage", item::CHAT, 3).await;
    assert_eq!((back.chat("stage"), ann.chat("stage")), {
        let told = ["before", "after", "by the next owner"].map(str::to_owned).to_vec();
        (told.clone(), told)
    });
    assert!(ann.gaps.is_empty() && back.gaps.is_empty());
    let history = door.get("/v1/rooms/stage/history").await.body;
    let lines: Vec<_> = history["items"].as_array().expect("a page").iter().map(|item| item["data"].clone()).collect();
    assert_eq!(lines, ["before", "after", "by the next owner"]);
    mesh.stop().await;
}
