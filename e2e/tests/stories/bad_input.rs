//! Bad input through every door: refused with the field and the limit, and nothing accepted is lost by it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use e2e::{Mesh, Person, Shape, record};
use futures_util::{SinkExt, StreamExt};
use pushmesh_client::{End, Event};
use pushmesh_proto::v1::{LoginEvent, PushPolicy, ReportRequest, report_response::Answer};
use pushmesh_protocol::frame::{ClientFrame, Encoding, Error, ErrorCode, Login, Ping, ServerFrame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

/// Texts that must never become part of a name, and what is said of them.
fn bad_ids() -> Vec<(String, &'static str)> {
    vec![
        (String::new(), "empty"),
        ("a.b".into(), "'.'"),
        ("*".into(), "'*'"),
        (">".into(), "'>'"),
        ("a b".into(), "' '"),
        ("a\r\nb".into(), "'\\r'"),
        ("$JS".into(), "'$'"),
        ("é".into(), "'é'"),
        ("a".repeat(5000), "limit is 64"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_stream_refuses_by_record() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut records = vec![record(0, "alice", "sid-1", LoginEvent::Online)];
    let mut expected = vec![];
    let mut bad = |record: ReportRequest, field: &'static str, reason: &'static str| {
        expected.push((record.r#ref, field, reason));
        records.push(record);
    };
    let base = |n: u64| record(n, "alice", "", LoginEvent::Online);
    for (n, (id, reason)) in bad_ids().into_iter().enumerate() {
        let n = n as u64 * 10;
        bad(ReportRequest { user: id.clone(), ..base(n + 1) }, "user", reason);
        if id.is_empty() {
            // No device is the default one, no login id is minted.
            continue;
        }
        bad(ReportRequest { device: id.clone(), ..base(n + 2) }, "device", reason);
        bad(ReportRequest { login_id: id, ..base(n + 3) }, "login_id", reason);
    }
    bad(ReportRequest { event: 0, ..base(1002) }, "event", "");
    bad(ReportRequest { event: 99, ..base(1003) }, "event", "");
    bad(ReportRequest { at_ms: 1, ..base(1004) }, "at_ms", "7 days");
    bad(ReportRequest { at_ms: u64::MAX, ..base(1005) }, "at_ms", "60 s");
    records.push(record(9999, "bob", "sid-2", LoginEvent::Online));
    let total = records.len();
    let answers = backend.report(records).await.expect("the stream goes on");
    assert_eq!(answers.len(), total);
    for (reference, field, reason) in expected {
        let answer = answers.iter().find(|answer| answer.r#ref == reference).expect("each is answered");
        match &answer.answer {
            Some(Answer::Refused(refused)) => {
                assert!(refused.field == field && refused.reason.contains(reason), "{reference}: {refused:?}");
            }
            other => panic!("{reference} {field} {reason}: {other:?}"),
        }
    }
    for good in [0, 9999] {
        let answer = answers.iter().find(|answer| answer.r#ref == good).expect("each is answered");
        assert!(matches!(answer.answer, Some(Answer::Accepted(_))), "{answer:?}");
    }
    // What was accepted among the bad is there: alice's first connection goes on with the login that was reported.
    let token = mesh.client_token("alice", Some("sid-1"));
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.token = token.into());
    alice.expect_call("standup").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_refuses_by_line() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    let scopes = [pushmesh_auth::Scope::LoginWrite];
    let token = mesh.minter().backend("story", &scopes, std::time::Duration::from_secs(600));
    let url = format!("http://{}/v1/logins", mesh.door("login-ingest", 0, "grpc"));
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let body = [
        r#"{"user":"alice","device":"phone","login_id":"sid-1","event":"online"}"#,
        r#"{"user":"a.b","event":"online"}"#,
        r#"{"user":"alice","event":"nonsense"}"#,
        r#"{"event":"online"}"#,
        "{not json",
        &deep,
        &format!(r#"{{"user":"{}","event":"online"}}"#, "a".repeat(5000)),
        r#"{"user":"bob","event":"online"}"#,
    ]
    .join("\n");
    let client = reqwest::Client::new();
    let answer = client.post(&url).bearer_auth(&token).body(body.clone()).send().await.expect("answered");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("text");
    let answers: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(answers.len(), 8, "{text}");
    let line = |n: u64| answers.iter().find(|answer| answer["line"] == n).unwrap_or_else(|| panic!("line {n}: {text}"));
    assert!(line(1)["accepted"].is_object() && line(8)["accepted"].is_object(), "{text}");
    for (n, field, words) in [
        (2, "user", "has '.' at byte 1"),
        (3, "event", "online"),
        (4, "user", "is empty"),
        (5, "line", "is malformed"),
        (6, "line", "is malformed"),
        (7, "line", "the limit is 4096"),
    ] {
        let refused = &line(n)["refused"];
        assert_eq!(refused["field"], field, "line {n}: {text}");
        assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains(words)), "line {n}: {text}");
    }
    let ids = bad_ids();
    let lines: Vec<_> =
        ids.iter().map(|(id, _)| serde_json::json!({"user": id, "event": "online"}).to_string()).collect();
    let answer = client.post(&url).bearer_auth(&token).body(lines.join("\n")).send().await.expect("answered");
    let text = answer.text().await.expect("text");
    let answers: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(answers.len(), ids.len(), "{text}");
    for (n, (id, reason)) in (1..).zip(&ids) {
        let answer = answers.iter().find(|answer| answer["line"] == n).expect("each line is answered");
        // One is too long for a line already.
        let (field, reason) = if id.len() > 4096 { ("line", "the limit is 4096") } else { ("user", *reason) };
        let said = &answer["refused"];
        assert_eq!(said["field"], field, "{id:.20}: {answer}");
        assert!(said["reason"].as_str().is_some_and(|said| said.contains(reason)), "{id:.20}: {answer}");
    }
    for (token, words) in bad_tokens(&mesh, pushmesh_auth::Scope::LoginWrite) {
        let answer = client.post(&url).bearer_auth(&token).body(body.clone()).send().await.expect("answered");
        assert_eq!(answer.status(), 401, "{words}");
        let said = answer.text().await.expect("text");
        assert!(said.contains(words) && (token.is_empty() || !said.contains(&token)), "{words}: {said}");
    }
    let token = mesh.client_token("alice", Some("sid-1"));
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.token = token.into());
    alice.expect_call("standup").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_doors_name_the_field_and_want_the_scope() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    for (id, reason) in bad_ids() {
        for (what, status) in [
            ("group", backend.try_member("group", &id, &["alice"]).await),
            ("user", backend.try_member("group", "friends", &[&id]).await),
            ("department", backend.try_member("org", &format!("acme/{id}"), &["alice"]).await),
            ("discussion", backend.try_member("discuss", &id, &["alice"]).await),
            ("call_id", backend.try_start_call("group", "friends", &id).await),
            ("unit", backend.try_start_call("group", &id, "call").await),
            ("user", backend.try_push(&id, "1", "hello", PushPolicy::Inbox).await),
        ] {
            let status = status.expect_err("refused");
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{what}: {status}");
            let message = status.message();
            assert!(message.contains(what) && message.contains(reason), "{what} {id:.20}: {message}");
        }
    }
    let big = backend.try_push("alice", "1", &"x".repeat(20_000), PushPolicy::Inbox).await.expect_err("too large");
    assert!(big.message().contains("data") && big.message().contains("16384"), "{big}");
    let long = backend.try_push("alice", &"x".repeat(200), "x", PushPolicy::Inbox).await.expect_err("too long");
    assert!(long.message().contains("id") && long.message().contains("128"), "{long}");
    let many: Vec<String> = (0..1001).map(|n| format!("u{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let many = backend.try_member("group", "friends", &many).await.expect_err("too many");
    assert!(many.message().contains("1000") || many.message().contains("1,000"), "{many}");

    let login_only =
        mesh.minter().backend("story", &[pushmesh_auth::Scope::LoginWrite], std::time::Duration::from_secs(600));
    let status = backend.with_token(&login_only).try_start_call("group", "friends", "c").await.expect_err("scope");
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert!(status.message().contains("call:write"), "{status}");
    for (token, words) in bad_tokens(&mesh, pushmesh_auth::Scope::CallWrite) {
        let status = backend.with_token(&token).try_start_call("group", "friends", "c").await.expect_err("no token");
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{words}: {status}");
        let said = status.message();
        assert!(said.contains(words) && (token.is_empty() || !said.contains(&token)), "{words}: {said}");
    }
    mesh.stop().await;
}

/// Tokens that open no backend's door, and what is said of each.
fn bad_tokens(mesh: &Mesh, scope: pushmesh_auth::Scope) -> Vec<(String, &'static str)> {
    let (minter, lifetime) = (mesh.minter(), std::time::Duration::from_secs(600));
    let sign = |minter: pushmesh_auth::Minter| minter.backend("story", &[scope], lifetime);
    let named = |config: pushmesh_auth::Config| sign(minter.clone().named(&config));
    let names = pushmesh_auth::Config::default();
    vec![
        (String::new(), ""),
        ("nonsense".into(), "malformed"),
        (unsigned("backend"), "alg"),
        (mesh.client_token("alice", None), "aud is wrong"),
        (sign(minter.clone().at(0)), "exp has passed"),
        (named(pushmesh_auth::Config { issuer: "evil".into(), ..names.clone() }), "iss is wrong"),
        (named(pushmesh_auth::Config { backend_audience: "others".into(), ..names }), "aud is wrong"),
    ]
}

/// A token of algorithm none.
fn unsigned(what: &str) -> String {
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = serde_json::json!({
        "sub": "alice", "iss": "pushmesh", "aud": format!("pushmesh-{what}"), "exp": 4_000_000_000u64,
        "scope": "call:write",
    });
    format!("{}.{}.", part(serde_json::json!({"alg": "none", "typ": "JWT"})), part(claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_bad_tokens_are_refused_for_good() {
    let mesh = Mesh::start(Shape::default()).await;
    let scopes = [pushmesh_auth::Scope::LoginWrite];
    let of_backend = mesh.minter().backend("story", &scopes, std::time::Duration::from_secs(600));
    for token in ["nonsense".to_owned(), unsigned("client"), of_backend] {
        let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.token = token.clone().into());
        let end = alice.expect("its end", |event| match event {
            Event::Ended(end) => Some(end.clone()),
            _ => None,
        });
        match end.await {
            End::Refused(error) => {
                assert_eq!(error.error, ErrorCode::Unauthorized);
                assert!(!error.message.contains(&token), "the token is repeated in {error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    mesh.login("alice").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_frames_name_the_field_and_the_connection_goes_on() {
    let mesh = Mesh::start(Shape::default()).await;
    let mut request = format!("ws://{}/", mesh.door("comet", 0, "ws")).into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "pushmesh.v1.json".parse().expect("a header value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("connected");
    let login = ClientFrame::Login(Login {
        token: mesh.client_token("alice", None),
        device: "phone".parse().expect("a token"),
        resume: None,
        heartbeat: Default::default(),
    });
    let text = |frame: &ClientFrame| Message::text(String::from_utf8(frame.encode(Encoding::Json)).expect("JSON"));
    socket.send(text(&login)).await.expect("sent");
    assert!(matches!(next_frame(&mut socket).await, ServerFrame::LoginOk(_)));
    for (frame, named, words) in [
        (r#"["JOIN",{"room":"a.b"}]"#.to_owned(), "JOIN.room", "'.'"),
        (r#"["JOIN",{}]"#.to_owned(), "JOIN.room", "missing"),
        (r#"["ACK",{"ids":["x"]}]"#.to_owned(), "ACK.ids[0]", "16 bytes"),
        (r#"["ACK",{"ids":[]}]"#.to_owned(), "ACK.ids", "empty"),
        (r#"["ACK",{}]"#.to_owned(), "ACK.ids", "missing"),
        (r#"["NONSENSE",{}]"#.to_owned(), "code", "NONSENSE"),
        (r#"["PUSH",{}]"#.to_owned(), "code", "PUSH"),
        ("{".to_owned(), "frame", "not a frame"),
        (format!(r#"["PING",{}{}]"#, "[".repeat(1000), "]".repeat(1000)), "frame", "deeper than 32"),
    ] {
        socket.send(Message::text(frame.clone())).await.expect("sent");
        match next_frame(&mut socket).await {
            ServerFrame::Error(Error { error: ErrorCode::BadFrame, field, message, .. }) => {
                assert_eq!(field.as_deref(), Some(named), "{frame:.40}: {message}");
                assert!(message.contains(words), "{frame:.40}: {message}");
            }
            other => panic!("{frame:.40}: {other:?}"),
        }
    }
    // An application's code that nobody serves.
    socket.send(Message::text(r#"[1234,{"re":5,"data":"x"}]"#)).await.expect("sent");
    match next_frame(&mut socket).await {
        ServerFrame::Error(error) => assert_eq!((error.error, error.re), (ErrorCode::NotServed, Some(5))),
        other => panic!("{other:?}"),
    }
    socket.send(text(&ClientFrame::Ping(Ping {}))).await.expect("sent");
    assert!(matches!(next_frame(&mut socket).await, ServerFrame::Pong(_)));
    // Over the limit: named, and closed.
    socket.send(Message::text("x".repeat(70_000))).await.expect("sent");
    let closed = loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(close)))) => break close,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(u16::from(closed.code), 1009, "{closed:?}");
    mesh.login("alice").await;
    mesh.stop().await;
}

async fn next_frame<S>(socket: &mut S) -> ServerFrame
where
    S: futures_util::Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        match socket.next().await.expect("a frame").expect("a frame") {
            Message::Text(text) => {
                return ServerFrame::decode(Encoding::Json, text.as_bytes()).expect("a server's frame");
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_garbage_ends_its_own_connection_alone() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    let mut alice = mesh.login("alice").await;
    let door = mesh.door("comet", 0, "tcp");
    let before_login = ClientFrame::Ping(Ping {}).encode(Encoding::MessagePack);
    for (garbage, field, words) in [
        (vec![0xff; 4096], "length", "limit is 4096"),
        (vec![0; 16], "length", "no bytes"),
        ([&u32::MAX.to_be_bytes()[..], b"x"].concat(), "length", "limit is 4096"),
        ([&5000u32.to_be_bytes()[..], &[0x91; 5000]].concat(), "length", "limit is 4096"),
        ([&[0, 0, 0, 4][..], &[0x91; 4]].concat(), "frame", "array of two"),
        ([&(before_login.len() as u32).to_be_bytes()[..], &before_login].concat(), "code", "must be LOGIN"),
    ] {
        let mut socket = TcpStream::connect(&door).await.expect("connected");
        // The comet may have closed before all was written.
        let _ = socket.write_all(&garbage).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(e2e::PATIENCE, socket.read_to_end(&mut answer)).await;
        let _ = read.unwrap_or_else(|_| panic!("{:?}… left the connection open", &garbage[..8]));
        assert!(answer.len() > 4, "{:?}… was told nothing", &garbage[..8]);
        match ServerFrame::decode(Encoding::MessagePack, &answer[4..]).expect("an ERROR frame") {
            ServerFrame::Error(error) => {
                assert!(error.field.as_deref() == Some(field) && error.message.contains(words), "{field}: {error:?}");
            }
            other => panic!("{field}: {other:?}"),
        }
    }
    backend.start_call("group", "friends", "standup").await;
    alice.expect_call("standup").await;
    mesh.stop().await;
}
