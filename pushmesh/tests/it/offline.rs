//! What works, and how it fails, without a mesh.

use crate::command::run;

#[tokio::test]
async fn keys_and_tokens_need_no_mesh() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let missing = run(&["token", "client", "alice", "--mesh", data]).await;
    assert_eq!(missing.code, 78);
    assert!(missing.stderr.contains("pushmesh keys generate"), "{}", missing.stderr);

    assert_eq!(run(&["keys", "generate", "--mesh", data]).await.code, 0);
    assert_eq!(run(&["keys", "generate", "--mesh", data]).await.code, 1, "never over another file");
    let token = run(&["token", "client", "alice", "--sid", "s1", "--ttl", "1h", "--mesh", data]).await;
    assert_eq!(token.stdout.trim().split('.').count(), 3, "{}", token.stdout);
    let token = run(&["token", "backend", "b", "--scope", "call:write", "--json", "--mesh", data]).await;
    let token: serde_json::Value = serde_json::from_str(&token.stdout).unwrap();
    assert_eq!(token["ttl_s"], 86_400);
    assert_eq!(run(&["token", "backend", "b", "--scope", "all", "--mesh", data]).await.code, 2);
}

#[tokio::test]
async fn what_is_typed_wrongly_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for (args, code, named) in [
        (&["up", "--kinds", "group,org,group", "--data", data][..], 2, "group is named twice"),
        (&["provision", "--kinds", "a,a", "--mesh", data], 2, "a is named twice"),
        (&["provision", "--nats-url", "ftp://x", "--mesh", data], 78, "ftp://x"),
        (&["provision", "--room-high-max-age", "1h", "--mesh", data], 2, "ROOM_HIGH can't keep messages for 3600s"),
        (&["push", "--data", "x", "--mesh", data], 2, "<USER>"),
        (&["push", "eve", "--room", "r", "--data", "x", "--mesh", data], 2, "--room"),
        (&["mute", "eve", "--for", "10m", "--mesh", data], 2, "--everywhere"),
        (&["mute", "r", "eve", "--everywhere", "--mesh", data], 2, "all rooms"),
        (&["gift", "r", "rose", "--user", "u", "--key", "k", "--mesh", data], 2, "version 7"),
        (&["room", "say", "r", "hi", "--mesh", data], 2, "--user"),
        (&["keys", "generate", "--file", "/proc/keys.json", "--mesh", data], 78, "/proc/keys.json"),
        (&["up", "--data", "/proc/mesh"], 78, "/proc/mesh"),
        (&["demo", "--data", "/nonexistent/records"], 78, "/nonexistent/records"),
    ] {
        let done = run(args).await;
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(named), "{args:?}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_mesh_that_is_not_there_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for args in [
        &["call", "list", "group", "--address", "127.0.0.1:1", "--mesh", data][..],
        &["member", "add", "group", "g", "u", "--address", "127.0.0.1:1", "--mesh", data],
        &["pending", "u", "--address", "127.0.0.1:1", "--mesh", data],
        &["provision", "--nats-url", "nats://127.0.0.1:1", "--mesh", data],
        &["room", "info", "r", "--address", "127.0.0.1:1", "--mesh", data],
        &["room", "say", "r", "hi", "--user", "u", "--address", "127.0.0.1:1", "--mesh", data],
        &["gift", "r", "rose", "--user", "u", "--within", "1s", "--address", "127.0.0.1:1", "--mesh", data],
        &["like", "r", "--user", "u", "--address", "127.0.0.1:1", "--mesh", data],
        &["mute", "r", "u", "--address", "127.0.0.1:1", "--mesh", data],
        &["replay", "/dev/null", "--address", "127.0.0.1:1", "--mesh", data],
    ] {
        let done = run(args).await;
        assert_eq!(done.code, 69, "{args:?}: {}", done.stderr);
        assert!(done.stdout.is_empty() && done.stderr.starts_with("error: "), "{args:?}: {}", done.stderr);
    }
}
