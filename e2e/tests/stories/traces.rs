//! One trace tells where a message has been.

use std::collections::HashSet;

use e2e::{Mesh, PATIENCE, Person, Shape, record};
use pushmesh_proto::v1::{LoginEvent, login_ingest_client::LoginIngestClient};
use pushmesh_testkit::{OtlpStub, Span, wait_for};

const KINDS: [&str; 3] = ["group", "discuss", "org"];
/// A login's way to the acknowledgement of the push it caused.
const WAY: [&str; 8] = [
    "report",
    "publish pm.v1.login.record",
    "process pm.v1.login.record",
    "process pm.v1.online",
    "publish pm.v1.push.order",
    "process pm.v1.push.order",
    "process pm.v1.comet.batch",
    "settle pm.v1.ack.client",
];

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

    let spans = wait_for("the whole trace", PATIENCE, async || {
        let spans = otlp.trace(trace);
        // A parent may be told later than its children: each process tells its own.
        no_orphans(&spans, root)?;
        let settled = spans.iter().find(|span| span.name.starts_with(WAY[WAY.len() - 1]));
        let missing = KINDS.iter().find(|kind| !spans.iter().any(|span| is_asked(span, kind)));
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        match (settled, missing) {
            (None, _) => Err(format!("it is not settled among {names:?}")),
            (_, Some(kind)) => Err(format!("{kind} was not asked among {names:?}")),
            _ => Ok(spans),
        }
    })
    .await;
    // From the acknowledgement back to the caller, step by step; and each kind was asked by the same step.
    let settled = spans.iter().find(|span| span.name.starts_with(WAY[WAY.len() - 1])).expect("it was waited for");
    follow(&spans, settled, &WAY, root);
    for kind in KINDS {
        let asked = spans.iter().find(|span| is_asked(span, kind)).expect("it was waited for");
        follow(&spans, asked, &WAY[..4], root);
    }
    for span in &spans {
        for (key, value) in &span.attributes {
            assert!(value.len() <= 256, "{}: attribute {key} has {} bytes", span.name, value.len());
            assert!(!value.contains("eyJ"), "{}: attribute {key} holds a token", span.name);
        }
    }
    mesh.stop().await;
    // Whoever drained has told the rest: of no trace anything is missing.
    no_orphans(&otlp.spans(), root).expect("every parent was told");
}

/// From a span to its parent and so on, to the caller's: their names are those of `way`, from its end.
fn follow(spans: &[Span], last: &Span, way: &[&str], root: &str) {
    let mut id = &last.span_id;
    for name in way.iter().rev() {
        let span = spans.iter().find(|span| span.span_id == *id).unwrap_or_else(|| panic!("{name} has no span {id}"));
        assert!(span.name.starts_with(name), "{} stands where {name} is expected: {span:?}", span.name);
        id = &span.parent_id;
    }
    assert_eq!(id, root, "the caller's is the first");
}

fn is_asked(span: &Span, kind: &str) -> bool {
    span.name.starts_with("process pm.v1.online") && span.attributes.get("pushmesh.kind").is_some_and(|of| of == kind)
}

fn no_orphans(spans: &[Span], root: &str) -> Result<(), String> {
    let ids: HashSet<_> = spans.iter().map(|span| span.span_id.as_str()).chain([root, ""]).collect();
    match spans.iter().find(|span| !ids.contains(span.parent_id.as_str())) {
        Some(orphan) => Err(format!("{} is an orphan: {orphan:?}", orphan.name)),
        None => Ok(()),
    }
}
