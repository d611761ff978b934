use std::time::Instant;

use pushmesh_auth::Scope;
use pushmesh_bus::Outgoing;
use pushmesh_protocol::{
    RoomId,
    name::{MessageId, Subject},
    room::RoomAnswer,
    wire,
};
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};

use crate::{
    mesh::{Door, Mesh, key_of, now, partitions},
    peers,
};

fn reader(mesh: &Mesh) -> Door {
    mesh.at_one(mesh.backend(&[Scope::RoomRead]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_without_an_owner_is_asked_for_two_seconds_and_then_unavailable() {
    let mesh = Mesh::start().await;
    let reader = reader(&mesh);
    let begun = Instant::now();
    let said = reader.get("/v1/rooms/stage").await;
    said.refused(503, "unavailable", "");
    assert!(said.headers.contains_key(RETRY_AFTER));
    let took = begun.elapsed();
    assert!(took.as_millis() >= 1500, "{took:?}");
    // It comes while somebody asks: he does not notice.
    let (_owner, said) =
        tokio::join!(peers::owner(&mesh.bus, |ask, _| peers::told(ask)), reader.get("/v1/rooms/stage"));
    said.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooms_owner_tells_what_it_is_like_once_it_is_ready() {
    let mesh = Mesh::start().await;
    let reader = reader(&mesh);
    let not_yet = |ask, number| if number < 2 { wire::encode(&RoomAnswer::NotReady) } else { peers::told(ask) };
    let _owner = peers::owner(&mesh.bus, not_yet).await;
    let state = json!({"open": true, "playable": true, "banned": true});
    assert_eq!(
        reader.get("/v1/rooms/stage").await.ok(),
        &json!({"room": "stage", "state": state, "present": 17, "parts": 2, "gifts": 3, "gifts_total": 400, "likes_total": 5})
    );
    let ranking = reader.get("/v1/rooms/stage/ranking?places=2").await;
    let top = json!([{"user": "u0", "total": 9}, {"user": "u1", "total": 8}]);
    assert_eq!(ranking.ok(), &json!({"top": top, "gifts_total": 24}));
    for good in ["", "?places=1", "?places=1000", "?places=0007"] {
        reader.get(&format!("/v1/rooms/stage/ranking{good}")).await.ok();
    }
    for bad in ["0", "1001", "65537", "-1", "1.5", "1e2", "", "ten", "%2B5", "99999999999999999999", "%00"] {
        reader.get(&format!("/v1/rooms/stage/ranking?places={bad}")).await.refused(400, "invalid", "places");
    }
    reader.get("/v1/rooms/stage/ranking?places=1001").await.refused(400, "invalid", "places");
    reader.get("/v1/rooms/stage/ranking?place=1").await.refused(400, "invalid", "place");
    reader.get("/v1/rooms/stage?x").await.refused(400, "invalid", "x");
    for bad in ["a.b", "*", "%3E", "%00", &"x".repeat(65)] {
        for path in ["", "/ranking", "/history"] {
            reader.get(&format!("/v1/rooms/{bad}{path}")).await.refused(400, "invalid", "room");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_talks_nonsense_is_no_fault_of_the_callers() {
    let mesh = Mesh::start().await;
    let _owner = peers::owner(&mesh.bus, |_, number| match number {
        0 => b"nonsense".to_vec(),
        _ => wire::encode(&RoomAnswer::Closed),
    })
    .await;
    for _ in 0..2 {
        reader(&mesh).get("/v1/rooms/stage").await.refused(500, "internal", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_what_clients_were_told_page_by_page() {
    let mesh = Mesh::start_with(&["service.limits.chat_per_user=100"]).await;
    let (keeper, alice, reader) = (mesh.keeper(), mesh.at_one(mesh.client("alice")), reader(&mesh));
    let _owner = peers::owner(&mesh.bus, |ask, _| peers::told(ask)).await;
    assert_eq!(reader.get("/v1/rooms/stage/history").await.ok(), &json!({"items": [], "more": false}));
    let mut offsets = Vec::new();
    for number in 0..5 {
        let chat = json!({"type": "chat", "data": format!("line {number}")});
        offsets.push(alice.post("/v1/rooms/stage/messages", chat).await.sequence());
    }
    alice.post("/v1/rooms/other/messages", json!({"type": "chat", "data": "elsewhere"})).await.ok();
    let gift = json!({"key": key_of(now(), 1), "gift": "rose", "count": 2, "value": 200, "note": "for you"});
    let given = alice.post("/v1/rooms/stage/gifts", gift).await;
    keeper.put("/v1/rooms/stage/roles/bob", json!({"role": "admin"})).await.ok();
    keeper.put("/v1/rooms/stage/state", json!({"playable": false})).await.ok();

    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = reader.get(&format!("/v1/rooms/stage/history?chain=high&limit=2&after={after}")).await.ok().clone();
        let items = page["items"].as_array().unwrap().clone();
        after = items.last().unwrap()["offset"].as_u64().unwrap();
        found.extend(items);
        if page["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(found.iter().map(|item| item["offset"].as_u64().unwrap()).collect::<Vec<_>>(), offsets);
    for (number, item) in found.iter().enumerate() {
        assert_eq!((&item["type"], &item["from"]), (&json!("chat"), &json!("alice")));
        assert_eq!(item["data"], format!("line {number}"));
        assert!(item["at"].as_u64().unwrap().abs_diff(now()) < 60_000);
    }
    let gifts = reader.get("/v1/rooms/stage/history?chain=gifts").await.ok().clone();
    assert_eq!((&gifts["items"][0]["offset"], &gifts["items"][0]["type"]), (&given.json["sequence"], &json!("gift")));
    let data: Value = serde_json::from_str(gifts["items"][0]["data"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({"key": given.json["key"], "gift": "rose", "count": 2, "value": 200, "note": "for you"}));
    let events = reader.get("/v1/rooms/stage/history?chain=normal").await.ok().clone();
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["role", "state"]);
    assert_eq!(events["items"][0]["data"], r#"{"user":"bob","role":"admin"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_hides_what_the_owner_hid_and_what_he_does_not_know_any_more() {
    let mesh = Mesh::start_with(&["service.limits.chat_per_user=100"]).await;
    let (keeper, alice, reader) = (mesh.keeper(), mesh.at_one(mesh.client("alice")), reader(&mesh));
    let chat = |data: &str| json!({"type": "chat", "data": data});
    let forgotten = alice.post("/v1/rooms/stage/messages", chat("skipped, and forgotten")).await.sequence();
    keeper.post("/v1/rooms/stage/messages", chat("of nobody, whom nobody mutes")).await.ok();
    let told = alice.post("/v1/rooms/stage/messages", chat("told, and forgotten that it was")).await.sequence();
    let known = alice.post("/v1/rooms/stage/messages", chat("skipped, and known")).await.sequence();
    alice.post("/v1/rooms/stage/messages", chat("told")).await.ok();
    let mut gifts = Vec::new();
    for number in 1..=2 {
        let gift = json!({"key": key_of(now(), number), "gift": "rose", "value": 200, "note": "for you"});
        gifts.push(alice.post("/v1/rooms/stage/gifts", gift).await.sequence());
    }
    let wave = json!({"type": "wave", "data": "hello"});
    let waved = alice.post("/v1/rooms/stage/messages", wave.clone()).await.sequence();
    keeper.put("/v1/rooms/stage/roles/bob", json!({"role": "admin"})).await.ok();
    alice.post("/v1/rooms/stage/messages", wave).await.ok();
    assert!(forgotten < told);

    let _owner = peers::owner(&mesh.bus, move |_, _| {
        let (offsets, normal) = (vec![known, gifts[1]], vec![waved]);
        wire::encode(&RoomAnswer::Skipped { offsets, forgotten: told, normal, normal_forgotten: 0 })
    })
    .await;
    let all = async |chain: &str, limit: u64| {
        let (mut after, mut all) = (0, Vec::new());
        loop {
            let path = format!("/v1/rooms/stage/history?chain={chain}&limit={limit}&after={after}");
            let page = reader.get(&path).await.ok().clone();
            all.extend(page["items"].as_array().unwrap().iter().map(|item| item["data"].as_str().unwrap().to_owned()));
            if page["more"] == json!(false) {
                return all;
            }
            after = page["items"].as_array().unwrap().last().unwrap()["offset"].as_u64().unwrap();
        }
    };
    for limit in [1, 100] {
        assert_eq!(all("high", limit).await, ["of nobody, whom nobody mutes", "told"]);
        let notes: Vec<_> = all("gifts", limit).await.iter().map(|gift| gift.contains("for you")).collect();
        assert_eq!(notes, [true, false]);
        assert_eq!(all("normal", limit).await, [r#"{"user":"bob","role":"admin"}"#, "hello"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_stands_in_nobodys_way() {
    let mesh = Mesh::start_with(&["service.limits.chat_per_user=100"]).await;
    let (alice, reader) = (mesh.at_one(mesh.client("alice")), reader(&mesh));
    let _owner = peers::owner(&mesh.bus, |ask, _| peers::told(ask)).await;
    let room: RoomId = "stage".parse().unwrap();
    let first = alice.post("/v1/rooms/stage/messages", json!({"type": "chat", "data": "one"})).await.sequence();
    for number in 0..3 {
        let id = MessageId::room(&room, None, &format!("odd{number}").parse().unwrap());
        let subject = Subject::room_chat(partitions().of_room(&room), &room);
        mesh.bus.store(Outgoing { subject, payload: "nonsense".into(), id, trace: None }).await.unwrap();
    }
    let last = alice.post("/v1/rooms/stage/messages", json!({"type": "chat", "data": "two"})).await.sequence();
    let page = reader.get(&format!("/v1/rooms/stage/history?limit=1&after={first}")).await;
    assert_eq!((&page.ok()["items"][0]["offset"], &page.json["more"]), (&json!(last), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_history_that_is_none_is_told_by_its_field() {
    let mesh = Mesh::start().await;
    let reader = reader(&mesh);
    for good in
        ["chain=gifts", "chain=high", "chain=normal", "limit=500", "limit=1", "after=18446744073709551615", "after=0"]
    {
        reader.get(&format!("/v1/rooms/stage/history?{good}")).await.ok();
    }
    for (bad, field) in [
        ("chain=", "chain"),
        ("chain=loose", "chain"),
        ("chain=GIFTS", "chain"),
        ("chain=high&chain=high", "chain"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=1e1", "limit"),
        ("after=-1", "after"),
        ("after=18446744073709551616", "after"),
        ("after=x", "after"),
        ("after=%F0", "after"),
        ("before=1", "before"),
        ("%0d%0ax-evil:%201", "\r\nx-evil: 1"),
    ] {
        let said = reader.get(&format!("/v1/rooms/stage/history?{bad}")).await;
        said.refused(400, "invalid", field);
        assert!(!said.headers.contains_key("x-evil"));
    }
}
