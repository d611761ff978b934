//! One of two instances is killed: the other takes over, and nobody misses a call.

use std::collections::BTreeSet;

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{EndCallRequest, GroupMember, StartCallRequest, UpsertGroupMembersRequest};
use pushmesh_protocol::{
    ConnId, DeviceId, Instance, LoginId, Partition, UserId,
    message::{Body, PushOrder, Session},
    name::{Bucket, Filter, Key, Stream},
    wire,
};
use pushmesh_testkit::wait_for;

use crate::{
    backend::Service,
    distributor::{LONG, now, partition},
};

const USERS: usize = 32;

#[tokio::test]
async fn a_killed_instance_is_taken_over() {
    let mut service = Service::start("group").await;
    let second = service.another().await;
    let mut tap = service.bus.subscribe(Filter::tap(&Stream::PUSH)).await.unwrap();
    let users: Vec<String> = (0..USERS).map(|user| format!("user-{user}")).collect();
    let members = users.iter().map(|user| GroupMember { user: user.clone(), role: String::new() }).collect();
    let upsert = UpsertGroupMembersRequest { group: "g".into(), members };
    service.directory().await.upsert_members(service.with(&[Scope::DirectoryWrite], upsert)).await.unwrap();
    wait_for("both instances to own partitions", LONG, || async {
        let mut owners = BTreeSet::new();
        for partition in 0..8 {
            owners.insert(service.owner(Partition(partition)).await?);
        }
        if owners.len() == 2 { Ok(()) } else { Err(format!("{owners:?}")) }
    })
    .await;
    // Known from their sessions alone.
    let sessions = service.bus.bucket(&Bucket::SESSIONS).await.unwrap();
    for user in &users {
        let session = Session {
            login_id: LoginId::new(&format!("login-{user}")).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            comet: Instance::new("comet-1").unwrap(),
            comet_epoch: 1,
            since: now(),
            left: None,
        };
        let (id, conn) = (UserId::new(user).unwrap(), ConnId::new("conn").unwrap());
        sessions.put(&Key::session(partition(user), &id, &conn), wire::encode(&session).into()).await.unwrap();
    }

    let start = |call: &str| StartCallRequest { call_id: call.into(), unit: "g".into(), data: Default::default() };
    let scope = [Scope::CallWrite];
    service.calls().await.start_call(service.with(&scope, start("c1"))).await.unwrap();
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeSet::new());
    gather(&mut tap, &mut begun, &mut ended, |begun, _| begun.len() == USERS).await;

    // The killed one serves its door no more; the other's does.
    let channel = format!("http://{}", second.door("grpc"));
    let mut calls = pushmesh_proto::v1::calls_client::CallsClient::connect(channel).await.unwrap();
    service.process.kill();
    calls.start_call(service.with(&scope, start("c2"))).await.unwrap();
    calls.end_call(service.with(&scope, EndCallRequest { call_id: "c1".into() })).await.unwrap();
    gather(&mut tap, &mut begun, &mut ended, |begun, ended| begun.len() == 2 * USERS && ended.len() == USERS).await;
}

/// Each stored once: a second one with the same id would be a duplicate, which PUSH does not take.
async fn gather(
    tap: &mut pushmesh_bus::Subscription,
    begun: &mut BTreeSet<(String, String)>,
    ended: &mut BTreeSet<(String, String)>,
    enough: impl Fn(&BTreeSet<(String, String)>, &BTreeSet<(String, String)>) -> bool,
) {
    while !enough(begun, ended) {
        let message = tokio::time::timeout(LONG, tap.next()).await;
        let message = message.unwrap_or_else(|_| panic!("no more came: {} begun, {} ended", begun.len(), ended.len()));
        match wire::decode(&message.unwrap().payload).unwrap() {
            PushOrder::Deliver(delivery) => {
                let Body::Call(call) = delivery.body else { panic!("a call") };
                assert!(begun.insert((delivery.user.to_string(), call.call_id.to_string())), "told once");
            }
            PushOrder::Withdraw(withdrawal) => {
                assert!(ended.insert((withdrawal.user.to_string(), withdrawal.call_id.to_string())), "withdrawn once");
            }
            PushOrder::LoginEnded(ended) => panic!("nobody went: {ended:?}"),
        }
    }
}
