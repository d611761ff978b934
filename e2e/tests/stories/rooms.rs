//! Live rooms: what is sent is seen by everybody in the room, in order, once.

use std::cell::Cell;

use e2e::{Mesh, PATIENCE, Shape, Stranger, Viewer, gift_key};
use futures_util::future::join_all;
use pushmesh_protocol::frame::{LeftReason, item};
use pushmesh_testkit::wait_for;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn gifts_chat_and_likes_reach_everybody_in_the_room_and_nobody_else() {
    let mesh = Mesh::start(Shape::rooms()).await;
    let mut here = [Viewer::enter(&mesh, "ann", 0).await, Viewer::enter(&mesh, "bob", 1).await];
    let mut elsewhere = Viewer::enter(&mesh, "cid", 0).await;
    for viewer in &mut here {
        let joined = viewer.join("stage").await;
        assert!(joined.state.open && joined.recovered && joined.top.is_empty(), "{joined:?}");
    }
    elsewhere.join("side").await;
    let doors = [mesh.front(0), mesh.front(1)];
    let mut keys = Vec::new();
    for number in 0..20 {
        let door = &doors[number % 2];
        let key = gift_key();
        let said = door.gift("stage", &key, ["gil", "hal"][number % 2], 10 + number as u64).await;
        assert!(said.status.is_success() && said.body["repeated"] == json!(false), "{said:?}");
        keys.push(key);
        door.chat("stage", "eve", &format!("line {number}")).await;
    }
    let lines: Vec<_> = (0..20).map(|number| format!("line {number}")).collect();
    let mut liked = 0;
    for door in &doors {
        liked += door.like("stage", "fan", 5).await;
    }
    assert_eq!(liked, 10);
    for viewer in &mut here {
        viewer.expect_items("stage", item::GIFT, 20).await;
        viewer.expect_items("stage", item::CHAT, 20).await;
        assert_eq!((viewer.gifts("stage"), viewer.chat("stage")), (keys.clone(), lines.clone()));
        viewer
            .expect("all likes", |event| match event {
                pushmesh_client::Event::Room { item: seen, .. } if seen.kind.as_str() == item::LIKE => {
                    let like: item::Like = item::read(&seen.data)?;
                    (like.total == 10).then_some(())
                }
                _ => None,
            })
            .await;
        viewer.assert_in_order();
    }
    let totals: Vec<(String, u64)> = vec![("hal".into(), 200), ("gil".into(), 190)];
    assert_eq!(doors[0].ranking("stage", 10).await, totals);
    let room = doors[1].room("stage").await;
    assert_eq!((&room["gifts_total"], &room["likes_total"]), (&json!(390), &json!(10)), "{room}");
    elsewhere.read();
    // How many are there is told in every room.
    let of_others = elsewhere.items.values().flatten().filter(|seen| seen.kind.as_str() != item::PRESENCE).count();
    assert!(!elsewhere.items.contains_key("stage") && of_others == 0, "{:?}", elsewhere.items);
    let late = here[0].join("stage").await;
    assert_eq!(late.top.iter().map(|place| place.total).collect::<Vec<_>>(), [200, 190]);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranking_and_a_level_are_told_once_they_change() {
    let mesh = Mesh::start(Shape::rooms().set("room-fanout", "service.levels=[100, 1000]")).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let door = mesh.front(0);
    for value in [60, 60, 60] {
        assert!(door.gift("stage", &gift_key(), "gil", value).await.status.is_success());
    }
    let levels = ann.expect_items("stage", item::LEVEL, 1).await;
    let level: item::Level = item::read(&levels[0].data).expect("a level's data");
    assert_eq!((level.user.as_str(), level.level), ("gil", 1));
    ann.expect("the ranking", |event| match event {
        pushmesh_client::Event::Room { item: seen, .. } if seen.kind.as_str() == item::RANKING => {
            let ranking: item::Ranking = item::read(&seen.data)?;
            (ranking.gifts_total == 180).then_some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(ann.seen("stage", item::LEVEL).len(), 1, "told once");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_room_refuses_sends_and_all_are_told() {
    let mesh = Mesh::start(Shape::rooms()).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let doors = [mesh.front(0), mesh.front(1)];
    let said = doors[0].put("/v1/rooms/stage/state", &json!({ "banned": true })).await;
    assert!(said.status.is_success(), "{said:?}");
    let told = ann.expect_items("stage", item::STATE, 1).await;
    assert_eq!(told[0].data.0.as_ref(), br#"{"open":true,"playable":true,"banned":true}"#);
    wait_for("the other api to refuse", PATIENCE, async || {
        let said = doors[1].try_chat("stage", "eve", "hello").await;
        if said.status == 403 { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let refused = doors[1].gift("stage", &gift_key(), "gil", 5).await;
    assert_eq!((refused.status.as_u16(), &refused.body["error"]), (403, &json!("room_banned")), "{refused:?}");
    let open = doors[1].put("/v1/rooms/stage/state", &json!({ "banned": false })).await;
    assert!(open.status.is_success());
    wait_for("the room to be free again", PATIENCE, async || {
        let said = doors[0].try_chat("stage", "eve", "hello again").await;
        if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    ann.expect_chat("stage", "hello again").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_mutes_and_kicks_and_a_mute_holds_at_every_door() {
    let mesh = Mesh::start(Shape::rooms()).await;
    let doors = [mesh.front(0), mesh.front(1)];
    assert!(doors[0].put("/v1/rooms/stage/roles/hana", &json!({ "role": "host" })).await.status.is_success());
    let mut troll = Viewer::enter(&mesh, "troll", 1).await;
    troll.join("stage").await;
    let host = doors[1].with_token(&mesh.client_token("hana", None));
    let nobody = doors[1].with_token(&mesh.client_token("nobody", None));
    let mute = json!({ "for": "10m" });
    assert_eq!(nobody.put("/v1/rooms/stage/mutes/troll", &mute).await.status, 403);
    wait_for("the host's role to be known", PATIENCE, async || {
        let said = host.put("/v1/rooms/stage/mutes/troll", &mute).await;
        if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let troll_door = doors[0].with_token(&mesh.client_token("troll", None));
    wait_for("the mute to hold", PATIENCE, async || {
        let body = json!({ "type": "chat", "data": "spam" });
        let said = troll_door.post("/v1/rooms/stage/messages", &body).await;
        if said.status == 403 && said.body["error"] == json!("muted") { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    let muted = troll.join("stage").await;
    assert!(muted.muted_until.is_some(), "{muted:?}");
    let kicked = host.post("/v1/rooms/stage/kicks", &json!({ "user": "troll" })).await;
    assert!(kicked.status.is_success(), "{kicked:?}");
    let reason = troll
        .expect("to be sent away", |event| match event {
            pushmesh_client::Event::Left(left) => Some(left.reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, LeftReason::Kicked);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_room_is_cut_and_merged_while_it_goes_on() {
    let shape =
        Shape::rooms().set("room-fanout", "service.parts.members=8").set("room-fanout", "service.parts.merge_after=1s");
    let mesh = Mesh::start(shape).await;
    let door = mesh.front(0);
    assert!(door.put("/v1/rooms/stage/roles/hana", &json!({ "role": "host" })).await.status.is_success());
    let mut host = Viewer::enter(&mesh, "hana", 0).await;
    while host.join("stage").await.role.is_none() {}
    let mut crowd = Vec::new();
    for number in 0..8 {
        let mut viewer = Viewer::enter(&mesh, &format!("v{number}"), number % 2).await;
        viewer.join("stage").await;
        crowd.push(viewer);
    }
    let said = Cell::new(0);
    wait_for("the room to be cut", PATIENCE, async || {
        let parts = door.room("stage").await["parts"].as_u64();
        if parts >= Some(2) {
            return Ok(());
        }
        door.chat("stage", &format!("s{}", said.get() % 16), &format!("line {}", said.get())).await;
        said.set(said.get() + 1);
        Err(format!("{parts:?} parts"))
    })
    .await;
    let mut number = said.get();
    for _ in 0..32 {
        door.chat("stage", &format!("s{}", number % 16), &format!("line {number}")).await;
        number += 1;
    }
    assert!(door.gift("stage", &gift_key(), "gil", 5).await.status.is_success());
    for viewer in &mut crowd {
        viewer.expect_items("stage", item::GIFT, 1).await;
    }
    host.expect_items("stage", item::CHAT, number).await;
    // Most of the crowd goes: who stays hears everybody again.
    for viewer in crowd.drain(2..) {
        viewer.client.close();
    }
    wait_for("the room to be whole", PATIENCE, async || {
        let parts = door.room("stage").await["parts"].as_u64();
        if parts == Some(1) { Ok(()) } else { Err(format!("{parts:?} parts")) }
    })
    .await;
    let whole = number;
    for _ in 0..16 {
        door.chat("stage", &format!("s{}", number % 16), &format!("line {number}")).await;
        number += 1;
    }
    let all: Vec<_> = (0..number).map(|number| format!("line {number}")).collect();
    for viewer in &mut crowd {
        viewer.expect_chat("stage", &all[number - 1]).await;
        viewer.assert_in_order();
        let seen = viewer.chat("stage");
        assert!(seen.ends_with(&all[whole..]), "{seen:?}");
        let while_cut = seen.len() - (number - whole);
        assert!(while_cut < whole, "{} saw everything of a room that was cut", viewer.name);
        assert!(viewer.gaps.is_empty());
    }
    host.expect_chat("stage", &all[number - 1]).await;
    assert_eq!(host.chat("stage"), all, "a host sees everything");
    host.assert_in_order();
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_teams_read_with_consumers_of_their_own_and_harm_nobody() {
    use pushmesh_bus::FollowEvent;
    use pushmesh_protocol::name::{Filter, Stream};
    const LINES: usize = 2000;
    const GIFTS: usize = 100;
    // So loud a room would be cut, and she hear only a part of it.
    let mesh = Mesh::start(Shape::rooms().set("room-fanout", "service.parts.max=1")).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let filter = Filter::room_high();
    // One that never acknowledges, and is given everything again and again.
    let stranger = Stranger::read(&mesh.broker.url(), Stream::ROOM_HIGH.as_str(), filter.as_str()).await;
    // And one that reads as we do.
    let mut reader = mesh.bus().follow_stream(&Stream::ROOM_HIGH, filter, 0).await.expect("ROOM_HIGH is there");
    let doors = [mesh.front(0), mesh.front(1)];
    let mut keys = Vec::new();
    for first in (0..LINES).step_by(LINES / GIFTS) {
        let talk = (first..first + LINES / GIFTS).map(|number| {
            let door = &doors[number % 2];
            async move { door.chat("stage", &format!("s{number}"), "hello").await }
        });
        let key = gift_key();
        let gift = doors[0].gift("stage", &key, "gil", 3);
        let (_, given) = tokio::join!(join_all(talk), gift);
        assert!(given.status.is_success(), "{given:?}");
        keys.push(key);
    }
    ann.expect_items("stage", item::GIFT, GIFTS).await;
    ann.expect_items("stage", item::CHAT, LINES).await;
    assert_eq!(ann.gifts("stage"), keys, "every gift once, in order");
    ann.assert_in_order();
    assert!(ann.gaps.is_empty(), "{:?}", ann.gaps);
    wait_for("the ledger", PATIENCE, async || {
        let room = doors[1].room("stage").await;
        if room["gifts_total"] == json!(3 * GIFTS) { Ok(()) } else { Err(room.to_string()) }
    })
    .await;
    let (mut gifts, mut lines) = (0, 0);
    while gifts < GIFTS || lines < LINES {
        let event = tokio::time::timeout(PATIENCE, reader.next()).await.expect("all is there").expect("connected");
        if let FollowEvent::Message(message) = event {
            gifts += usize::from(message.subject.contains(".gift."));
            lines += usize::from(message.subject.contains(".chat."));
        }
    }
    wait_for("the strangers to have everything, some of it again", PATIENCE, async || {
        let [gifts, lines] = [".gift.", ".chat."].map(|of| stranger.seen(of));
        let is_all = gifts.0 == GIFTS && lines.0 == LINES && lines.1 > LINES;
        if is_all { Ok(()) } else { Err(format!("{gifts:?} {lines:?}")) }
    })
    .await;
    // With the marker of each gift's key.
    assert_eq!(stranger.unacknowledged().await, (LINES + 2 * GIFTS) as u64);
    mesh.stop().await;
}
