use pushmesh_auth::Scope;
use pushmesh_proto::v1::{ListPendingRequest, PushPolicy, PushRequest};
use pushmesh_protocol::{PushId, Token};
use pushmesh_testkit::wait_for;
use tonic::{Code, Request};

use crate::mesh::{LONG, Mesh, user};

fn push(id: &str) -> PushRequest {
    PushRequest {
        user: "alice".into(),
        sender: "shop".into(),
        id: id.into(),
        data: "your order is on its way".into(),
        policy: PushPolicy::Inbox.into(),
        lifetime_ms: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_pushes_to_a_user_and_lists_what_waits() {
    let mesh = Mesh::start().await;
    let ack_retry = mesh.ack_retry("one", &[]).await;
    let mut pushes = mesh.grpc(&ack_retry).await;
    let write = [Scope::PushWrite];
    let id = pushes.push(mesh.authorized(push("order-1"), &write)).await.unwrap().into_inner().push_id;
    assert_eq!(id, PushId::of_message(&Token::new("shop").unwrap(), "order-1", &user("alice")).to_string());
    let again = pushes.push(mesh.authorized(push("order-1"), &write)).await.unwrap().into_inner().push_id;
    assert_eq!(again, id);
    let listed = wait_for("it to be listed", LONG, async || {
        let request = mesh.authorized(ListPendingRequest { user: "alice".into() }, &write);
        let listed = mesh.grpc(&ack_retry).await.list_pending(request).await.unwrap().into_inner().pending;
        if listed.is_empty() { Err("nothing waits") } else { Ok(listed) }
    })
    .await;
    assert_eq!((listed.len(), &listed[0].push_id, listed[0].inbox, listed[0].tries), (1, &id, true, 0));

    let comet = mesh.comet("c1").await;
    mesh.put_session(&comet, "alice", "phone", "l1", "a").await;
    let id: PushId = id.parse().unwrap();
    comet.has(id, 1).await;
    comet.ack("alice", "a", id).await;
    mesh.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_push_or_pushes_nonsense_is_refused() {
    let mut mesh = Mesh::start().await;
    let ack_retry = mesh.ack_retry("one", &["nats.outage_hold=1s"]).await;
    let mut pushes = mesh.grpc(&ack_retry).await;
    let code = pushes.push(Request::new(push("1"))).await.unwrap_err().code();
    assert_eq!(code, Code::Unauthenticated);
    let code = pushes.push(mesh.authorized(push("1"), &[Scope::CallWrite])).await.unwrap_err().code();
    assert_eq!(code, Code::PermissionDenied);
    let list = ListPendingRequest { user: "a.b".into() };
    let refused = pushes.list_pending(mesh.authorized(list, &[Scope::PushWrite])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("user "), "{refused:?}");
    let big = PushRequest { data: vec![b'x'; 20_000].into(), ..push("1") };
    let refused = pushes.push(mesh.authorized(big, &[Scope::PushWrite])).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "data has 20000 bytes; the limit is 16384")
    );

    mesh.nats.kill();
    let mut request = mesh.authorized(push("2"), &[Scope::PushWrite]);
    request.set_timeout(LONG);
    let away = pushes.push(request).await.unwrap_err();
    let mut request = mesh.authorized(ListPendingRequest { user: "ann".to_owned() }, &[Scope::PushWrite]);
    request.set_timeout(LONG);
    for away in [away, pushes.list_pending(request).await.unwrap_err()] {
        assert_eq!(away.code(), Code::Unavailable, "{away:?}");
        let again = away.metadata().get("grpc-retry-pushback-ms").expect("when to try again");
        assert!(again.to_str().unwrap().parse::<u64>().unwrap() > 0, "{away:?}");
    }
    assert!(mesh.path().exists());
}
