use std::time::Instant;

use futures_util::future::join_all;
use pushmesh_auth::Scope;
use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::mesh::{LONG, Mesh, key_of, now};

const MESSAGES: &str = "/v1/rooms/stage/messages";

#[tokio::test(flavor = "multi_thread")]
async fn one_line_a_second_and_who_is_too_fast_is_told_when_to_come_again() {
    let mesh = Mesh::start().await;
    let alice = mesh.at_one(mesh.client("alice"));
    let chat = json!({"type": "chat", "data": "hello"});
    alice.post(MESSAGES, chat.clone()).await.ok();
    let refused = wait_for("a line too many", LONG, || async {
        let said = alice.post(MESSAGES, chat.clone()).await;
        if said.status.is_success() { Err("a second has passed") } else { Ok(said) }
    })
    .await;
    refused.refused(429, "rate_limited", "chat_per_user");
    assert_eq!(refused.headers["retry-after"], "1");
    mesh.at_one(mesh.client("bob")).post(MESSAGES, chat.clone()).await.ok();
    wait_for("the second to pass", LONG, || async {
        if alice.post(MESSAGES, chat.clone()).await.status.is_success() { Ok(()) } else { Err("too fast") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_backends_have_their_rates_and_a_room_its_own() {
    let settings = [
        "service.limits.gifts_per_user=5",
        "service.limits.requests_per_key=20",
        "service.limits.requests_per_user=40",
        "service.limits.chat_per_user=1000",
        "service.limits.chat_per_room=10",
    ];
    let mesh = Mesh::start_with(&settings).await;
    let alice = mesh.at_one(mesh.client("alice"));
    // Slowly enough said, each is one that a user may give.
    wait_for("a gift too many", LONG, || async {
        let made = now();
        let gift = |number| json!({"key": key_of(made, number), "gift": "rose", "value": 1});
        let begun = Instant::now();
        let gifts = (0..10).map(|number| alice.post("/v1/rooms/stage/gifts", gift(number)));
        let answers = join_all(gifts).await;
        let taken = answers.iter().filter(|said| said.status.is_success()).count();
        assert!(taken <= 5 * (begun.elapsed().as_secs() as usize + 2), "{answers:?}");
        match answers.iter().find(|said| !said.status.is_success()) {
            None => Err("all of ten were taken"),
            Some(said) if said.json["limit"] == "requests_per_user" => Err("asked too often"),
            Some(said) => {
                said.refused(429, "rate_limited", "gifts_per_user");
                Ok(())
            }
        }
    })
    .await;

    // Two instances: each lets half of the room's bound through.
    let bob = mesh.at_one(mesh.client("bob"));
    wait_for("the share to be half", LONG, || async {
        let room = format!("/v1/rooms/w{}/messages", now());
        let answers = join_all((0..8).map(|_| bob.post(&room, json!({"type": "chat", "data": "x"})))).await;
        let refused: Vec<_> = answers.iter().filter(|said| !said.status.is_success()).collect();
        match refused[..] {
            [] => Err("all of eight were taken".to_owned()),
            _ if refused[0].json["limit"] == "requests_per_user" => Err("asked too often".to_owned()),
            _ => {
                refused[0].refused(429, "rate_limited", "chat_per_room");
                Ok(())
            }
        }
    })
    .await;

    let shop = mesh.at_two(mesh.backend(&[Scope::RoomWrite]));
    wait_for("a request too many", LONG, || async {
        let busy = join_all((0..60).map(|_| shop.put("/v1/rooms/quiet/state", json!({})))).await;
        let refused = busy.iter().find(|said| said.status.as_u16() == 429).ok_or("sixty took seconds")?;
        refused.refused(429, "rate_limited", "requests_per_key");
        Ok::<_, &str>(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_chat_is_refused_by_name_and_gifts_pass_by() {
    let mesh = Mesh::start_with(&["service.limits.chat_per_room=100"]).await;
    let shop = mesh.backend(&[Scope::RoomWrite]);
    let (chatter, giver) = (mesh.at_one(shop.clone()), mesh.at_one(shop));
    let storm = async {
        let chat = |number: usize| json!({"type": "chat", "data": "spam", "from": format!("u{number}")});
        join_all((0..1000).map(|number| chatter.post(MESSAGES, chat(number)))).await
    };
    let gifts = async {
        for number in 0..50 {
            let gift = json!({"key": key_of(now(), number), "from": "alice", "gift": "rose", "value": 1});
            giver.post("/v1/rooms/stage/gifts", gift).await.ok();
        }
    };
    let begun = Instant::now();
    let (chat, ()) = tokio::join!(storm, gifts);
    let most = 100 * (begun.elapsed().as_secs() as usize + 2);
    let taken = chat.iter().filter(|said| said.status.is_success()).count();
    for said in chat.iter().filter(|said| !said.status.is_success()) {
        said.refused(429, "rate_limited", "chat_per_room");
    }
    assert!((50..=most).contains(&taken), "{taken} of at most {most}");
    assert_eq!(mesh.chat("stage").await.len(), taken, "what was taken is stored");
    assert_eq!(mesh.gifts("stage").await.len(), 50);
}
