use std::time::Duration;

use pushmesh_auth::{Minter, Scope};
use reqwest::header::WWW_AUTHENTICATE;
use serde_json::json;

use crate::mesh::{Mesh, Said, key_of, now};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_why_and_nothing_is_stored() {
    let mesh = Mesh::start().await;
    let ten_minutes = Duration::from_secs(600);
    let forger = Minter::hs256(b"a secret that nobody here has ever seen");
    let alice = "alice".parse().unwrap();
    let good = mesh.client("alice");
    let claims = good.split('.').nth(1).unwrap();
    // An algorithm of none, in base64url: {"alg":"none"}.
    let none = format!("eyJhbGciOiJub25lIn0.{claims}.");
    let unauthenticated = [
        None,
        Some(String::new()),
        Some("nonsense".to_owned()),
        Some("x".repeat(5000)),
        Some(good[..good.len() - 4].to_owned()),
        Some(none),
        Some(forger.client(&alice, None, ten_minutes)),
        Some(forger.backend("b", &[Scope::RoomWrite], ten_minutes)),
    ];
    let http = reqwest::Client::new();
    let url = mesh.at_one(String::new()).url("/v1/rooms/stage/messages");
    for token in unauthenticated {
        let mut post = http.post(&url).body("{not even read");
        if let Some(token) = &token {
            post = post.bearer_auth(token);
        }
        let said = Said::of(post.send().await.unwrap()).await;
        said.refused(401, "unauthenticated", "");
        let challenge = said.headers[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.starts_with("Bearer ") && challenge.contains("error_description=\""), "{challenge}");
        if let Some(token) = token.filter(|token| token.len() > 10) {
            let text = format!("{said:?}");
            assert!(!text.contains(&token) && !text.contains(claims), "a token is in {text}");
        }
    }
    let chat = json!({"type": "chat", "data": "x", "from": "alice"});
    for scopes in [&[][..], &[Scope::RoomRead, Scope::PushWrite, Scope::LoginWrite]] {
        let shop = mesh.at_one(mesh.backend(scopes));
        for (path, body) in [
            ("/v1/rooms/stage/messages", chat.clone()),
            ("/v1/rooms/stage/gifts", json!({"key": key_of(now(), 1), "gift": "rose", "value": 1, "from": "alice"})),
            ("/v1/rooms/stage/likes", json!({"count": 1, "from": "alice"})),
            ("/v1/rooms/stage/notes", json!({"data": "x"})),
            ("/v1/rooms/stage/kicks", json!({"user": "alice"})),
        ] {
            let said = shop.post(path, body).await;
            said.refused(403, "forbidden", "");
            assert!(said.json["message"].as_str().unwrap().contains("room:write"), "{said:?}");
        }
        shop.put("/v1/rooms/stage/roles/alice", json!({"role": "host"})).await.refused(403, "forbidden", "");
        shop.delete("/v1/mutes/alice").await.refused(403, "forbidden", "");
    }
    let token = mesh.at_one(mesh.client("mallory"));
    token.post("/v1/rooms/stage/messages", chat).await.refused(403, "forbidden", "from");
    // A token in the URL is none.
    let url = format!("{url}?access_token={good}");
    Said::of(http.post(url).body("{}").send().await.unwrap()).await.refused(401, "unauthenticated", "");
    assert!(mesh.chat("stage").await.is_empty() && mesh.gifts("stage").await.is_empty());
    assert!(mesh.happened("stage").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_a_door_may_be_open() {
    let mesh = Mesh::start_with(&["service.door.insecure_local=true"]).await;
    let url = mesh.at_one(String::new()).url("/v1/rooms/stage/messages");
    let post = reqwest::Client::new().post(url).body(r#"{"type":"chat","data":"x","from":"anybody"}"#);
    Said::of(post.send().await.unwrap()).await.ok();
    assert_eq!(mesh.chat("stage").await.len(), 1);
}
