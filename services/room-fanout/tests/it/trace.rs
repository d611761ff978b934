use pushmesh_protocol::{
    TraceContext,
    name::{Filter, Subject},
    room::{Gift, RoomBatch, RoomClass},
    wire,
};
use pushmesh_testkit::{OtlpStub, wait_for};

use crate::mesh::{LONG, Mesh, partition, room};

#[tokio::test(flavor = "multi_thread")]
async fn a_gifts_processing_is_a_span_of_its_trace_and_goes_on_with_its_frame() {
    let mesh = Mesh::start().await;
    let otlp = OtlpStub::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", otlp.endpoint());
    let _owner = mesh.room_fanout("one", &[&endpoint]).await;
    let frames = Filter::from(Subject::room_frame(partition("a"), &room("a")));
    let mut frames = mesh.bus.subscribe(frames).await.unwrap();
    let accepted = TraceContext { trace_id: 0x1234_5678_9abc_def0_1234_5678_9abc_def0, span_id: 0xabcd };
    let mut outgoing = mesh.gift("a", "bob", 5);
    let mut gift: Gift = wire::decode(&outgoing.payload).unwrap();
    gift.trace = Some(accepted);
    outgoing.payload = wire::encode(&gift).into();
    mesh.give_all(vec![outgoing]).await;
    let told = tokio::time::timeout(LONG, async {
        loop {
            let message = frames.next().await.unwrap();
            let batch: RoomBatch = wire::decode(&message.payload).unwrap();
            if batch.class == RoomClass::High && !batch.frames.is_empty() {
                break batch.trace;
            }
        }
    });
    let told = told.await.expect("a frame in time").expect("the batch carries the context of its gift's processing");
    assert_eq!(told.trace_id, accepted.trace_id);
    let trace = format!("{:032x}", accepted.trace_id);
    let span = wait_for("the span", LONG, async || {
        let spans = otlp.trace(&trace);
        spans.iter().find(|span| span.name.starts_with("process ")).cloned().ok_or(format!("{spans:?}"))
    })
    .await;
    assert_eq!(span.name, "process pm.v1.room.high.gift.{p}.{room}");
    assert_eq!((span.parent_id, span.kind), (format!("{:016x}", accepted.span_id), 5));
    assert_eq!(span.span_id, format!("{:016x}", told.span_id));
}
