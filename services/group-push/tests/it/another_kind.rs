//! A fourth kind is configuration: another process of the same service.

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{GroupMember, StartCallRequest, UpsertGroupMembersRequest};
use pushmesh_protocol::{
    DeviceId, Instance, Kind, LoginId, Partitions, UserId,
    message::{
        Body, Epoch, LeaseRecord, LoginEvent, LoginRecord, OnlineAnswer, OnlineBatch, OnlineEntry, OnlineResult,
        PushOrder,
    },
    name::{Bucket, Filter, Key, Stream, Subject},
    wire,
};
use pushmesh_testkit::wait_for;

use crate::backend::Service;

const LONG: std::time::Duration = std::time::Duration::from_secs(15);

#[tokio::test]
async fn squads_are_told_of_their_calls() {
    let service = Service::start("squad").await;
    let kind = Kind::new("squad").unwrap();
    let user = UserId::new("ann").unwrap();
    let partition = Partitions::new(8).unwrap().of_user(&user);
    let mut tap = service.bus.subscribe(Filter::tap(&Stream::PUSH)).await.unwrap();

    let members = vec![GroupMember { user: "ann".into(), role: String::new() }];
    let upsert = UpsertGroupMembersRequest { group: "s1".into(), members };
    service.directory().await.upsert_members(service.with(&[Scope::DirectoryWrite], upsert)).await.unwrap();
    let start = StartCallRequest { call_id: "c1".into(), unit: "s1".into(), data: "hello".into() };
    service.calls().await.start_call(service.with(&[Scope::CallWrite], start)).await.unwrap();

    // As the distributor does: the owner is whom the lease of `squad-push` names.
    let mesh = service.bus.bucket(&Bucket::MESH).await.unwrap();
    let event = LoginEvent::Online { login_id: LoginId::new("l1").unwrap(), device: DeviceId::new("phone").unwrap() };
    wait_for("the record to be done", LONG, || async {
        let lease = mesh.get(&Key::lease(&kind.service(), partition)).await.map_err(|error| error.to_string())?;
        let LeaseRecord { owner, .. } =
            wire::decode(&lease.ok_or("nobody owns it")?.value).map_err(|error| error.to_string())?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let record = LoginRecord { user: user.clone(), event: event.clone(), at: now, trace: None };
        let entry = OnlineEntry { partition, epoch: 1 as Epoch, sequence: 1, record };
        let batch = OnlineBatch { from: Instance::new("distributor-1").unwrap(), entries: vec![entry] };
        let answer = service.bus.request(Subject::online(&kind, &owner), wire::encode(&batch).into(), LONG).await;
        let answer: OnlineAnswer =
            wire::decode(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        match &answer.results[..] {
            [OnlineResult::Done { .. }] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let message = tokio::time::timeout(LONG, tap.next()).await.unwrap().unwrap();
    let PushOrder::Deliver(delivery) = wire::decode(&message.payload).unwrap() else { panic!("a delivery") };
    let Body::Call(call) = delivery.body else { panic!("of a call") };
    assert_eq!((call.kind, call.call_id.as_str()), (kind, "c1"));
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
