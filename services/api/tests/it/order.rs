use pushmesh_auth::Scope;
use pushmesh_protocol::{
    frame::{Role, RoomState},
    message::Session,
    room::RoomHappening,
};
use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::{
    mesh::{Door, LONG, Mesh, key_of, now},
    online, peers,
};

const MESSAGES: &str = "/v1/rooms/stage/messages";
const FAST: [&str; 2] = ["service.limits.chat_per_user=1000", "service.limits.requests_per_user=1000"];

async fn chat(door: &Door) -> crate::mesh::Said {
    door.post(MESSAGES, json!({"type": "chat", "data": "hello"})).await
}

/// The door comes to refuse chat with this.
async fn refuses(door: &Door, error: &str) -> crate::mesh::Said {
    wait_for(error, LONG, || async {
        let said = chat(door).await;
        if said.json["error"] == error { Ok(said) } else { Err(format!("{said:?}")) }
    })
    .await
}

async fn takes(door: &Door) {
    wait_for("chat to be taken", LONG, || async {
        let said = chat(door).await;
        if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_or_closed_room_refuses_every_send_at_both_doors_within_a_second() {
    let mesh = Mesh::start_with(&FAST).await;
    let (keeper, token) = (mesh.keeper(), mesh.client("alice"));
    let (here, there) = (mesh.at_one(token.clone()), mesh.at_two(token));
    let set = async |change| keeper.put("/v1/rooms/stage/state", change).await.ok().clone();
    assert_eq!(set(json!({"playable": false})).await, json!({"open": true, "playable": false, "banned": false}));
    takes(&there).await;
    assert_eq!(set(json!({"banned": true})).await, json!({"open": true, "playable": false, "banned": true}));
    chat(&here).await.refused(403, "room_banned", "room");
    refuses(&there, "room_banned").await.refused(403, "room_banned", "room");
    there.post("/v1/rooms/stage/likes", json!({"count": 1})).await.refused(403, "room_banned", "room");
    let gift = json!({"key": key_of(now(), 1), "gift": "rose", "value": 1});
    there.post("/v1/rooms/stage/gifts", gift).await.refused(403, "room_banned", "room");
    keeper.post("/v1/rooms/stage/notes", json!({"data": "x"})).await.refused(403, "room_banned", "room");
    set(json!({"banned": false, "open": false})).await;
    refuses(&there, "room_closed").await.refused(409, "room_closed", "room");
    set(json!({"open": true})).await;
    takes(&there).await;
    // What everybody in the room is told, in order.
    let told: Vec<_> = mesh.happened("stage").await.into_iter().map(|(_, what)| what).collect();
    let state = |open, banned| RoomHappening::State(RoomState { open, playable: false, banned });
    assert_eq!(told, [state(true, false), state(true, true), state(false, false), state(true, false)]);
    // Other rooms go on, and only a backend bans.
    here.post("/v1/rooms/other/messages", json!({"type": "chat", "data": "x"})).await.ok();
    here.put("/v1/rooms/stage/state", json!({"banned": true})).await.refused(403, "forbidden", "");
    keeper.put("/v1/rooms/stage/state", json!({})).await.refused(400, "invalid", "body");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_room_at_both_doors_at_once_all_hold() {
    let mesh = Mesh::start().await;
    let shop = mesh.backend(&[Scope::RoomWrite]);
    let (one, two) = (mesh.at_one(shop.clone()), mesh.at_two(shop));
    for round in 0..10 {
        let path = format!("/v1/rooms/r{round}/state");
        let (a, b) = tokio::join!(one.put(&path, json!({"open": false})), two.put(&path, json!({"playable": false})));
        a.ok();
        b.ok();
        let told = mesh.happened(&format!("r{round}")).await;
        let both = RoomHappening::State(RoomState { open: false, playable: false, banned: false });
        assert_eq!(told.last().unwrap().1, both, "the last that is told is what stands: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_user_is_silent_at_both_doors_within_a_second_until_his_time() {
    let mesh = Mesh::start_with(&FAST).await;
    let (keeper, token) = (mesh.keeper(), mesh.client("troll"));
    let (here, there) = (mesh.at_one(token.clone()), mesh.at_two(token));
    let before = now();
    let muted = keeper.put("/v1/rooms/stage/mutes/troll", json!({"for": "10m"})).await;
    let until = muted.ok()["until"].as_u64().unwrap();
    assert!((before + 600_000..=now() + 600_000).contains(&until));
    chat(&here).await.refused(403, "muted", "from");
    let said = refuses(&there, "muted").await;
    assert_eq!(said.json["until"], until);
    // In his name nobody speaks either; gifts and likes are no speech, and other rooms are others.
    keeper.post(MESSAGES, json!({"type": "chat", "data": "x", "from": "troll"})).await.refused(403, "muted", "from");
    there.post("/v1/rooms/stage/likes", json!({"count": 1})).await.ok();
    there.post("/v1/rooms/other/messages", json!({"type": "chat", "data": "x"})).await.ok();
    keeper.delete("/v1/rooms/stage/mutes/troll").await.ok();
    takes(&there).await;

    keeper.put("/v1/mutes/troll", json!({"for": "1h"})).await.ok();
    refuses(&there, "muted").await;
    there.post("/v1/rooms/other/messages", json!({"type": "chat", "data": "x"})).await.refused(403, "muted", "from");
    keeper.delete("/v1/mutes/troll").await.ok();
    takes(&there).await;

    // On a slow machine it may end before he says a word.
    wait_for("a short mute to hold", LONG, || async {
        keeper.put("/v1/rooms/stage/mutes/troll", json!({"for": "1s"})).await.ok();
        let said = chat(&here).await;
        if said.status.is_success() {
            return Err("it is over");
        }
        said.refused(403, "muted", "from");
        Ok(())
    })
    .await;
    wait_for("the mute to end by itself", LONG, || async {
        if chat(&here).await.status.is_success() { Ok(()) } else { Err("still muted") }
    })
    .await;
    let told: Vec<_> = mesh.happened("stage").await.into_iter().map(|(_, what)| what).collect();
    assert!(
        matches!(&told[..2], [
        RoomHappening::Mute { until: first, everywhere: false, .. },
        RoomHappening::Mute { until: 0, .. },
    ] if *first == until),
        "{told:?}"
    );
    for wrong in ["0s", "31d", "ten minutes"] {
        keeper.put("/v1/mutes/troll", json!({"for": wrong})).await.refused(400, "invalid", "for");
    }
    here.put("/v1/mutes/alice", json!({"for": "1m"})).await.refused(403, "forbidden", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_everywhere_is_told_in_each_room_where_he_is() {
    let mesh = Mesh::start().await;
    let (keeper, reader) = (mesh.keeper(), mesh.at_one(mesh.backend(&[Scope::RoomRead])));
    let at =
        |comet: &str, login: &str| Session { comet: comet.parse().unwrap(), ..online::session(login, login, 1, None) };
    online::open(&mesh, "troll", "c1", &at("one", "phone")).await;
    online::open(&mesh, "troll", "c2", &at("two", "laptop")).await;
    online::open(&mesh, "troll", "c3", &at("mute", "tablet")).await;
    online::open(&mesh, "troll", "c4", &at("dead", "watch")).await;
    // A comet that speaks and does not answer hides no room of another's, and one that is gone is not waited for.
    let _statuses = ["one", "two", "mute"].map(|name| peers::comet(&mesh.bus, name, peers::status(name, 1, 10)));
    let _one = peers::rooms_of(&mesh.bus, "one", &["stage", "side"]).await;
    let _two = peers::rooms_of(&mesh.bus, "two", &["stage"]).await;
    wait_for("the comets to be heard", LONG, async || {
        let totals = reader.get("/v1/online").await.json;
        if totals["connections"] == 3 { Ok(()) } else { Err(totals) }
    })
    .await;
    let told = |until| RoomHappening::Mute { user: "troll".parse().unwrap(), until, everywhere: true };
    // Comets have half a second to say who is where: on a slow machine they may answer too late.
    wait_for("both to be told in both rooms", LONG, || async {
        let before = [mesh.happened("stage").await.len(), mesh.happened("side").await.len()];
        let until = keeper.put("/v1/mutes/troll", json!({"for": "10m"})).await.ok()["until"].as_u64().unwrap();
        keeper.delete("/v1/mutes/troll").await.ok();
        for (room, before) in ["stage", "side"].into_iter().zip(before) {
            let happened = mesh.happened(room).await.split_off(before);
            if happened != [(None, told(until)), (None, told(0))] {
                return Err(format!("{room}: {happened:?}"));
            }
        }
        Ok(())
    })
    .await;
    // Nobody is anywhere: it holds all the same.
    keeper.put("/v1/mutes/nobody", json!({"for": "10m"})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_admins_keep_order_among_the_lesser() {
    let mesh = Mesh::start_with(&FAST).await;
    let keeper = mesh.keeper();
    let [host, admin, guest] = ["host", "admin", "guest"].map(|user| mesh.at_two(mesh.client(user)));
    let role = |user: &str| format!("/v1/rooms/stage/roles/{user}");
    let answer = keeper.put(&role("host"), json!({"role": "host"})).await;
    assert_eq!(*answer.ok(), json!({"user": "host", "role": "host"}));
    wait_for("the role to hold at the other door", LONG, || async {
        let said = host.put(&role("admin"), json!({"role": "admin"})).await;
        if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    host.put(&role("guest"), json!({"role": "host"})).await.refused(403, "forbidden", "");
    admin.put(&role("guest"), json!({"role": "admin"})).await.refused(403, "forbidden", "");
    admin.delete(&role("host")).await.refused(403, "forbidden", "user");
    keeper.put(&role("guest"), json!({"role": "king"})).await.refused(400, "invalid", "role");

    let mute = json!({"for": "1m"});
    admin.put("/v1/rooms/stage/mutes/guest", mute.clone()).await.ok();
    admin.put("/v1/rooms/stage/mutes/host", mute.clone()).await.refused(403, "forbidden", "user");
    admin.put("/v1/rooms/other/mutes/guest", mute.clone()).await.refused(403, "forbidden", "");
    guest.put("/v1/rooms/stage/mutes/admin", mute).await.refused(403, "forbidden", "");
    admin.delete("/v1/rooms/stage/mutes/guest").await.ok();
    let kicked = admin.post("/v1/rooms/stage/kicks", json!({"user": "guest"})).await;
    assert!(kicked.sequence() > 0);
    guest.post("/v1/rooms/stage/kicks", json!({"user": "admin"})).await.refused(403, "forbidden", "");
    host.post("/v1/rooms/stage/notes", json!({"data": "be nice"})).await.ok();
    guest.post("/v1/rooms/stage/notes", json!({"data": "no"})).await.refused(403, "forbidden", "");
    assert_eq!(*host.delete(&role("admin")).await.ok(), json!({"user": "admin", "role": null}));
    wait_for("the admin to be none", LONG, || async {
        let said = admin.post("/v1/rooms/stage/kicks", json!({"user": "guest"})).await;
        if said.status.as_u16() == 403 { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;

    // Who keeps order may be muted too: then his notes are silent.
    keeper.put("/v1/rooms/stage/mutes/host", json!({"for": "1m"})).await.ok();
    let here = mesh.at_one(mesh.client("host"));
    here.post("/v1/rooms/stage/notes", json!({"data": "but"})).await.refused(403, "muted", "from");

    let notes = mesh.notes("stage").await;
    assert_eq!((notes.len(), notes[0].from.as_ref().unwrap().as_str()), (1, "host"));
    let told = mesh.happened("stage").await;
    let user = |name: &str| name.parse::<pushmesh_protocol::UserId>().unwrap();
    assert_eq!(told[0], (None, RoomHappening::Role { user: user("host"), role: Some(Role::Host) }));
    assert_eq!(told[1], (Some(user("host")), RoomHappening::Role { user: user("admin"), role: Some(Role::Admin) }));
    assert!(told.contains(&(Some(user("admin")), RoomHappening::Kick { user: user("guest") })), "{told:?}");
}
