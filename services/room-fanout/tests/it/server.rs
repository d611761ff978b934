//! What operators do to a nats-server behind everybody's back: its JetStream API, without the bus.

use pushmesh_testkit::Nats;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// One request; panics at a refusal.
async fn call(nats: &Nats, subject: &str, body: Value) -> Value {
    let (reader, mut writer) = TcpStream::connect(("127.0.0.1", nats.port())).await.unwrap().into_split();
    let mut lines = BufReader::new(reader);
    let body = body.to_string();
    let said =
        format!("CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n", body.len());
    writer.write_all(said.as_bytes()).await.unwrap();
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).await.unwrap() > 0, "the server has closed");
        assert!(!line.starts_with("-ERR"), "{line}");
        if line.starts_with("PING") {
            writer.write_all(b"PONG\r\n").await.unwrap();
        }
        if line.starts_with("MSG answer ") {
            let length: usize = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
            let mut answer = vec![0; length];
            lines.read_exact(&mut answer).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert!(answer.get("error").is_none(), "{subject}: {answer}");
            return answer;
        }
    }
}

/// Drops everything before a sequence.
pub async fn purge_before(nats: &Nats, stream: &str, sequence: u64) {
    call(nats, &format!("$JS.API.STREAM.PURGE.{stream}"), json!({ "seq": sequence })).await;
}

/// Changes a stream's configuration.
pub async fn change_stream(nats: &Nats, stream: &str, change: impl FnOnce(&mut Value)) {
    let mut config = call(nats, &format!("$JS.API.STREAM.INFO.{stream}"), json!({})).await["config"].take();
    change(&mut config);
    call(nats, &format!("$JS.API.STREAM.UPDATE.{stream}"), config).await;
}

/// Bytes that a stream holds.
pub async fn bytes_of(nats: &Nats, stream: &str) -> u64 {
    let info = call(nats, &format!("$JS.API.STREAM.INFO.{stream}"), json!({})).await;
    info["state"]["bytes"].as_u64().unwrap()
}

/// Drops everything but the newest.
pub async fn purge_but(nats: &Nats, stream: &str, keep: u64) {
    call(nats, &format!("$JS.API.STREAM.PURGE.{stream}"), json!({ "keep": keep })).await;
}

pub async fn delete_stream(nats: &Nats, stream: &str) {
    call(nats, &format!("$JS.API.STREAM.DELETE.{stream}"), json!({})).await;
}
