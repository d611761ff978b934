//! Rooms while processes die, leave and come back.

use std::collections::{HashMap, HashSet};

use e2e::{Front, Mesh, PATIENCE, Shape, Viewer, gift_key};
use pushmesh_client::Event;
use pushmesh_protocol::{
    Partitions,
    frame::{RoomPosition, item},
};
use pushmesh_testkit::wait_for;
use serde_json::json;
use tokio::task::JoinSet;

/// A room of each partition: whoever dies owned some of them.
fn a_room_of_each_partition(mesh: &Mesh) -> Vec<String> {
    let partitions = Partitions::new(mesh.shape.partitions).expect("some");
    let rooms = (0..).map(|number| format!("room-{number}"));
    let mut seen = HashSet::new();
    let new = rooms.filter(|room| seen.insert(partitions.of_room(&room.parse().expect("a room of a story"))));
    new.take(partitions.all().count()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_killed_in_a_gift_storm_leaves_an_exact_ledger() {
    const ROUNDS: u64 = 16;
    const GIVERS: u64 = 5;
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let rooms = a_room_of_each_partition(&mesh);
    let mut viewers = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        let mut viewer = Viewer::enter(&mesh, &format!("v{number}"), number % 2).await;
        viewer.join(room).await;
        viewers.push(viewer);
    }
    let doors = [mesh.front(0), mesh.front(1)];
    let mut given: HashMap<&String, HashMap<String, u64>> = HashMap::new();
    let mut keys: HashMap<&String, Vec<String>> = HashMap::new();
    for round in 0..ROUNDS {
        let mut giving = JoinSet::new();
        for (room, giver) in rooms.iter().flat_map(|room| (0..GIVERS).map(move |giver| (room, giver))) {
            let (from, key, value) = (format!("g{giver}"), gift_key(), 1 + round * GIVERS + giver);
            *given.entry(room).or_default().entry(from.clone()).or_default() += value;
            keys.entry(room).or_default().push(key.clone());
            let (door, room) = (doors[giver as usize % 2].clone(), room.clone());
            giving.spawn(async move { persist(&door, &room, &key, &from, value).await });
        }
        // In the middle: some are answered and all others on their way.
        for _ in 0..GIVERS {
            giving.join_next().await.expect("there are more").expect("it is given");
        }
        match round {
            5 => mesh.kill("room-fanout", 0),
            8 => mesh.add("room-fanout").await,
            11 => mesh.leave("room-fanout", 0).await,
            _ => {}
        }
        while let Some(gift) = giving.join_next().await {
            gift.expect("it is given");
        }
    }
    for (room, viewer) in rooms.iter().zip(&mut viewers) {
        let total: u64 = given[room].values().sum();
        wait_for("the ledger to be exact", PATIENCE, async || {
            let said = doors[0].get(&format!("/v1/rooms/{room}")).await;
            if said.body["gifts_total"] == json!(total) { Ok(()) } else { Err(format!("{total}: {said:?}")) }
        })
        .await;
        let ranking = doors[0].ranking(room, 10).await;
        assert!(ranking.is_sorted_by(|one, next| one.1 >= next.1), "{ranking:?}");
        assert_eq!(ranking.len(), GIVERS as usize, "{ranking:?}");
        assert_eq!(HashMap::from_iter(ranking), given[room], "{room}");
        viewer.expect_items(room, item::GIFT, (ROUNDS * GIVERS) as usize).await;
        let (mut seen, sent) = (viewer.gifts(room), keys.get_mut(room).expect("some were given"));
        seen.sort_unstable();
        sent.sort_unstable();
        assert_eq!(seen, *sent, "every gift once in {room}");
        viewer.assert_in_order();
        assert!(viewer.gaps.is_empty(), "{:?}", viewer.gaps);
    }
    mesh.stop().await;
}

/// As a backend does: until it is answered.
async fn persist(door: &Front, room: &str, key: &str, from: &str, value: u64) {
    wait_for("a gift to be stored", PATIENCE, async || {
        let said = door.gift(room, key, from, value).await;
        if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gift_sent_three_times_has_one_effect_and_one_answer() {
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let key = gift_key();
    let first = mesh.front(0).gift("stage", &key, "gil", 30).await;
    let second = mesh.front(1).gift("stage", &key, "gil", 30).await;
    mesh.kill("api", 0);
    mesh.add("api").await;
    let third = mesh.front(0).gift("stage", &key, "gil", 30).await;
    for said in [&first, &second, &third] {
        assert!(said.status.is_success(), "{said:?}");
        assert_eq!(said.body["sequence"], first.body["sequence"]);
    }
    let repeated: Vec<_> = [&first, &second, &third].iter().map(|said| said.body["repeated"].clone()).collect();
    assert_eq!(repeated, [json!(false), json!(true), json!(true)]);
    let other = mesh.front(0).gift("stage", &key, "gil", 31).await;
    assert_eq!(other.status, 409, "{other:?}");
    assert!(mesh.front(0).gift("stage", &gift_key(), "gil", 1).await.status.is_success());
    ann.expect_items("stage", item::GIFT, 2).await;
    assert_eq!(ann.gifts("stage").iter().filter(|seen| **seen == key).count(), 1);
    wait_for("the ledger", PATIENCE, async || {
        let room = mesh.front(0).room("stage").await;
        if room["gifts_total"] == json!(31) { Ok(()) } else { Err(room.to_string()) }
    })
    .await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reconnects_to_another_comet_misses_nothing() {
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let other = format!("ws://{}", mesh.door("comet", 1, "ws"));
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    let position = ann.join("stage").await.position;
    let door = mesh.front(0);
    door.chat("stage", "s1", "before").await;
    ann.expect_chat("stage", "before").await;
    mesh.kill("comet", 0);
    for number in 0..30 {
        door.chat("stage", &format!("s{number}"), &format!("away {number}")).await;
        assert!(door.gift("stage", &gift_key(), "gil", 1).await.status.is_success());
    }
    ann.client.close();
    let mut back = Viewer::enter_with(&mesh, "ann", 0, |options| {
        options.address = other.parse().expect("an address");
    })
    .await;
    back.client.join_from("stage".parse().expect("a room"), position).await;
    assert!(back.expect_joined("stage").await.recovered);
    back.expect_items("stage", item::CHAT, 31).await;
    back.expect_items("stage", item::GIFT, 30).await;
    back.assert_in_order();
    assert_eq!(back.chat("stage")[0], "before", "from the position on");
    // A position of other streams means nothing any more: he is told that he missed something.
    back.client.leave("stage".parse().expect("a room")).await;
    back.expect("to be out", |event| matches!(event, Event::Left(_)).then_some(())).await;
    let lost = RoomPosition { epoch: position.epoch + 1, ..position };
    back.client.join_from("stage".parse().expect("a room"), lost).await;
    assert!(!back.expect_joined("stage").await.recovered);
    while back.gaps.is_empty() {
        back.expect("a gap", |_| Some(())).await;
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_comet_hands_its_clients_over_without_a_gap() {
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["ann"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.expect_push("standup").await;
    ann.join("stage").await;
    let door = mesh.front(0);
    let talking = tokio::spawn(async move {
        for number in 0..100 {
            door.chat("stage", &format!("s{number}"), &format!("line {number}")).await;
        }
    });
    mesh.leave("comet", 0).await;
    talking.await.expect("all is said");
    ann.expect_items("stage", item::CHAT, 100).await;
    ann.assert_in_order();
    assert!(ann.gaps.is_empty(), "{:?}", ann.gaps);
    let first = ann.logins[0].clone();
    let again = ann.expect_logins(2).await;
    assert!(again.resumed && again.login_id == first.login_id, "{first:?}, then {again:?}");
    // Whatever was to be told again would be told before this.
    backend.start_call("group", "friends", "retro").await;
    ann.expect_push("retro").await;
    let shown: Vec<_> = ann.pushes.iter().map(|(call, _)| call.as_str()).collect();
    assert_eq!((shown, ann.logins.len()), (vec!["standup", "retro"], 2), "each call is shown once");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn likes_are_conserved_while_the_owner_changes() {
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    ann.join("stage").await;
    let mut accepted = 0;
    for round in 0..60 {
        accepted += mesh.front(round % 2).like("stage", &format!("fan-{round}"), 7).await;
        match round {
            20 => mesh.kill("room-fanout", 0),
            40 => mesh.add("room-fanout").await,
            _ => {}
        }
    }
    assert_eq!(accepted, 60 * 7);
    wait_for("all likes to be counted", PATIENCE, async || {
        let room = mesh.front(0).get("/v1/rooms/stage").await;
        if room.body["likes_total"] == json!(accepted) { Ok(()) } else { Err(format!("{accepted}: {room:?}")) }
    })
    .await;
    mesh.stop().await;
}
