use pushmesh_protocol::TraceContext;
use pushmesh_testkit::{OtlpStub, wait_for};
use serde_json::json;

use crate::mesh::{LONG, Mesh, key_of, now};

const CALLER: TraceContext =
    TraceContext { trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span_id: 0xb7ad_6b71_6920_3331 };

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_carries_its_callers_trace_on() {
    let collector = OtlpStub::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.endpoint());
    let mesh = Mesh::start_with(&[&endpoint, "telemetry.sample_ratio=0"]).await;
    let alice = mesh.at_one(mesh.client("alice"));
    let http = reqwest::Client::new();
    for (path, body) in [
        ("/v1/rooms/stage/gifts", json!({"key": key_of(now(), 1), "gift": "rose", "value": 1})),
        ("/v1/rooms/stage/messages", json!({"type": "chat", "data": "x"})),
    ] {
        let request = http.post(alice.url(path)).bearer_auth(mesh.client("alice")).body(body.to_string());
        assert!(request.header("traceparent", CALLER.to_string()).send().await.unwrap().status().is_success());
    }
    // Without one, and with a ratio of 0, nothing is traced.
    let untraced = json!({"key": key_of(now(), 2), "gift": "rose", "value": 1});
    alice.post("/v1/rooms/stage/gifts", untraced).await.ok();

    let gifts = mesh.gifts("stage").await;
    let trace = gifts[0].1.trace.expect("a sampled gift has a trace");
    assert_eq!(trace.trace_id, CALLER.trace_id);
    assert_eq!(gifts[1].1.trace, None);
    assert_eq!(mesh.chat("stage").await[0].1.trace.unwrap().trace_id, CALLER.trace_id);
    let spans = wait_for("four spans", LONG, || async {
        let spans = collector.trace(&format!("{:032x}", CALLER.trace_id));
        if spans.len() == 4 { Ok(spans) } else { Err(format!("{spans:?}")) }
    })
    .await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
    let request = named("POST /v1/rooms/{room}/gifts");
    assert_eq!((request.kind, &request.parent_id), (2, &format!("{:016x}", CALLER.span_id)));
    let publish = named("publish pm.v1.room.high.gift.{p}.{room}");
    assert_eq!((publish.kind, &publish.parent_id), (4, &request.span_id));
    assert_eq!(publish.span_id, format!("{:016x}", trace.span_id));
    named("publish pm.v1.room.high.chat.{p}.{room}");
}
