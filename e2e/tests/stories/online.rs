//! Who is online, with which calls, and where to connect: told at api's door, and in small rooms to those who are there.

use std::collections::BTreeMap;

use e2e::{Front, Mesh, PATIENCE, Shape, Viewer};
use pushmesh_client::{Event, Options};
use pushmesh_protocol::{PushId, frame::item};
use pushmesh_testkit::wait_for;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_door_tells_who_is_online_with_which_calls_and_where_to_connect() {
    let shape = Shape::rooms()
        .set("comet", "service.rooms.names_up_to=10")
        .set("room-fanout", "service.notices_up_to=10")
        .set("room-fanout", "service.presence_every=200ms");
    let mut mesh = Mesh::start(shape).await;
    let doors = [mesh.front(0), mesh.front(1)];
    let mut ann = Viewer::enter(&mesh, "ann", 0).await;
    let on_tablet = |options: &mut Options| options.device = "tablet".parse().expect("a device");
    let mut tablet = Viewer::enter_with(&mesh, "ann", 1, on_tablet).await;
    let mut bob = Viewer::enter(&mesh, "bob", 1).await;
    let comets = comets(&mesh, &doors).await;
    totals(&doors, &[(&comets[0], 1), (&comets[1], 2)]).await;
    let here = [("screen", &ann, comets[0].as_str()), ("tablet", &tablet, comets[1].as_str())];
    devices(&doors, "ann", &here).await;
    devices(&doors, "nobody", &[]).await;
    calls(&mesh, &doors, [&mut ann, &mut tablet]).await;
    pushes(&doors, [&mut ann, &mut tablet, &mut bob]).await;
    room(&doors, &mut ann, &mut bob).await;

    mesh.leave("comet", 0).await;
    let other = BTreeMap::from([(format!("ws://{}", mesh.door("comet", 0, "ws")), comets[1].clone())]);
    for door in &doors {
        wait_for("the one that stays to be named alone", PATIENCE, async || {
            let named = door.connect("ws").await;
            if named == other { Ok(()) } else { Err(format!("{named:?}")) }
        })
        .await;
    }
    ann.expect_logins(2).await;
    totals(&doors, &[(&comets[1], 3)]).await;
    let there = [("screen", &ann, comets[1].as_str()), ("tablet", &tablet, comets[1].as_str())];
    devices(&doors, "ann", &there).await;
    mesh.stop().await;
}

/// The names of both comets, in the order of their processes, once both doors tell clients of both.
async fn comets(mesh: &Mesh, doors: &[Front; 2]) -> Vec<String> {
    let mut names = Vec::new();
    for (door, transport) in doors.iter().flat_map(|door| [(door, "tcp"), (door, "ws")]) {
        let addresses = mesh.doors("comet", transport).into_iter().map(|door| format!("{transport}://{door}"));
        let addresses: Vec<_> = addresses.collect();
        names = wait_for("both comets to be named", PATIENCE, async || {
            let named = door.connect(transport).await;
            let of = |address: &String| named.get(address).cloned();
            addresses.iter().map(of).collect::<Option<Vec<_>>>().ok_or(format!("{named:?}"))
        })
        .await;
    }
    assert_ne!(names[0], names[1]);
    names
}

