use serde_json::Value;

use crate::ingest::Ingest;

/// The answers, by line.
async fn lines(response: reqwest::Response) -> Vec<Value> {
    let text = response.text().await.unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    lines.sort_by_key(|line| line["line"].as_u64());
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_answered_one_by_one() {
    let ingest = Ingest::start().await;
    let body = "{\"user\":\"alice\",\"device\":\"phone\",\"event\":\"online\",\"login_id\":\"l1\"}\r\n\n\
                {\"user\":\"alice\",\"event\":\"offline\"}\n{\"user\":\"bob\",\"event\":\"online\",\"device\":null}";
    let response = ingest.post(body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let lines = lines(response).await;
    assert_eq!(lines[0], serde_json::json!({"line": 1, "accepted": {"login_id": "l1"}}));
    assert_eq!(lines[1], serde_json::json!({"line": 3, "accepted": {}}));
    assert_eq!(lines[2]["line"], 4);
    assert_eq!(lines[2]["accepted"]["login_id"].as_str().unwrap().len(), 32);
    ingest.stored(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_serves_is_not_found() {
    let ingest = Ingest::start().await;
    let (client, door) = (reqwest::Client::new(), format!("http://{}", ingest.process.door("grpc")));
    for path in ["/", "/nothing", "/v1/login", "/v1/logins/alice"] {
        let response = client.get(format!("{door}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert!(response.text().await.unwrap().contains("/v1/logins"), "{path}");
    }
    assert_eq!(client.get(format!("{door}/v1/logins")).send().await.unwrap().status(), 405);
    let grpc = client.post(format!("{door}/pushmesh.v1.Nothing/Do")).header("content-type", "application/grpc");
    let response = grpc.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()), (200, "12"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_streams() {
    let ingest = Ingest::start().await;
    let body: String = (0..20_000)
        .map(|n| format!("{{\"user\":\"u{}\",\"event\":\"online\",\"login_id\":\"l{n}\"}}\n", n % 500))
        .collect();
    let lines = lines(ingest.post(body).await).await;
    assert_eq!(lines.len(), 20_000);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(line["accepted"]["login_id"], format!("l{n}"), "{line}");
    }
    ingest.stored(20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_refused_alone() {
    let ingest = Ingest::start().await;
    let long_id = format!("{{\"user\":\"{}\",\"event\":\"online\"}}", "x".repeat(3000));
    let long_line = format!("{{\"user\":\"{}\",\"event\":\"online\"}}", "x".repeat(5000));
    let deep = format!("{{\"user\":{}", "[".repeat(4000));
    let cases = [
        ("{", "line", "is malformed"),
        ("\u{1}\u{2}", "line", "is malformed"),
        (deep.as_str(), "user", "is malformed"),
        (r#"{"user":"a.b","event":"online"}"#, "user", "'.'"),
        (r#"{"user":"","event":"online"}"#, "user", "is empty"),
        (r#"{"user":"*","event":"online"}"#, "user", "'*'"),
        (r#"{"user":">","event":"online"}"#, "user", "'>'"),
        (r#"{"user":"a b","event":"online"}"#, "user", "' '"),
        (r#"{"user":"a\r\nb","event":"online"}"#, "user", "'\\r'"),
        (r#"{"user":1,"event":"online"}"#, "user", "expected a string"),
        (long_id.as_str(), "user", "3000 bytes; the limit is 64"),
        (long_line.as_str(), "line", "5028 bytes; the limit is 4096"),
        (r#"{"user":"a","event":"gone"}"#, "event", "neither online nor offline"),
        (r#"{"user":"a","event":"online","at_ms":1}"#, "at_ms", "7 days"),
        (r#"{"user":"a","event":"online","at_ms":"now"}"#, "at_ms", "expected u64"),
        (r#"{"user":"a","event":"online","device":"a.b"}"#, "device", "'.'"),
        (r#"{"user":"a","event":"online","login_id":"a>b"}"#, "login_id", "'>'"),
        (r#"{"user":"a","event":"online","colour":"red"}"#, "line", "unknown field `colour`"),
    ];
    let good = r#"{"user":"alice","event":"online"}"#;
    let body: String = cases.iter().map(|(line, ..)| format!("{line}\n{good}\n")).collect();
    let lines = lines(ingest.post(body).await).await;
    for (n, (bad, field, reason)) in cases.iter().enumerate() {
        let refused = &lines[2 * n]["refused"];
        assert_eq!(refused["field"], *field, "{bad:.60}: {}", lines[2 * n]);
        let said = refused["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{bad:.60}: {said} should say {reason}");
        assert!(lines[2 * n + 1]["accepted"].is_object(), "{}", lines[2 * n + 1]);
    }
    ingest.stored(cases.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_has_no_answers() {
    let ingest = Ingest::start().await;
    let response = ingest.post("").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "");
}
