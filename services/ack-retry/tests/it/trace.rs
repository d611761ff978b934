use pushmesh_protocol::{
    TraceContext,
    message::{AckOutcome, AtEnd, PushOrder},
};
use pushmesh_testkit::{OtlpStub, wait_for};

use crate::mesh::{LONG, Mesh};

#[tokio::test(flavor = "multi_thread")]
async fn a_pushs_way_through_here_is_two_spans_of_its_trace() {
    let mesh = Mesh::start().await;
    let otlp = OtlpStub::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", otlp.endpoint());
    let _ack_retry = mesh.ack_retry("one", &[&endpoint, "service.retry_interval=60s"]).await;
    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    let published = TraceContext { trace_id: 0x1234_5678_9abc_def0_1234_5678_9abc_def0, span_id: 0xabcd };
    let mut delivery = mesh.delivery("alice", "m1", AtEnd::Drop);
    delivery.trace = Some(published);
    let push = delivery.id;
    // Alice is online once something has reached her: a message that is worth nothing later needs that.
    let warm = mesh.call("alice", "phone", "l1", "warm").await;
    comet.has(warm, 1).await;
    mesh.order(PushOrder::Deliver(delivery)).await;
    comet.has(push, 1).await;
    let sent = comet.trace_of(push).expect("the item carries the context of its processing");
    assert_eq!(sent.trace_id, published.trace_id);
    comet.answer_traced("alice", "a", push, AckOutcome::Acked, Some(sent)).await;
    let trace = format!("{:032x}", published.trace_id);
    let spans = wait_for("both spans", LONG, async || {
        let spans = otlp.trace(&trace);
        if spans.len() >= 2 { Ok(spans) } else { Err(format!("{spans:?}")) }
    })
    .await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
    let (process, settle) = (named("process pm.v1.push.order.{p}.{user}"), named("settle pm.v1.ack.client.{p}"));
    let hex = |id: u64| format!("{id:016x}");
    assert_eq!((&process.parent_id, process.kind), (&hex(published.span_id), 5));
    assert_eq!(process.span_id, hex(sent.span_id));
    assert_eq!((&settle.parent_id, settle.kind), (&process.span_id, 3));
}
