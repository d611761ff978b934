//! What backends ask, and what they are refused.

use pushmesh_proto::v1::{ListCallsRequest, calls_server::Calls};
use pushmesh_push::Member;
use pushmesh_testkit::wait_for;
use tonic::{Code, Request, metadata::MetadataMap};

use crate::mesh::{Mesh, PATIENCE, Running, TestKind};

#[tokio::test]
async fn calls_start_once_and_end_once() {
    let mesh = Mesh::start(TestKind::group()).await;
    let push = mesh.engine("group-1").await;
    let started = push.try_start("c", "g", "x").await.unwrap();
    assert_eq!(push.try_start("c", "g", "x").await.unwrap(), started, "answered like the first time");
    assert_eq!(push.try_start("c", "g", "y").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(push.try_start("c", "h", "x").await.unwrap_err().code(), Code::AlreadyExists);
    let list = async |unit: &str| {
        let request = ListCallsRequest { unit: unit.to_owned(), limit: 0 };
        let calls = push.calls.list_calls(Request::new(request)).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(calls.into_inner().calls.into_iter().map(|call| call.call_id).collect::<Vec<_>>())
    };
    for unit in ["", "g"] {
        wait_for("the call to be listed", PATIENCE, || async {
            let calls = list(unit).await?;
            if calls == ["c"] { Ok(()) } else { Err(format!("{calls:?}")) }
        })
        .await;
    }
    assert_eq!(list("h").await.unwrap(), Vec::<String>::new());

    let ended = push.try_end("c").await.unwrap();
    assert_eq!(push.try_end("c").await.unwrap(), ended);
    assert_eq!(push.try_end("unknown").await.unwrap_err().code(), Code::NotFound);
    let error = push.try_start("c", "g", "x").await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists, "an ended call never begins again");
    wait_for("the call to be listed no more", PATIENCE, || async {
        let calls = list("").await?;
        if calls.is_empty() { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
    push.engine.drain().await;
}

#[tokio::test]
async fn members_are_listed_as_they_were_written() {
    let mut kind = TestKind::group();
    kind.members_max = Some(3);
    let mesh = Mesh::start(kind).await;
    let push = mesh.engine("group-1").await;
    let door = MetadataMap::new();
    let member = |user: &str, role: &str| Member { user: user.to_owned(), role: role.to_owned() };
    let members = vec![member("ann", "owner"), member("bob", "")];
    push.directory.upsert(&door, ("group", "g"), ("members", members)).await.unwrap();
    push.join("h", &["ann"]).await;
    let roles: Vec<_> = push.memberships("ann").await.unwrap().into_iter().map(|of| (of.unit, of.role)).collect();
    assert_eq!(roles, [("g", "owner"), ("h", "")].map(|(unit, role)| (unit.to_owned(), role.to_owned())));
    // Removed and added again within the duplicate window of the stream.
    push.leave("g", &["ann"]).await;
    assert_eq!(push.units("ann").await, ["h"]);
    push.join("g", &["ann"]).await;
    assert_eq!(push.units("ann").await, ["g", "h"]);

    push.join("g", &["cid"]).await;
    let four = push.directory.upsert(&door, ("group", "g"), ("members", vec![member("dan", "")])).await.unwrap_err();
    assert_eq!(four.code(), Code::FailedPrecondition);
    assert!(four.message().contains("the limit is 3"), "{}", four.message());
    push.join("g", &["ann", "bob", "cid"]).await;
    push.engine.drain().await;
}

#[tokio::test]
async fn bad_input_is_refused_by_field_and_limit() {
    let mesh = Mesh::start(TestKind::group()).await;
    let push = mesh.engine("group-1").await;
    let long = "a".repeat(5000);
    for bad in ["", ".", "*", ">", "a b", "a\r\nb", "a/b", "é", long.as_str()] {
        refused(push.try_start(bad, "g", "").await.map(drop), "call_id");
        refused(push.try_start("c", bad, "").await.map(drop), "unit");
        refused(push.try_end(bad).await.map(drop), "call_id");
        refused(upsert(&push, bad, &["ann"]).await, "group");
        refused(upsert(&push, "g", &["ann", bad]).await, "members[1].user");
        refused(push.memberships(bad).await.map(drop), "user");
    }
    let data = "x".repeat(1025);
    let error = push.try_start("c", "g", &data).await.unwrap_err();
    assert_eq!(error.message(), "data has 1025 bytes; the limit is 1024");
    assert_eq!(push.try_end("c").await.unwrap_err().code(), Code::NotFound, "nothing of it was stored");
    let many: Vec<String> = (0..1001).map(|user| format!("u{user}")).collect();
    let error = upsert(&push, "g", &many.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap_err();
    assert_eq!(error.message(), "members has 1001 entries; it must have 1 to 1000");
    refused(upsert(&push, "g", &[]).await, "members");
    // What is within its limits is taken.
    push.try_start("c", "g", &"x".repeat(1024)).await.unwrap();
    upsert(&push, "g", &many.iter().take(1000).map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    push.engine.drain().await;
}

async fn upsert(push: &Running, unit: &str, users: &[&str]) -> Result<(), tonic::Status> {
    let members = users.iter().map(|user| Member { user: (*user).to_owned(), role: String::new() }).collect();
    push.directory.upsert(&MetadataMap::new(), ("group", unit), ("members", members)).await
}

#[track_caller]
fn refused(outcome: Result<(), tonic::Status>, field: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(error.message().starts_with(field), "{:?} names {field}", error.message());
}
