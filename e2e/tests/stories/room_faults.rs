//! Rooms while processes die, leave and come back.

use std::{collections::HashMap, time::Duration};

use e2e::{Front, Mesh, PATIENCE, Shape, Viewer, gift_key};
use futures_util::future::join_all;
use pushmesh_client::Event;
use pushmesh_protocol::frame::{RoomPosition, item};
use pushmesh_testkit::wait_for;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_killed_in_a_gift_storm_leaves_an_exact_ledger() {
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let rooms: Vec<_> = (0..6).map(|number| format!("room-{number}")).collect();
    let mut viewers = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        let mut viewer = Viewer::enter(&mesh, &format!("v{number}"), number % 2).await;
        viewer.join(room).await;
        viewers.push(viewer);
    }
    let mut given: HashMap<(String, String), u64> = HashMap::new();
    let mut keys: HashMap<String, Vec<String>> = HashMap::new();
    for round in 0..20_u64 {
        let storm = rooms.iter().flat_map(|room| {
            (0..5_u64).map(move |giver| (room.clone(), format!("g{giver}"), gift_key(), 1 + round * 5 + giver))
        });
        let storm: Vec<_> = storm.collect();
        let giving = storm.iter().map(|(room, from, key, value)| {
            let door = mesh.front((value % 2) as usize);
            async move { persist(&door, room, key, from, *value).await }
        });
        join_all(giving).await;
        for (room, from, key, value) in storm {
            *given.entry((room.clone(), from)).or_default() += value;
            keys.entry(room).or_default().push(key);
        }
        match round {
            6 => mesh.kill("room-fanout", 0),
            10 => mesh.add("room-fanout").await,
            14 => mesh.leave("room-fanout", 0).await,
            _ => {}
        }
    }
    let door = mesh.front(0);
    for (room, viewer) in rooms.iter().zip(&mut viewers) {
        let total: u64 = given.iter().filter(|((of, _), _)| of == room).map(|(_, value)| value).sum();
        wait_for("the ledger to be exact", PATIENCE, async || {
            let said = door.get(&format!("/v1/rooms/{room}")).await;
            if said.body["gifts_total"] == json!(total) { Ok(()) } else { Err(format!("{total}: {said:?}")) }
        })
        .await;
        for (user, total) in door.ranking(room, 10).await {
            assert_eq!(given[&(room.clone(), user.clone())], total, "{user} in {room}");
        }
        viewer.expect_items(room, item::GIFT, 100).await;
        let (mut seen, mut sent) = (viewer.gifts(room), keys[room].clone());
        seen.sort_unstable();
        sent.sort_unstable();
        assert_eq!(seen, sent, "every gift once in {room}");
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
    let is_call = |event: &Event| matches!(event, Event::Push(_));
    if !ann.others.iter().any(is_call) {
        ann.expect("the call", |event| is_call(event).then_some(())).await;
    }
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
    let again = ann.others.iter().filter(|event| is_call(event)).count();
    assert_eq!(again, 1, "the call is shown once: {:?}", ann.others);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_do_not_read_harm_nobody_who_does() {
    const EACH: usize = 500;
    const AT_ONCE: usize = 50;
    let mesh = Mesh::start(Shape::rooms().set("comet", "service.limits.per_address=20000")).await;
    let (mut readers, mut deaf) = (Vec::new(), Vec::new());
    for first in (0..EACH).step_by(AT_ONCE) {
        let entering = (first..first + AT_ONCE).map(|number| {
            let mesh = &mesh;
            async move {
                let mut viewer = Viewer::enter(mesh, &format!("reader-{number}"), 0).await;
                viewer.join("stage").await;
                (viewer, mute_socket(mesh, &format!("deaf-{number}"), "stage").await)
            }
        });
        for (viewer, socket) in join_all(entering).await {
            readers.push(viewer);
            deaf.push(socket);
        }
    }
    let door = mesh.front(0);
    let filling = "x".repeat(2000);
    for number in 0..100 {
        door.chat("stage", &format!("s{number}"), &format!("{number} {filling}")).await;
        if number % 10 == 0 {
            assert!(door.gift("stage", &gift_key(), "gil", 1).await.status.is_success());
        }
    }
    for viewer in &mut readers {
        viewer.expect_items("stage", item::GIFT, 10).await;
        viewer.expect_items("stage", item::CHAT, 100).await;
        viewer.assert_in_order();
        assert!(viewer.gaps.is_empty() && viewer.joined.len() == 1, "{} had no gap", viewer.name);
    }
    drop(deaf);
    mesh.stop().await;
}

/// A connection over TCP that logs in, joins, and never reads again.
async fn mute_socket(mesh: &Mesh, user: &str, room: &str) -> tokio::net::TcpStream {
    use pushmesh_protocol::frame::{ClientFrame, Encoding, Join, Login, ServerFrame};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = mesh.door("comet", 0, "tcp");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("the comet listens");
    let login = ClientFrame::Login(Login {
        token: mesh.client_token(user, None),
        device: "screen".parse().expect("a device"),
        resume: None,
        heartbeat: Default::default(),
    });
    let join = ClientFrame::Join(Join { room: room.parse().expect("a room"), resume: None });
    for frame in [login, join] {
        let bytes = frame.encode(Encoding::MessagePack);
        stream.write_all(&(bytes.len() as u32).to_be_bytes()).await.expect("written");
        stream.write_all(&bytes).await.expect("written");
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).await.expect("an answer");
        let answer = ServerFrame::decode(Encoding::MessagePack, &answer).expect("a frame");
        assert!(matches!(answer, ServerFrame::LoginOk(_) | ServerFrame::Joined(_)), "{answer:?}");
    }
    stream
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
    wait_for("all likes to be counted", Duration::from_secs(10), async || {
        let room = mesh.front(0).get("/v1/rooms/stage").await;
        if room.body["likes_total"] == json!(accepted) { Ok(()) } else { Err(format!("{accepted}: {room:?}")) }
    })
    .await;
    mesh.stop().await;
}
