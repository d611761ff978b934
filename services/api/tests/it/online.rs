use pushmesh_auth::Scope;
use pushmesh_protocol::{
    CallId, Kind, LoginId, PushId, Unit, UserId,
    frame::{ActiveCall, Call},
    message::{CallsAnswer, CallsRequest, Session},
    name::{Bucket, Key, Subject},
    room::CometStatus,
    wire,
};
use pushmesh_testkit::wait_for;
use reqwest::header::RETRY_AFTER;
use serde_json::json;

use crate::{
    mesh::{Door, LONG, Mesh, partitions},
    peers,
};

fn names(said: &serde_json::Value) -> Vec<String> {
    said["candidates"].as_array().unwrap().iter().map(|one| one["comet"].as_str().unwrap().to_owned()).collect()
}

async fn until_named(door: &Door, path: &str, expected: &[&str]) {
    wait_for("candidates", LONG, async || {
        let said = door.get(path).await;
        let found = if said.status == 200 { names(&said.json) } else { vec![] };
        if found == expected { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_where_there_is_room_and_never_where_there_is_none() {
    let mesh = Mesh::start().await;
    let (alice, shop) = (mesh.at_one(mesh.client("alice")), mesh.at_two(mesh.backend(&[])));
    let nowhere = alice.get("/v1/connect").await;
    nowhere.refused(503, "unavailable", "");
    assert_eq!(nowhere.headers[RETRY_AFTER], "1");

    let tcp = CometStatus { websocket: String::new(), tcp: "10.0.0.1:9".into(), ..peers::status("tcp", 0, 5) };
    let draining = CometStatus { draining: true, ..peers::status("draining", 0, 10) };
    let _full = peers::comet(&mesh.bus, "full", peers::status("full", 10, 10));
    let _draining = peers::comet(&mesh.bus, "draining", draining);
    let _tcp = peers::comet(&mesh.bus, "tcp", tcp);
    let free = peers::comet(&mesh.bus, "free", peers::status("free", 9, 10));
    until_named(&alice, "/v1/connect", &["free"]).await;
    until_named(&shop, "/v1/connect?transport=ws", &["free"]).await;
    let said = shop.get("/v1/connect?transport=tcp").await;
    assert_eq!(said.ok(), &json!({"candidates": [{"comet": "tcp", "address": "10.0.0.1:9"}]}));
    assert_eq!(alice.get("/v1/connect").await.ok()["candidates"][0]["address"], "ws://free:1");

    // It drains: its word holds at once.
    drop(free);
    let going = CometStatus { draining: true, ..peers::status("free", 9, 10) };
    let going = peers::comet(&mesh.bus, "free", going);
    until_named(&alice, "/v1/connect", &[]).await;
    // It comes again, and then it is gone without a word.
    drop(going);
    let back = peers::comet(&mesh.bus, "free", CometStatus { epoch: 2, ..peers::status("free", 0, 10) });
    until_named(&alice, "/v1/connect", &["free"]).await;
    drop(back);
    until_named(&alice, "/v1/connect", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_comets_five_are_named_each_once() {
    let mesh = Mesh::start().await;
    let alice = mesh.at_one(mesh.client("alice"));
    let all = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let _all: Vec<_> = all.iter().map(|name| peers::comet(&mesh.bus, name, peers::status(name, 1, 10))).collect();
    let reader = mesh.at_one(mesh.backend(&[Scope::RoomRead]));
    wait_for("all comets", LONG, async || {
        let totals = reader.get("/v1/online").await.json;
        if totals["connections"] == 8 { Ok(()) } else { Err(totals) }
    })
    .await;
    for _ in 0..20 {
        let mut found = names(alice.get("/v1/connect").await.ok());
        assert_eq!(found.len(), 5);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 5);
    }
    for (path, field) in [
        ("/v1/connect?transport=", "transport"),
        ("/v1/connect?transport=udp", "transport"),
        ("/v1/connect?transport=ws&transport=tcp", "transport"),
        ("/v1/connect?transports=ws", "transports"),
        ("/v1/connect?transport=%00", "transport"),
    ] {
        alice.get(path).await.refused(400, "invalid", field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_those_of_comets_that_speak() {
    let mesh = Mesh::start().await;
    let reader = mesh.at_one(mesh.backend(&[Scope::RoomRead]));
    let unheard = reader.get("/v1/online").await;
    unheard.refused(503, "unavailable", "");
    assert_eq!(unheard.headers[RETRY_AFTER], "2");
    // Nobody can read it, and nothing comes of it.
    mesh.bus.publish(Subject::comet_status(&"odd".parse().unwrap()), "nonsense".into()).await.unwrap();
    let _one = peers::comet(&mesh.bus, "one", peers::status("one", 4, 10));
    let _two = peers::comet(&mesh.bus, "two", CometStatus { draining: true, ..peers::status("two", 5, 10) });
    let totals = wait_for("both comets", LONG, async || {
        let totals = reader.get("/v1/online").await.json;
        if totals["connections"] == 9 { Ok(totals) } else { Err(totals) }
    })
    .await;
    let comets = totals["comets"].as_array().unwrap();
    assert_eq!(comets.len(), 2, "{totals}");
    assert_eq!(
        (&comets[1]["comet"], &comets[1]["draining"], &comets[1]["rooms"]),
        (&json!("two"), &json!(true), &json!(3))
    );
    assert!(comets.iter().all(|comet| comet["age_ms"].as_u64().unwrap() < 5000), "{totals}");

    reader.get("/v1/online?x=1").await.refused(400, "invalid", "x");
    for token in [mesh.client("alice"), mesh.backend(&[Scope::RoomWrite, Scope::PushWrite])] {
        let stranger = mesh.at_one(token);
        for path in [
            "/v1/online",
            "/v1/online/users/alice",
            "/v1/rooms/stage",
            "/v1/rooms/stage/ranking",
            "/v1/rooms/stage/history",
        ] {
            stranger.get(path).await.refused(403, "forbidden", "");
        }
    }
}

pub fn session(login: &str, device: &str, since: u64, left: Option<u64>) -> Session {
    let (login_id, device) = (login.parse().unwrap(), device.parse().unwrap());
    Session { login_id, device, comet: "comet-1".parse().unwrap(), comet_epoch: 3, since, left }
}

pub async fn open(mesh: &Mesh, user: &str, conn: &str, session: &Session) {
    let user: UserId = user.parse().unwrap();
    let key = Key::session(partitions().of_user(&user), &user, &conn.parse().unwrap());
    let bucket = mesh.bus.bucket(&Bucket::SESSIONS).await.unwrap();
    bucket.put(&key, wire::encode(session).into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_where_his_sessions_are() {
    let mesh = Mesh::start().await;
    let reader = mesh.at_one(mesh.backend(&[Scope::RoomRead]));
    assert_eq!(reader.get("/v1/online/users/alice").await.ok(), &json!({"devices": []}));
    open(&mesh, "alice", "c2", &session("l2", "laptop", 20, Some(30))).await;
    open(&mesh, "alice", "c1", &session("l1", "phone", 10, None)).await;
    open(&mesh, "alice2", "c3", &session("l3", "phone", 10, None)).await;
    // What stands beside a session is none.
    let (alice, conn) = ("alice".parse().unwrap(), "c1".parse().unwrap());
    let beside = Key::session_login(partitions().of_user(&alice), &alice, &conn);
    mesh.bus.bucket(&Bucket::SESSIONS).await.unwrap().put(&beside, "x".into()).await.unwrap();
    assert_eq!(
        reader.get("/v1/online/users/alice").await.ok(),
        &json!({"devices": [
            {"device": "phone", "comet": "comet-1", "login_id": "l1", "since": 10},
            {"device": "laptop", "comet": "comet-1", "login_id": "l2", "since": 20, "left": 30},
        ]})
    );
    for bad in ["a.b", "*", "%3E", "a%20b", "%00", "%C3%A9", &"x".repeat(65)] {
        reader.get(&format!("/v1/online/users/{bad}")).await.refused(400, "invalid", "user");
    }
    reader.get("/v1/online/users/alice?device=phone").await.refused(400, "invalid", "device");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_the_calls_of_his_logins_and_who_did_not_answer() {
    let mesh = Mesh::start().await;
    let alice = mesh.at_one(mesh.client("alice"));
    assert_eq!(alice.get("/v1/me/calls").await.ok(), &json!({"calls": [], "missing": []}), "no login, no call");
    open(&mesh, "alice", "c1", &session("l1", "phone", 10, None)).await;
    open(&mesh, "alice", "c2", &session("l2", "laptop", 20, None)).await;
    let answer = |asked: CallsRequest| {
        let (kind, call_id) = (Kind::new("group").unwrap(), CallId::new("standup").unwrap());
        let id = PushId::of_call(&kind, &call_id, &asked.user, &asked.login_id);
        let call = Call { kind, call_id, unit: Unit::new("team").unwrap(), started_at: 7, data: Some("hi".into()) };
        CallsAnswer { calls: vec![ActiveCall { id, call }] }
    };
    let _group = peers::kind(&mesh.bus, "group", answer).await;
    let _org = peers::kind(&mesh.bus, "org", |_| CallsAnswer { calls: vec![] }).await;
    let id = |login: &str| {
        let login: LoginId = login.parse().unwrap();
        PushId::of_call(&"group".parse().unwrap(), &"standup".parse().unwrap(), &"alice".parse().unwrap(), &login)
            .to_string()
    };
    let call = |login: &str, device: &str| {
        json!({"id": id(login), "login_id": login, "device": device, "kind": "group", "call_id": "standup",
            "unit": "team", "started_at": 7, "data": "hi"})
    };
    let expected = json!({"calls": [call("l1", "phone"), call("l2", "laptop")], "missing": ["discuss"]});
    wait_for("who is there to answer in time", LONG, async || {
        let said = alice.get("/v1/me/calls").await.ok().clone();
        if said == expected { Ok(()) } else { Err(said) }
    })
    .await;
    alice.get("/v1/me/calls?user=bob").await.refused(400, "invalid", "user");
    let backend = mesh.at_one(mesh.backend(&Scope::ALL));
    backend.get("/v1/me/calls").await.refused(403, "forbidden", "");
    assert_eq!(mesh.at_two(mesh.client("bob")).get("/v1/me/calls").await.ok()["calls"], json!([]));
}
