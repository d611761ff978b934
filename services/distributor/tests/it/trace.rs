use pushmesh_protocol::TraceContext;
use pushmesh_testkit::{OtlpStub, wait_for};

use crate::mesh::{LONG, Mesh};

const PRODUCER: TraceContext =
    TraceContext { trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span_id: 0xb7ad_6b71_6920_3331 };

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_gets_the_context_of_one_span() {
    let collector = OtlpStub::start().await;
    let mut mesh = Mesh::start().await;
    let kinds = mesh.kinds().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.endpoint());
    let _distributor = mesh.distributor_with("dist-1", &[&endpoint, "telemetry.sample_ratio=0"]).await;
    mesh.login_traced(Some(PRODUCER)).await;
    mesh.login_traced(None).await;
    for kind in &kinds {
        kind.log.expect(2).await;
    }
    let spans = wait_for("the span", LONG, || async {
        let spans = collector.spans();
        if spans.is_empty() { Err("none") } else { Ok(spans) }
    })
    .await;
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0].name, "process pm.v1.login.record.{p}.{user}");
    assert_eq!(spans[0].kind, 5);
    assert_eq!(spans[0].parent_id, format!("{:016x}", PRODUCER.span_id));
    for kind in &kinds {
        let records = kind.log.records();
        let traces: Vec<_> = records.iter().filter_map(|entry| entry.record.trace).collect();
        assert_eq!(traces.len(), 1);
        assert_eq!(format!("{:016x}", traces[0].span_id), spans[0].span_id);
    }
}
