use std::time::Duration;

use pushmesh_auth::{Minter, Scope};
use pushmesh_protocol::UserId;
use tonic::Code;

use crate::ingest::{Ingest, authorized, online};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_report_is_not_read() {
    let ingest = Ingest::start().await;
    let ten_minutes = Duration::from_secs(600);
    let forger = Minter::hs256(b"a secret that nobody here has ever seen");
    let alice = UserId::new("alice").unwrap();
    let good = ingest.good_token();
    let cases = [
        (None, Code::Unauthenticated),
        (Some(String::new()), Code::Unauthenticated),
        (Some("nonsense".into()), Code::Unauthenticated),
        (Some("x".repeat(5000)), Code::Unauthenticated),
        (Some(good[..good.len() - 4].to_owned()), Code::Unauthenticated),
        (Some(forger.client(&alice, None, ten_minutes)), Code::Unauthenticated),
        (Some(forger.backend("b", &[Scope::LoginWrite], ten_minutes)), Code::Unauthenticated),
        (Some(ingest.token(&[Scope::CallWrite, Scope::PushWrite], ten_minutes)), Code::PermissionDenied),
    ];
    let url = format!("http://{}/v1/logins", ingest.process.door("grpc"));
    for (token, code) in cases {
        let requests = tokio_stream::iter([online(0, "alice", "l0")]);
        let request = match &token {
            Some(token) => authorized(requests, token),
            None => tonic::Request::new(requests),
        };
        let status = ingest.grpc().await.report(request).await.map(|_| ()).unwrap_err();
        assert_eq!(status.code(), code, "{token:?}: {status:?}");
        if let Some(token) = token.as_ref().filter(|token| token.len() > 10) {
            assert!(!status.message().contains(token), "a token is in {status:?}");
        }
        let mut post = reqwest::Client::new().post(&url).body(r#"{"user":"alice","event":"online"}"#);
        if let Some(token) = &token {
            post = post.bearer_auth(token);
        }
        let expected = if code == Code::PermissionDenied { 403 } else { 401 };
        assert_eq!(post.send().await.unwrap().status(), expected, "{token:?}");
    }
    // Of all those nothing was stored: the first record is the one that may be.
    ingest.report(vec![online(0, "bob", "l1")]).await.unwrap();
    assert_eq!(ingest.stored(1).await[0].user.as_str(), "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_a_door_may_be_open() {
    let ingest = Ingest::start_with(&["service.door.insecure_local=true"], |_| {}).await;
    let requests = tokio_stream::iter([online(0, "alice", "l0")]);
    ingest.grpc().await.report(tonic::Request::new(requests)).await.unwrap();
    ingest.stored(1).await;
}
