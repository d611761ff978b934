//! A record's trace goes on: from the batch's entry to the order in PUSH.

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{GroupMember, StartCallRequest, UpsertGroupMembersRequest};
use pushmesh_protocol::{
    TraceContext,
    message::{Delivery, PushOrder},
    name::{Filter, Stream},
    wire,
};
use pushmesh_testkit::{OtlpStub, wait_for};

use crate::{backend::Service, distributor::LONG};

#[tokio::test]
async fn a_push_carries_the_trace_of_its_record() {
    let collector = OtlpStub::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.endpoint());
    let settings = [endpoint.as_str(), "telemetry.export_interval=50ms", "telemetry.sample_ratio=0.0"];
    let service = Service::start_with("group", &settings).await;
    let mut tap = service.bus.subscribe(Filter::tap(&Stream::PUSH)).await.unwrap();
    let members = vec![GroupMember { user: "ann".into(), role: String::new() }];
    let upsert = UpsertGroupMembersRequest { group: "g".into(), members };
    service.directory().await.upsert_members(service.with(&[Scope::DirectoryWrite], upsert)).await.unwrap();
    let start = |call: &str| StartCallRequest { call_id: call.into(), unit: "g".into(), data: Default::default() };
    service.calls().await.start_call(service.with(&[Scope::CallWrite], start("c1"))).await.unwrap();

    let record = TraceContext { trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span_id: 0xb7ad_6b71_6920_3331 };
    service.online("ann", "l1", Some(record)).await;
    let mut next = async || {
        let message = tokio::time::timeout(LONG, tap.next()).await.unwrap().unwrap();
        let PushOrder::Deliver(delivery) = wire::decode(&message.payload).unwrap() else { panic!("a delivery") };
        let Delivery { trace, .. } = delivery;
        trace.expect("a context")
    };
    let told = next().await;
    expect_way(&collector, record, "process pm.v1.online.{kind}.{instance}", told).await;

    // And of a call that starts: from the backend's own span.
    let backend = TraceContext { trace_id: 0x17, span_id: 0x18 };
    let mut request = service.with(&[Scope::CallWrite], start("c2"));
    request.metadata_mut().insert("traceparent", backend.to_string().parse().unwrap());
    service.calls().await.start_call(request).await.unwrap();
    let told = next().await;
    assert_eq!(told.trace_id, backend.trace_id);
    let trace = format!("{:032x}", backend.trace_id);
    wait_for("the spans of the call", LONG, || async {
        let names: Vec<_> = collector.trace(&trace).into_iter().map(|span| span.name).collect();
        let wanted = [
            "pushmesh.v1.Calls/StartCall",
            "process call_{kind}.{call} started",
            "publish pm.v1.push.order.{p}.{user}",
        ];
        if wanted.iter().all(|name| names.iter().any(|found| found == name)) {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
}

/// From `above` by one consumer to one producer, whose context the order carries.
async fn expect_way(collector: &OtlpStub, above: TraceContext, consumer: &str, told: TraceContext) {
    let trace = format!("{:032x}", above.trace_id);
    assert_eq!(told.trace_id, above.trace_id);
    wait_for("the spans of the record", LONG, || async {
        let spans = collector.trace(&trace);
        let way = (|| {
            let process = spans.iter().find(|span| span.name == consumer)?;
            let publish = spans.iter().find(|span| span.name == "publish pm.v1.push.order.{p}.{user}")?;
            let linked = process.parent_id == format!("{:016x}", above.span_id) && publish.parent_id == process.span_id;
            (linked && publish.span_id == format!("{:016x}", told.span_id)).then_some(())
        })();
        way.ok_or_else(|| format!("{spans:?}"))
    })
    .await;
}
