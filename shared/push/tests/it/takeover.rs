//! Partitions that change hands.

use pushmesh_protocol::{
    CallId,
    message::{CallRecord, OnlineResult},
    name::{Bucket, Key},
    wire,
};
use pushmesh_testkit::wait_for;

use crate::mesh::{Mesh, PATIENCE, TestKind, offline, online};

#[tokio::test]
async fn a_new_owner_tells_what_happened_while_nobody_looked() {
    let mesh = Mesh::start(TestKind::group()).await;
    let first = mesh.engine("group-1").await;
    let mut tap = mesh.tap().await;
    first.join("g", &["ann"]).await;
    first.start("c1", "g").await;
    first.start("c2", "g").await;
    mesh.session("ann", "conn-1", "l1", None).await;
    mesh.record(&first.instance, "ann", online("l1")).await;
    tap.expect(&["+c1@l1", "+c2@l1"]).await;

    let calls = first.calls.clone();
    first.engine.drain().await;
    // A door may outlive its partitions: any instance answers.
    let doors = mesh.engine("group-2");
    let second = {
        use pushmesh_proto::v1::{EndCallRequest, StartCallRequest, calls_server::Calls};
        use tonic::Request;
        calls.end_call(Request::new(EndCallRequest { call_id: "c1".into() })).await.unwrap();
        let start = StartCallRequest { call_id: "c3".into(), unit: "g".into(), data: Default::default() };
        calls.start_call(Request::new(start)).await.unwrap();
        doors.await
    };
    tap.expect(&["-c1@l1", "+c3@l1"]).await;
    mesh.record(&second.instance, "ann", offline("l1")).await;
    assert_eq!(tap.next().await, "end l1");
    second.engine.drain().await;
}

#[tokio::test]
async fn two_instances_share_the_partitions_and_one_takes_over() {
    let mesh = Mesh::start(TestKind::group()).await;
    let (first, second) = (mesh.engine("group-1").await, mesh.engine("group-2").await);
    let users: Vec<String> = (0..64).map(|user| format!("user-{user}")).collect();
    let mut tap = mesh.tap().await;
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    first.join("g", &names).await;
    wait_for("both to own partitions", PATIENCE, || async {
        let held = (first.engine.ownership().held().len(), second.engine.ownership().held().len());
        if held.0 + held.1 == 8 && held.0 > 0 && held.1 > 0 { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;

    // Each record is done by exactly one of the two; the other says so.
    let tell_all = async |login: &str| {
        let mut left: Vec<_> = users.iter().map(|user| mesh.entry(user, online(&format!("{login}-{user}")))).collect();
        wait_for("every record to find its owner", PATIENCE, || {
            let entries = left.clone();
            let (first, second, mesh) = (&first, &second, &mesh);
            async move {
                let answers =
                    [mesh.ask(&first.instance, entries.clone()).await?, mesh.ask(&second.instance, entries).await?];
                let done = |result: &OnlineResult| matches!(result, OnlineResult::Done { .. });
                let by_one = answers[0].iter().zip(&answers[1]).all(|(a, b)| done(a) != done(b));
                if by_one { Ok(()) } else { Err(format!("{answers:?}")) }
            }
        })
        .await;
        left.clear();
    };
    tell_all("a").await;
    first.start("c1", "g").await;
    let wanted: Vec<String> = users.iter().map(|user| format!("+c1@a-{user}")).collect();
    tap.expect(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).await;

    first.engine.drain().await;
    let entries = users.iter().map(|user| mesh.entry(user, online(&format!("b-{user}")))).collect();
    mesh.tell(&second.instance, entries).await;
    let told: Vec<String> = users.iter().map(|user| format!("+c1@b-{user}")).collect();
    let mut got = Vec::new();
    while got.len() < told.len() {
        let line = tap.next().await;
        // The end of an older login is told by who knew it.
        if !line.starts_with("end ") {
            got.push(line);
        }
    }
    got.sort();
    let mut told = told;
    told.sort();
    assert_eq!(got, told);
    second.engine.drain().await;
}

#[tokio::test]
async fn an_older_lease_of_the_distributor_is_refused() {
    let mesh = Mesh::start(TestKind::group()).await;
    let push = mesh.engine("group-1").await;
    let entry = mesh.entry("ann", online("l1"));
    mesh.tell(&push.instance, vec![entry.clone()]).await;
    let mut older = entry.clone();
    older.epoch -= 1;
    let results = mesh.ask(&push.instance, vec![older]).await.unwrap();
    assert_eq!(results, [OnlineResult::Fenced { current: entry.epoch }]);
    // A batch that nobody can read harms nobody.
    let subject = pushmesh_protocol::name::Subject::online(&mesh.kind.kind, &push.instance);
    mesh.bus.request(subject, bytes::Bytes::from_static(b"\xc1\xff"), PATIENCE).await.unwrap();
    mesh.tell(&push.instance, vec![entry]).await;
    push.engine.drain().await;
}

#[tokio::test]
async fn a_login_that_only_its_session_is_known_of_ends_with_it() {
    let mesh = Mesh::start(TestKind::group()).await;
    let first = mesh.engine("group-1").await;
    let mut tap = mesh.tap().await;
    mesh.session("ann", "conn-1", "l1", None).await;
    mesh.record(&first.instance, "ann", online("l1")).await;
    first.engine.drain().await;
    // The record of the login's end was answered by the first owner; the key is purged only now.
    let second = mesh.engine("group-2").await;
    wait_for("the second to serve", PATIENCE, || mesh.question("ann", "l1")).await;
    mesh.session_gone("ann", "conn-1").await;
    assert_eq!(tap.next().await, "end l1");
    second.engine.drain().await;
}

#[tokio::test]
async fn a_call_whose_record_was_purged_is_withdrawn_by_a_new_owner_too() {
    let mesh = Mesh::start(TestKind::group()).await;
    let first = mesh.engine("group-1").await;
    let mut tap = mesh.tap().await;
    first.join("g", &["ann", "bob"]).await;
    first.start("c1", "g").await;
    mesh.record(&first.instance, "ann", online("l1")).await;
    tap.expect(&["+c1@l1"]).await;

    let calls = mesh.bus.bucket(&Bucket::calls(&mesh.kind.kind)).await.unwrap();
    let key = Key::call(&CallId::new("c1").unwrap());
    calls.purge(&key).await.unwrap();
    tap.expect(&["-c1@l1"]).await;
    wait_for("the end to be noted", PATIENCE, async || {
        let entry = calls.get(&key).await.unwrap().ok_or("the key is gone")?;
        let record: CallRecord = wire::decode(&entry.value).unwrap();
        record.ended_at.ok_or("the call goes on")
    })
    .await;
    first.engine.drain().await;
    mesh.session("bob", "conn-1", "l2", None).await;
    let second = mesh.engine("group-2").await;
    tap.expect(&["-c1@l2"]).await;
    second.engine.drain().await;
}
