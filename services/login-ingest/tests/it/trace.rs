use pushmesh_protocol::TraceContext;
use pushmesh_telemetry::propagate;
use pushmesh_testkit::{OtlpStub, wait_for};

use crate::ingest::{Ingest, LONG, online};

const CALLER: TraceContext =
    TraceContext { trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span_id: 0xb7ad_6b71_6920_3331 };

#[tokio::test(flavor = "multi_thread")]
async fn a_record_carries_its_callers_trace_on() {
    let collector = OtlpStub::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.endpoint());
    let ingest = Ingest::start_with(&[&endpoint, "telemetry.sample_ratio=0"], |_| {}).await;
    let mut request = ingest.authorized(tokio_stream::iter([online(0, "alice", "l0")]));
    propagate::to_metadata(Some(CALLER), request.metadata_mut());
    let mut answers = ingest.grpc().await.report(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    // Without one, and with a ratio of 0, nothing is traced.
    ingest.report(vec![online(0, "alice", "l1")]).await.unwrap();

    let stored = ingest.stored(2).await;
    let trace = stored[0].trace.expect("a sampled record has a trace");
    assert_eq!(trace.trace_id, CALLER.trace_id);
    assert_eq!(stored[1].trace, None);
    let spans = wait_for("two spans", LONG, || async {
        let spans = collector.trace(&format!("{:032x}", CALLER.trace_id));
        if spans.len() == 2 { Ok(spans) } else { Err(format!("{spans:?}")) }
    })
    .await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
    let (report, publish) = (named("report"), named("publish pm.v1.login.record.{p}.{user}"));
    assert_eq!((report.kind, &report.parent_id), (2, &format!("{:016x}", CALLER.span_id)));
    assert_eq!((publish.kind, &publish.parent_id), (4, &report.span_id));
    assert_eq!(publish.span_id, format!("{:016x}", trace.span_id));
    assert_eq!(collector.spans().len(), 2);
}
