//! A mesh at a terminal, from its start to its end.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use pushmesh_testkit::wait_for;
use serde_json::Value;

use crate::{
    command::{PATIENCE, json, run},
    mesh::Mesh,
};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

async fn starts_a_call_and_is_told(mesh: &Mesh, data: &Path) {
    let added = json(data, &["member", "add", "group", "friends", "alice", "bob", "--role", "owner"]).await;
    assert_eq!(added[0]["added"][1], "bob");
    let listed = json(data, &["member", "list", "group", "alice"]).await;
    assert_eq!((&listed[0]["unit"], &listed[0]["role"]), (&"friends".into(), &"owner".into()));
    json(data, &["call", "start", "group", "friends", "standup", "--data", "hello"]).await;
    assert_eq!(json(data, &["call", "list", "group"]).await[0]["call_id"], "standup");

    let told = json(data, &["tail", "--user", "alice", "--count", "1"]).await;
    assert_eq!(told[0]["push"]["body"]["call"]["call_id"], "standup");
    let tcp = format!("tcp://{}", mesh.door("comet", "tcp"));
    let told = json(data, &["tail", "--user", "bob", "--address", &tcp, "--count", "1"]).await;
    assert_eq!(told[0]["push"]["body"]["call"]["data"], "hello");

    json(data, &["call", "end", "group", "standup"]).await;
    assert!(json(data, &["call", "list", "group"]).await.is_empty());
    let again = run(&["call", "start", "group", "friends", "standup", "--mesh", data.to_str().unwrap()]).await;
    assert_eq!(again.code, 1, "a call's id is never used again: {}", again.stderr);
}

async fn keeps_a_push_for_who_is_away(data: &Path) {
    json(data, &["push", "carol", "--data", "your order is on its way"]).await;
    wait_for("the push to be in the inbox", PATIENCE, async || {
        let pending = json(data, &["pending", "carol"]).await;
        if pending.len() == 1 { Ok(()) } else { Err(format!("{pending:?}")) }
    })
    .await;
    let told = json(data, &["tail", "--user", "carol", "--count", "1", "--wire-json"]).await;
    assert_eq!(told[0]["push"]["body"]["message"]["data"], "your order is on its way");
    // Said again with the same id it is one push for each.
    for _ in 0..2 {
        let many = json(data, &["push", "gina", "hugo", "--data", "both of you", "--id", "both"]).await;
        assert_eq!((&many[0]["stored"], &many[0]["unknown"]), (&2.into(), &Value::Array(vec![])));
    }
    for user in ["gina", "hugo"] {
        let told = json(data, &["tail", "--user", user, "--count", "1"]).await;
        assert_eq!(told[0]["push"]["body"]["message"]["data"], "both of you");
    }
}

async fn replays_records(mesh: &Mesh, data: &Path) {
    let file = mesh.dir.path().join("records");
    let lines = [
        r#"{"user":"dave","device":"phone","event":"online"}"#,
        r#"{"t":"2004-12-25T00:05:00.000Z","group":"g","type":"online","user":"erin"}"#,
        r#"{"t":"2004-12-25T00:06:00.000Z","group":"g","type":"message","user":"erin","text":"hi"}"#,
        r#"{"t":"2004-12-25T00:06:00.050Z","group":"g","type":"offline","user":"frank"}"#,
        r#"{"user":"a.b","event":"online"}"#,
        "{",
    ];
    fs::write(&file, lines[..4].join("\n")).unwrap();
    let summary = json(data, &["replay", file.to_str().unwrap()]).await;
    let counts =
        |summary: &Value| ["accepted", "refused", "unknown", "skipped"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts(&summary[0]), [3, 0, 0, 1]);

    fs::write(&file, lines.join("\n")).unwrap();
    let args = ["replay", file.to_str().unwrap(), "--speed", "100", "--json", "--mesh", data.to_str().unwrap()];
    let done = run(&args).await;
    assert_eq!(done.code, 1, "some were refused");
    assert_eq!(counts(&serde_json::from_str(&done.stdout).unwrap()), [3, 2, 0, 1]);
    assert!(done.stderr.contains("line 5 refused: field user") && done.stderr.contains("line 6"), "{}", done.stderr);
}

#[tokio::test]
async fn a_mesh_from_its_start_to_its_end() {
    let mut mesh = Mesh::up(&[]).await;
    let data = mesh.data();
    for service in [
        "login-ingest",
        "distributor",
        "group-push",
        "discuss-push",
        "org-push",
        "ack-retry",
        "api",
        "comet",
        "room-fanout",
    ] {
        let answer = get(mesh.door(service, "admin"), "/readyz");
        assert!(answer.starts_with("HTTP/1.1 200"), "{service}: {answer}");
    }
    let second = run(&["up", "--free-ports", "--data", data.to_str().unwrap()]).await;
    assert_eq!(second.code, 69, "one mesh a folder: {}", second.stderr);

    let (elsewhere, door) = (mesh.dir.path().join("elsewhere"), mesh.door("group-push", "grpc"));
    let keyless = run(&["call", "list", "group", "--address", door, "--mesh", elsewhere.to_str().unwrap()]).await;
    assert_eq!(keyless.code, 78, "{}", keyless.stderr);
    assert!(keyless.stderr.contains("no keys") && keyless.stderr.contains("--mesh"), "{}", keyless.stderr);

    starts_a_call_and_is_told(&mesh, &data).await;
    keeps_a_push_for_who_is_away(&data).await;
    replays_records(&mesh, &data).await;

    mesh.process.expect_drained(PATIENCE).await;
    assert!(!data.join("ready.json").exists());
    let nats = mesh.ready["nats"].as_str().unwrap().trim_start_matches("nats://").to_owned();
    assert!(TcpStream::connect(nats).is_err(), "its nats-server has ended too");
}

#[tokio::test]
async fn a_fourth_kind_is_a_name_and_doors_may_be_open_on_loopback() {
    let mut mesh = Mesh::up(&["--kinds", "group,discuss,org,squad", "--insecure-local"]).await;
    let nowhere = tempfile::tempdir().unwrap();
    let address = mesh.door("squad-push", "grpc").to_owned();
    json(nowhere.path(), &["member", "add", "squad", "red", "alice", "--address", &address]).await;
    json(nowhere.path(), &["call", "start", "squad", "red", "raid", "--address", &address]).await;
    let told = json(&mesh.data(), &["tail", "--user", "alice", "--count", "1"]).await;
    assert_eq!(told[0]["push"]["body"]["call"]["kind"], "squad");
    mesh.process.interrupt();
    mesh.process.expect_exit(0, PATIENCE).await;
}