/// Both doors count so many connections at these comets, and in the whole mesh none besides.
async fn totals(doors: &[Front; 2], expected: &[(&String, u64)]) {
    for door in doors {
        wait_for("the totals", PATIENCE, async || {
            let said = door.get("/v1/online").await;
            let told: &[Value] = said.body["comets"].as_array().map_or(&[], Vec::as_slice);
            assert!(told.iter().all(|comet| comet["age_ms"].as_u64() < Some(5000)), "{said:?}");
            let all: u64 = expected.iter().map(|(_, connections)| connections).sum();
            let right = |(name, connections): &(&String, u64)| {
                told.iter().any(|comet| {
                    (&comet["comet"], &comet["connections"], &comet["draining"])
                        == (&json!(name), &json!(connections), &json!(false))
                })
            };
            let is_right = said.body["connections"] == json!(all) && expected.iter().all(right);
            if is_right { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }
}

/// Both doors know these connections of a user, with the logins they began with, and no other.
async fn devices(doors: &[Front; 2], user: &str, expected: &[(&str, &Viewer, &str)]) {
    for door in doors {
        wait_for("where the user is", PATIENCE, async || {
            let said = door.get(&format!("/v1/online/users/{user}")).await;
            assert!(said.status.is_success(), "{said:?}");
            let told: &[Value] = said.body["devices"].as_array().map_or(&[], Vec::as_slice);
            let right = |(device, viewer, comet): &(&str, &Viewer, &str)| {
                let login = viewer.logins[0].login_id.as_str();
                told.iter().any(|told| {
                    let since = told["since"].as_u64() > Some(1_700_000_000_000) && told.get("left").is_none();
                    since && (told["device"] == *device && told["comet"] == *comet && told["login_id"] == login)
                })
            };
            let is_right = told.len() == expected.len() && expected.iter().all(right);
            if is_right { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }
}

/// A client may ask for his calls, and gets the ids under which they were pushed.
async fn calls(mesh: &Mesh, doors: &[Front; 2], of_ann: [&mut Viewer; 2]) {
    let backend = mesh.backend();
    backend.member("group", "friends", &["ann"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut pushed: BTreeMap<String, PushId> = BTreeMap::new();
    for (device, viewer) in ["screen", "tablet"].into_iter().zip(of_ann) {
        pushed.insert(device.to_owned(), viewer.expect_push("standup").await);
    }
    let pushed: BTreeMap<_, _> = pushed.into_iter().map(|(device, id)| (device, id.to_string())).collect();
    assert_eq!(pushed.values().collect::<std::collections::BTreeSet<_>>().len(), 2, "each login has a push of its own");
    let token = mesh.client_token("ann", None);
    let pulled = async |door: &Front| {
        let said = door.with_token(&token).get("/v1/me/calls").await;
        assert_eq!((said.status.as_u16(), &said.body["missing"]), (200, &json!([])), "{said:?}");
        let call = |call: &Value| {
            assert_eq!(
                (&call["kind"], &call["call_id"], &call["unit"]),
                (&json!("group"), &json!("standup"), &json!("friends"))
            );
            (call["device"].as_str().expect("a device").to_owned(), call["id"].as_str().expect("an id").to_owned())
        };
        said.body["calls"].as_array().expect("calls").iter().map(call).collect::<BTreeMap<_, _>>()
    };
    for door in doors {
        assert_eq!(pulled(door).await, pushed);
    }
    let of_a_backend = doors[0].get("/v1/me/calls").await;
    assert_eq!(of_a_backend.status, 403, "{of_a_backend:?}");
    backend.end_call("group", "standup").await;
    for door in doors {
        wait_for("the call to be over", PATIENCE, async || {
            let calls = pulled(door).await;
            if calls.is_empty() { Ok(()) } else { Err(format!("{calls:?}")) }
        })
        .await;
    }
}

/// One request pushes to several users, each on all his devices; said again at the other door it is the same push.
async fn pushes(doors: &[Front; 2], everybody: [&mut Viewer; 3]) {
    let push = |id: &str| json!({ "users": ["ann", "bob"], "sender": "news", "id": id, "data": format!("news {id}") });
    for (door, id) in [(&doors[0], "1"), (&doors[1], "1"), (&doors[1], "2")] {
        let said = door.post("/v1/pushes", &push(id)).await;
        assert_eq!(said.body, json!({ "stored": 2, "unknown": [] }), "{said:?}");
    }
    for viewer in everybody {
        for news in ["news 1", "news 2"] {
            viewer.expect_push(news).await;
        }
        let news = viewer.pushes.iter().filter(|(shown, _)| shown.starts_with("news")).count();
        assert_eq!(news, 2, "{}: {:?}", viewer.name, viewer.pushes);
    }
}

/// In a small room those who are there are told by name who comes and goes; a backend counts them, and pushes to them all.
async fn room(doors: &[Front; 2], ann: &mut Viewer, bob: &mut Viewer) {
    ann.join("lounge").await;
    bob.join("lounge").await;
    told_of(ann, "bob came", |presence| presence.came.iter().any(|user| user.as_str() == "bob")).await;
    for door in doors {
        wait_for("both to be counted", PATIENCE, async || {
            let room = door.room("lounge").await;
            if room["present"] == json!(2) { Ok(()) } else { Err(room.to_string()) }
        })
        .await;
    }
    let push = json!({ "room": "lounge", "sender": "news", "id": "3", "data": "to all here" });
    let said = doors[0].post("/v1/pushes", &push).await;
    assert_eq!(said.body, json!({ "stored": 0, "unknown": [] }), "{said:?}");
    for viewer in [&mut *ann, &mut *bob] {
        let shown = viewer.expect_items("lounge", "push", 1).await;
        assert_eq!(shown[0].data.0.as_ref(), b"to all here");
    }
    bob.client.leave("lounge".parse().expect("a room")).await;
    told_of(ann, "bob went", |presence| presence.went.iter().any(|user| user.as_str() == "bob")).await;
}

async fn told_of(viewer: &mut Viewer, what: &str, is_it: impl Fn(&item::Presence) -> bool) {
    let told = |event: &Event| match event {
        Event::Room { item: seen, .. } if seen.kind.as_str() == item::PRESENCE => {
            item::read(&seen.data).filter(|presence| is_it(presence)).map(drop)
        }
        _ => None,
    };
    viewer.expect(&format!("that {what}"), told).await;
}
