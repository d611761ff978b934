//! A fourth kind is configuration: another process of the same service.

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{GroupMember, StartCallRequest, UpsertGroupMembersRequest};
use pushmesh_protocol::{
    message::{Body, PushOrder},
    name::{Filter, Stream},
    wire,
};

use crate::{backend::Service, distributor::LONG};

#[tokio::test]
async fn squads_are_told_of_their_calls() {
    let service = Service::start("squad").await;
    let mut tap = service.bus.subscribe(Filter::tap(&Stream::PUSH)).await.unwrap();

    let members = vec![GroupMember { user: "ann".into(), role: String::new() }];
    let upsert = UpsertGroupMembersRequest { group: "s1".into(), members };
    service.directory().await.upsert_members(service.with(&[Scope::DirectoryWrite], upsert)).await.unwrap();
    let start = StartCallRequest { call_id: "c1".into(), unit: "s1".into(), data: "hello".into() };
    service.calls().await.start_call(service.with(&[Scope::CallWrite], start)).await.unwrap();

    service.online("ann", "l1", None).await;
    let message = tokio::time::timeout(LONG, tap.next()).await.unwrap().unwrap();
    let PushOrder::Deliver(delivery) = wire::decode(&message.payload).unwrap() else { panic!("a delivery") };
    let Body::Call(call) = delivery.body else { panic!("of a call") };
    assert_eq!((&call.kind, call.call_id.as_str()), (&service.kind, "c1"));
    assert_eq!(call.data.unwrap().0, "hello");
}

#[tokio::test]
async fn a_kind_that_is_not_provisioned_is_refused() {
    let service = Service::start("squad").await;
    let settings = [
        format!("nats.url={}", service.nats.url()),
        "service.kind=crew".to_owned(),
        "admin.listen=127.0.0.1:0".to_owned(),
        "service.door.listen=127.0.0.1:0".to_owned(),
    ];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_group-push"))
        .args(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("kind crew is not provisioned"), "{log}");
}
