//! A whole comet on a real nats-server, with the real login-ingest beside it; the test plays the other services.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use comet::{Config, address::Address};
use pushmesh_auth::Minter;
use pushmesh_protocol::{
    LoginId, UserId,
    frame::{
        Ack, ActiveCall, App, AppBody, Call, CallsQuery, ClientFrame, Encoding, ErrorCode, KickReason, Logout, Ping,
        Pong, ServerFrame,
    },
    message::{AckBatch, AckOutcome, AppAnswer, AppRequest, CallsAnswer, CallsRequest, LoginEvent, OfflineCause},
    name::Subject,
    wire,
};
use pushmesh_testkit::{Process, ProcessOptions, wait_for};

use crate::{
    harness::{Doors, SOON, Tcp, Ws, login, push, push_id},
    mesh::{Mesh, Outside, order, resuming, token},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_has_a_session_and_a_record_and_lives_as_long_as_its_client_wants() {
    let mesh = Mesh::start().await;
    let (_ingest, comet) = tokio::join!(mesh.ingest(), mesh.comet("comet-1", |_| {}));
    let token = mesh.token("ann", Some("sid-1"));
    let (first, ok) = Tcp::log_in(&comet, login(&token)).await;
    assert_eq!((ok.user.as_str(), ok.login_id.as_str(), ok.resumed), ("ann", "sid-1", false));
    let session = mesh.session("ann", &ok.conn_id).await.expect("it stands before LOGIN_OK");
    assert_eq!((session.login_id.as_str(), session.comet.as_str(), session.left), ("sid-1", "comet-1", None));

    // The socket breaks: the session is left, and the login goes on where the client comes back.
    drop(first);
    wait_for("left", SOON, || async {
        let session = mesh.session("ann", &ok.conn_id).await.ok_or("gone")?;
        session.left.map(|_| ()).ok_or("not left")
    })
    .await;
    let (second, again) = Tcp::log_in(&comet, resuming(&token, &ok)).await;
    assert_eq!((again.login_id.as_str(), again.resumed), ("sid-1", true));
    assert_eq!(mesh.session("ann", &ok.conn_id).await, None, "one connection, one session");

    // A resume takes a connection over that is still open, too.
    let (mut third, once_more) = Tcp::log_in(&comet, resuming(&token, &again)).await;
    assert!(once_more.resumed);
    let mut second = second;
    assert!(matches!(second.next().await, Some(ServerFrame::Kick(kick)) if kick.reason == KickReason::Replaced));

    // Its sid is used up: without a resume the same token begins another login.
    let (_other, other) = Tcp::log_in(&comet, login(&token)).await;
    assert!(!other.resumed && other.login_id.as_str() != "sid-1");
    third.send(&ClientFrame::Logout(Logout {})).await;
    third.expect_end().await;
    wait_for("the purge", SOON, || async {
        mesh.session("ann", &once_more.conn_id).await.map_or(Ok(()), |_| Err("there"))
    })
    .await;
    let records = mesh.records("ann", 3).await;
    let said: Vec<_> = records
        .iter()
        .map(|record| match &record.event {
            LoginEvent::Online { login_id, device } => format!("{login_id} online on {device}"),
            LoginEvent::Offline { login_id, cause, .. } => {
                assert_eq!(*cause, OfflineCause::Logout);
                format!("{} offline", login_id.as_ref().unwrap())
            }
        })
        .collect();
    let other = format!("{} online on phone", other.login_id);
    assert_eq!(said, ["sid-1 online on phone", &other, "sid-1 offline"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_reach_their_connection_and_every_other_fate_is_told() {
    let mesh = Mesh::start().await;
    let (_ingest, comet) = tokio::join!(mesh.ingest(), mesh.comet("comet-1", |_| {}));
    let mut acks = mesh.bus.subscribe(Subject::ack(mesh.partition("ann")).into()).await.unwrap();
    let (mut client, address) = Ws::login(&comet, Encoding::Json, &mesh.token("ann", None)).await;
    let conn = address.conn_id();
    mesh.send(&comet, "ann", &conn, 5, order(1)).await;
    assert_eq!(client.next().await, Ok(push(1, 10)));
    client.send(&ClientFrame::Ack(Ack { ids: vec![push_id(1)] })).await;
    let nobody = Address { nonce: 1, ..address }.conn_id();
    mesh.send(&comet, "ann", &nobody, 5, order(2)).await;
    mesh.send(&comet, "ann", &conn, 4, order(3)).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let message = tokio::time::timeout(SOON, acks.next()).await.expect("acks in time").unwrap();
        let batch: AckBatch = wire::decode(&message.payload).unwrap();
        assert_eq!(batch.comet, comet.instance);
        told.extend(batch.items.into_iter().map(|item| (item.push, item.outcome)));
    }
    told.sort_by_key(|(push, _)| *push);
    let expected = [(push_id(1), AckOutcome::Acked), (push_id(2), AckOutcome::Gone), (push_id(3), AckOutcome::Fenced)];
    assert_eq!(told, expected);
    mesh.bus.publish(Subject::comet(&comet.instance), b"nonsense"[..].into()).await.unwrap();
    mesh.send(&comet, "ann", &conn, 6, order(4)).await;
    assert_eq!(client.next().await, Ok(push(4, 10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_by_whom_they_are_for() {
    let mesh = Mesh::start().await;
    let apps = |config: &mut Config| {
        config.apps = [("1000".to_owned(), token("echo")), ("1001".to_owned(), token("nobody"))].into();
    };
    let (_ingest, comet) = tokio::join!(mesh.ingest(), mesh.comet("comet-1", apps));
    let call = ActiveCall {
        id: push_id(1),
        call: Call {
            kind: "group".parse().unwrap(),
            call_id: "c1".parse().unwrap(),
            unit: "g1".parse().unwrap(),
            started_at: 1,
            data: None,
        },
    };
    let known = call.clone();
    let _group = mesh
        .answer(Subject::calls(&"group".parse().unwrap(), mesh.partition("ann")), move |payload| {
            let request: CallsRequest = wire::decode(payload).unwrap();
            assert_eq!(request.user.as_str(), "ann");
            wire::encode(&CallsAnswer { calls: vec![known.clone()] })
        })
        .await;
    let _echo = mesh
        .answer(Subject::app(&token("echo")), |payload| {
            let AppRequest { data, user, .. } = wire::decode(payload).unwrap();
            wire::encode(&if data.0.is_empty() {
                AppAnswer::Error(format!("{user} said nothing"))
            } else {
                AppAnswer::Data(data)
            })
        })
        .await;
    let (mut client, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    client.send(&ClientFrame::Calls(CallsQuery { re: 7 })).await;
    let Some(ServerFrame::Calls(calls)) = client.next().await else { panic!("no CALLS") };
    assert_eq!((calls.re, calls.calls), (7, vec![call]));
    let missing: Vec<_> = calls.missing.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(missing, ["discuss", "org"]);

    let app = |code, data: &str| ClientFrame::App(App { code, body: AppBody { re: Some(9), data: data.into() } });
    client.send(&app(1000, "hello")).await;
    let answered = App { code: 1000, body: AppBody { re: Some(9), data: "hello".into() } };
    assert_eq!(client.next().await, Some(ServerFrame::App(answered)));
    for (code, data, expected, words) in [
        (1000, "", ErrorCode::Forbidden, "ann said nothing"),
        (1001, "x", ErrorCode::NotServed, "nobody serves nobody now"),
        (1002, "x", ErrorCode::NotServed, "no application serves code 1002"),
    ] {
        client.send(&app(code, data)).await;
        let error = client.error().await;
        assert_eq!((error.error, error.re, error.message.as_str()), (expected, Some(9), words));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_be_stored_leaves_nothing_behind() {
    let mesh = Mesh::start().await;
    let comet = mesh.comet("comet-1", |_| {}).await;
    let token = mesh.token("ann", Some("sid-1"));
    let mut client = Ws::connect(&comet, Encoding::Json).await;
    client.send(&login(&token)).await;
    let error = client.error().await;
    assert_eq!(error.error, ErrorCode::Unavailable, "{error:?}");
    assert!(error.retry_after_ms.is_some_and(|after| after >= 500), "{error:?}");
    assert!(error.message.contains("nobody listens"), "{error:?}");
    client.expect_close(1013).await;
    // Its sid is still its own once the mesh can store it.
    let _ingest = mesh.ingest().await;
    let (_client, ok) = Tcp::log_in(&comet, login(&token)).await;
    assert_eq!(ok.login_id, LoginId::new("sid-1").unwrap());
}

/// Signs with a key file of one secret.
fn minter(mesh: &Mesh, kid: &str, secret: &[u8]) -> Minter {
    let file = mesh.dir.path().join("minter.json");
    std::fs::write(&file, format!(r#"{{"keys":[{}]}}"#, secret_key(kid, secret))).unwrap();
    Minter::from_jwks(&file).unwrap()
}

fn secret_key(kid: &str, secret: &[u8]) -> String {
    format!(r#"{{"kty":"oct","alg":"HS256","kid":"{kid}","k":"{}"}}"#, URL_SAFE_NO_PAD.encode(secret))
}

/// A token with another header.
fn headed(token: &str, header: &str) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_refused_through_both_doors() {
    let mesh = Mesh::start().await;
    // A secret, and a public key: its modulus is known to everybody.
    let (secret, modulus) = (b"a secret of this story alone, of 32", [0xb7; 256]);
    let public = format!(r#"{{"kty":"RSA","kid":"rs","n":"{}","e":"AQAB"}}"#, URL_SAFE_NO_PAD.encode(modulus));
    let keys = format!(r#"{{"keys":[{},{public}]}}"#, secret_key("hs", secret));
    std::fs::write(mesh.dir.path().join("jwks.json"), keys).unwrap();
    let comet = mesh.comet("comet-1", |config| config.limits.failed_logins = 1000).await;
    let ann: UserId = "ann".parse().unwrap();
    let ten_minutes = Duration::from_secs(600);
    let own = minter(&mesh, "hs", secret);
    let named = |config| own.clone().named(&config).client(&ann, None, ten_minutes);
    let names = pushmesh_auth::Config::default();
    let good = own.client(&ann, None, ten_minutes);
    let unsigned = headed(&good, r#"{"alg":"none","kid":"hs"}"#);
    for (token, field, words) in [
        (
            minter(&mesh, "hs", b"another secret that is long enough").client(&ann, None, ten_minutes),
            "token",
            "signature",
        ),
        (format!("{}.", unsigned.rsplit_once('.').unwrap().0), "token", "alg"),
        (headed(&good, r#"{"alg":"RS256","kid":"hs"}"#), "token", "alg"),
        (minter(&mesh, "rs", &modulus).client(&ann, None, ten_minutes), "token", "alg"),
        (own.clone().at(0).client(&ann, None, ten_minutes), "token", "exp"),
        (named(pushmesh_auth::Config { issuer: "evil".into(), ..names.clone() }), "token", "iss is wrong"),
        (named(pushmesh_auth::Config { client_audience: "others".into(), ..names }), "token", "aud is wrong"),
        (own.backend("crm", &[pushmesh_auth::Scope::PushWrite], ten_minutes), "token", "aud is wrong"),
        (own.client_of_device(&ann, &"tablet".parse().unwrap(), None, ten_minutes), "device", "another device"),
        ("nonsense".into(), "token", "malformed"),
        ("x".repeat(3073), "token", "limit is 3072"),
    ] {
        let mut tcp = Tcp::connect(&comet).await;
        tcp.send(&login(&token)).await;
        let mut told = vec![tcp.error().await];
        tcp.expect_end().await;
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let mut ws = Ws::connect(&comet, encoding).await;
            ws.send(&login(&token)).await;
            told.push(ws.error().await);
            ws.expect_close(4010).await;
        }
        for error in told {
            let unreadable = token.len() > 3072;
            let code = if unreadable { ErrorCode::BadFrame } else { ErrorCode::Unauthorized };
            assert_eq!((error.error, error.field), (code, Some(format!("LOGIN.{field}"))), "{words}");
            assert!(error.message.contains(words) && !error.message.contains(&token), "{words}: {}", error.message);
        }
    }
    let _ingest = mesh.ingest().await;
    Tcp::log_in(&comet, login(&good)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comet_that_goes_sends_its_clients_to_the_other_one_where_they_resume() {
    let mesh = Mesh::start().await;
    let (_ingest, staying, observer) =
        tokio::join!(mesh.ingest(), mesh.comet("comet-2", |_| {}), mesh.member("test", "observer", ""));
    wait_for("the address of the one that stays", SOON, || async {
        let view = observer.view().borrow().clone();
        let staying = view.member(&"comet".parse().unwrap(), &staying.instance).map(|member| member.address.clone());
        if staying.as_ref().is_some_and(|address| !address.is_empty()) { Ok(()) } else { Err(format!("{staying:?}")) }
    })
    .await;
    // It knows the other one from its start.
    let going = mesh.comet("comet-1", |_| {}).await;
    let token = mesh.token("ann", None);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Tcp::log_in(&going, login(&token)).await);
    }
    // The door like their own, once the one that goes has heard how full the other is.
    let doors = [format!("tcp://{}", staying.tcp()), format!("ws://{}", staying.websocket())];
    let drained = tokio::spawn(going.drain());
    for (client, ok) in &mut clients {
        let Some(ServerFrame::Reconnect(reconnect)) = client.next().await else { panic!("no RECONNECT") };
        assert!(reconnect.address.is_some_and(|address| doors.contains(&address)));
        client.expect_end().await;
        let (_resumed, again) = Tcp::log_in(&staying, resuming(&token, ok)).await;
        assert_eq!((again.login_id, again.resumed), (ok.login_id.clone(), true));
    }
    drained.await.unwrap();
    for (_, ok) in &clients {
        // What was resumed before its end was written is ack-retry's to purge.
        let session = mesh.session("ann", &ok.conn_id).await;
        assert!(session.as_ref().is_none_or(|session| session.left.is_some()), "{session:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comet_out_of_descriptors_keeps_its_connections_and_recovers() {
    let mesh = Mesh::start().await;
    let _ingest = mesh.ingest().await;
    let jwks = mesh.dir.path().join("jwks.json");
    let settings = [
        format!("nats.url={}", mesh.nats.url()),
        format!("auth.jwks_file={}", jwks.display()),
        "admin.listen=127.0.0.1:0".to_owned(),
        "mesh.instance=comet-1".to_owned(),
        "service.websocket=127.0.0.1:0".to_owned(),
        "service.tcp=127.0.0.1:0".to_owned(),
        "service.shards=1".to_owned(),
    ];
    let arguments = ["-c", "ulimit -n 96; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_comet")];
    let options = ProcessOptions::new("/bin/sh")
        .args(arguments)
        .args(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    let mut process = Process::start("comet", options).await;
    let comet = Outside { websocket: process.door("ws"), tcp: process.door("tcp") };
    let (mut first, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(tokio::net::TcpStream::connect(comet.tcp).await.unwrap());
    }
    wait_for("no descriptors left", SOON, || async {
        if process.stderr().contains("cannot accept") { Ok(()) } else { Err("all accepted so far") }
    })
    .await;
    first.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(first.next().await, Some(ServerFrame::Pong(Pong {})));
    drop(crowd);
    let (mut second, _) = Tcp::log_in(&comet, login(&mesh.token("ben", None))).await;
    second.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(second.next().await, Some(ServerFrame::Pong(Pong {})));
    process.term();
    assert!(matches!(first.next().await, Some(ServerFrame::Reconnect(_))));
    process.expect_exit(0, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_logins_is_let_in_to_the_last_one() {
    let mesh = Mesh::start().await;
    let (_ingest, comet) = tokio::join!(mesh.ingest(), mesh.comet("comet-1", |_| {}));
    let logins: Vec<_> = (0..400).map(|number| login(&mesh.token(&format!("user-{number}"), None))).collect();
    let all = futures_util::future::join_all(logins.into_iter().map(|login| Tcp::log_in(&comet, login))).await;
    let ids: std::collections::HashSet<_> = all.iter().map(|(_, ok)| ok.login_id.clone()).collect();
    assert_eq!(ids.len(), 400);
}
