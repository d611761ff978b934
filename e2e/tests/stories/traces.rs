//! One trace tells where a message has been.

use std::collections::HashSet;

use e2e::{Mesh, PATIENCE, Person, Shape, record};
use pushmesh_proto::v1::{LoginEvent, login_ingest_client::LoginIngestClient};
use pushmesh_testkit::{OtlpStub, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_from_the_login_report_to_the_clients_ack() {
    let otlp = OtlpStub::start().await;
    let mesh = Mesh::start(Shape { otlp: Some(otlp.endpoint()), ..Shape::default() }).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;

    // The caller's own span is the root: the story plays it.
    let (trace, root) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let mut request = backend.request(tokio_stream::iter([record(1, "alice", "sid-1", LoginEvent::Online)]));
    let traceparent = format!("00-{trace}-{root}-01").parse().expect("a header value");
    request.metadata_mut().insert("traceparent", traceparent);
    let mut client = LoginIngestClient::new(backend.channel("login-ingest"));
    let mut answers = client.report(request).await.expect("the stream is open").into_inner();
    answers.message().await.expect("an answer").expect("accepted");
    let token = mesh.client_token("alice", Some("sid-1"));
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.token = token.into());
    alice.expect_call("standup").await;

    let expected = [
        "report",
        "publish pm.v1.login.record",
        "process pm.v1.login.record",
        "process pm.v1.online",
        "publish pm.v1.push.order",
        "process pm.v1.push.order",
        "process pm.v1.comet.batch",
        "settle",
    ];
    let spans = wait_for("the whole trace", PATIENCE, async || {
        let spans = otlp.trace(trace);
        let missing = expected.iter().find(|name| !spans.iter().any(|span| span.name.starts_with(*name)));
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        match missing {
            Some(name) => Err(format!("no span {name} among {names:?}")),
            None => Ok(spans),
        }
    })
    .await;
    let ids: HashSet<_> = spans.iter().map(|span| span.span_id.clone()).chain([root.to_owned()]).collect();
    for span in &spans {
        assert!(ids.contains(&span.parent_id), "{} is an orphan: {span:?}", span.name);
        for (key, value) in &span.attributes {
            assert!(value.len() <= 256, "{}: attribute {key} has {} bytes", span.name, value.len());
            assert!(!value.contains("eyJ"), "{}: attribute {key} holds a token", span.name);
        }
    }
    mesh.stop().await;
}
