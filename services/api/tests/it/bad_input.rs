use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh::{LONG, Mesh, Said, key_of, now};

/// Ids that would be something else in a subject, and what stands for them in a path.
const BAD: [&str; 16] = [
    "a.b", "*", ">", "a b", "a\r\nb", "a\tb", "a\0b", "é", "$JS", "_INBOX.x", "..", "a/b", "%2e", "\u{202e}", "'\"",
    "{}",
];

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_by_its_field_and_nothing_gets_through() {
    let mesh = Mesh::start_with(&["service.limits.requests_per_key=1000000"]).await;
    let door = mesh.keeper();
    let long = "x".repeat(5000);
    let chat = json!({"type": "chat", "data": "x"});
    for bad in BAD.into_iter().chain([long.as_str()]) {
        // Clients take dots for a folder, escaped or not.
        let path = escaped(if bad == ".." { "..." } else { bad });
        for (method, path, body) in [
            (Method::POST, format!("/v1/rooms/{path}/messages"), chat.to_string()),
            (Method::POST, format!("/v1/rooms/{path}/likes"), r#"{"count":1,"from":"a"}"#.into()),
            (Method::PUT, format!("/v1/rooms/{path}/state"), r#"{"banned":true}"#.into()),
        ] {
            door.ask(method, &path, body).await.refused(400, "invalid", "room");
        }
        door.delete(&format!("/v1/mutes/{path}")).await.refused(400, "invalid", "user");
        door.delete(&format!("/v1/rooms/stage/roles/{path}")).await.refused(400, "invalid", "user");
        for field in ["from", "type", "id"] {
            let mut chat = chat.clone();
            chat[field] = json!(bad);
            door.post("/v1/rooms/stage/messages", chat).await.refused(400, "invalid", field);
        }
        for field in ["key", "from", "to", "gift"] {
            let mut gift = json!({"key": key_of(now(), 1), "from": "a", "gift": "rose", "value": 1});
            gift[field] = json!(bad);
            door.post("/v1/rooms/stage/gifts", gift).await.refused(400, "invalid", field);
        }
        door.post("/v1/rooms/stage/kicks", json!({"user": bad})).await.refused(400, "invalid", "user");
    }
    door.post("/v1/rooms/stage/messages", json!({"type": "", "data": "x"})).await.refused(400, "invalid", "type");
    door.post("/v1/rooms//messages", chat).await.refused(400, "invalid", "room");
    assert!(mesh.chat("stage").await.is_empty() && mesh.gifts("stage").await.is_empty());
    assert!(mesh.happened("stage").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_request_says_where() {
    let mesh = Mesh::start_with(&["service.body_within=10s"]).await;
    let door = mesh.keeper();
    let post = async |path: &str, body: String| door.ask(Method::POST, path, body).await;
    let deep = |open: &str| format!("{{\"type\":\"chat\",\"data\":{}", open.repeat(1500));
    let key = key_of(now(), 1);
    for (body, field) in [
        (String::new(), "body"),
        ("{".into(), "body"),
        ("null".into(), "body"),
        (r#"["chat",null,"x",null]"#.into(), "body"),
        ("\u{0}\u{1}".into(), "body"),
        (r#"{"data":"x"}"#.into(), "type"),
        (r#"{"type":"chat"}"#.into(), "data"),
        (r#"{"type":7,"data":"x"}"#.into(), "type"),
        (r#"{"type":"chat","data":7}"#.into(), "data"),
        (r#"{"type":"chat","data":{"text":"x"}}"#.into(), "data"),
        (r#"{"type":"chat","data":{"base64":"!"}}"#.into(), "data"),
        (r#"{"type":"chat","data":"x","colour":"red"}"#.into(), "colour"),
        (r#"{"type":"chat","data":"x","data":"y"}"#.into(), "data"),
        (r#"{"type":"chat","data":"x"} {}"#.into(), "body"),
        (deep("["), "data"),
        (deep("{\"base64\":"), "data.base64"),
    ] {
        let said = post("/v1/rooms/stage/messages", body.clone()).await;
        assert_eq!(said.status.as_u16(), 400, "{body:.80}: {said:?}");
        let told = said.json["field"].as_str().unwrap();
        assert!(told == field || told.starts_with("data") && field.starts_with("data"), "{body:.80}: {said:?}");
    }
    for (change, field) in [
        (r#""value":-1"#, "value"),
        (r#""value":1e300"#, "value"),
        (r#""value":99999999999999999999999999"#, "value"),
        (r#""value":1.5"#, "value"),
        (r#""value":"1""#, "value"),
        (r#""value":18446744073709551615"#, "value"),
        (r#""value":1,"count":4294967296"#, "count"),
        (r#""value":1,"count":true"#, "count"),
        (r#""value":1,"note":[]"#, "note"),
    ] {
        let body = format!(r#"{{"key":"{key}","from":"a","gift":"rose",{change}}}"#);
        post("/v1/rooms/stage/gifts", body).await.refused(400, "invalid", field);
    }
    let all = "x".repeat(16 * 1024 + 1);
    post("/v1/rooms/stage/gifts", all).await.refused(413, "too_large", "body_max_bytes");
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1000]));
    let said = door.ask(Method::POST, "/v1/rooms/stage/gifts", reqwest::Body::wrap_stream(endless)).await;
    said.refused(413, "too_large", "body_max_bytes");
    assert!(mesh.gifts("stage").await.is_empty() && mesh.chat("stage").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_none_are_told_so_in_the_callers_way() {
    let mesh = Mesh::start().await;
    let door = mesh.keeper();
    for path in ["/", "/v1", "/v1/rooms", "/v2/rooms/stage/gifts", "/v1/rooms/stage/gifts/", "/favicon.ico"] {
        door.get(path).await.refused(404, "not_found", "");
    }
    door.get("/v1/rooms/stage/gifts").await.refused(405, "method_not_allowed", "");
    door.delete("/v1/rooms/stage/state").await.refused(405, "method_not_allowed", "");
    let response = reqwest::Client::new()
        .post(door.url("/no.such.Service/Method"))
        .header("content-type", "application/grpc")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_not_waited_for() {
    let mesh = Mesh::start_with(&["service.body_within=2s"]).await;
    let token = mesh.client("alice");
    let mut stream = tokio::net::TcpStream::connect(mesh.one.door("http")).await.unwrap();
    let head = format!(
        "POST /v1/rooms/stage/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(LONG, stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
    // A CRLF in a header ends it, and nothing else.
    let said = reqwest::Client::new()
        .post(mesh.keeper().url("/v1/rooms/stage%0d%0aX-Evil:%201/messages"))
        .bearer_auth(mesh.client("bob"))
        .timeout(LONG)
        .body(r#"{"type":"chat","data":"x"}"#)
        .send()
        .await
        .unwrap();
    assert!(!said.headers().contains_key("x-evil"));
    Said::of(said).await.refused(400, "invalid", "room");
}
