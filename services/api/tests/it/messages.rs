use pushmesh_protocol::{Payload, room::RoomHappening};
use serde_json::json;

use crate::mesh::Mesh;

const MESSAGES: &str = "/v1/rooms/stage/messages";
/// Who chats faster than people do.
const FAST: &str = "service.limits.chat_per_user=1000";

#[tokio::test(flavor = "multi_thread")]
async fn each_type_goes_through_the_stream_of_its_class() {
    let mesh = Mesh::start_with(&[FAST, "service.types.classes={ wave = \"low\", pk = \"high\" }"]).await;
    let alice = mesh.at_one(mesh.client("alice"));
    for kind in ["chat", "danmaku", "pk", "poke", "wave"] {
        alice.post(MESSAGES, json!({"type": kind, "data": "hello"})).await.ok();
    }
    let chat = mesh.chat("stage").await;
    let kinds: Vec<_> = chat.iter().map(|(_, message)| message.kind.as_str()).collect();
    assert_eq!(kinds, ["chat", "danmaku", "pk"]);
    assert_eq!(chat[0].1.from.as_ref().unwrap().as_str(), "alice");
    let happened = mesh.happened("stage").await;
    let [(by, RoomHappening::Message { kind, data })] = &happened[..] else { panic!("{happened:?}") };
    assert_eq!((by.as_ref().unwrap().as_str(), kind.as_str(), data), ("alice", "poke", &Payload::from("hello")));
    let notes = mesh.notes("stage").await;
    assert_eq!((notes.len(), notes[0].kind.as_str()), (1, "wave"));
    for reserved in ["gift", "like", "state", "mute", "level", "note", "ranking", "push", "parts"] {
        alice.post(MESSAGES, json!({"type": reserved, "data": "x"})).await.refused(400, "invalid", "type");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_an_id_is_stored_once_and_bytes_are_bytes() {
    let mesh = Mesh::start_with(&[FAST]).await;
    let alice = mesh.client("alice");
    let message = json!({"type": "chat", "id": "m1", "data": {"base64": "AAEC/w=="}});
    let first = mesh.at_one(alice.clone()).post(MESSAGES, message.clone()).await.sequence();
    let again = mesh.at_two(alice).post(MESSAGES, message.clone()).await.sequence();
    assert_eq!(first, again);
    let bob = mesh.at_two(mesh.client("bob")).post(MESSAGES, message).await.sequence();
    assert_ne!(bob, first, "an id is its sender's");
    let chat = mesh.chat("stage").await;
    assert_eq!(chat.len(), 2);
    assert_eq!(chat[0].1.data, Payload::from(vec![0, 1, 2, 255]));
    // A backend speaks in anybody's name, or in nobody's.
    mesh.keeper().post(MESSAGES, json!({"type": "chat", "data": "welcome"})).await.ok();
    mesh.keeper().post(MESSAGES, json!({"type": "chat", "data": "hi", "from": "carol"})).await.ok();
    let from: Vec<_> = mesh.chat("stage").await.into_iter().skip(2).map(|(_, message)| message.from).collect();
    assert_eq!(from, [None, Some("carol".parse().unwrap())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_has_a_limit() {
    let mesh = Mesh::start_with(&[FAST]).await;
    let alice = mesh.at_one(mesh.client("alice"));
    let chat = |data: String| json!({"type": "chat", "data": data});
    alice.post(MESSAGES, chat("x".repeat(4096))).await.ok();
    alice.post(MESSAGES, chat("x".repeat(4097))).await.refused(413, "too_large", "data_max_bytes");
    alice.post(MESSAGES, chat("x".repeat(17_000))).await.refused(413, "too_large", "body_max_bytes");
    alice.post(MESSAGES, chat(String::new())).await.refused(400, "invalid", "data");
    assert_eq!(mesh.chat("stage").await.len(), 1);
}
