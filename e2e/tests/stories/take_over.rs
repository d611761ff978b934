//! What a push kind knew of a connection's login goes over to the partition's next owner.

use e2e::{Backend, Mesh, PATIENCE, Person, Shape};
use pushmesh_client::Event;
use pushmesh_proto::v1::PushPolicy;
use pushmesh_testkit::wait_for;

const KIND: &str = "group-push";

/// How an owner goes.
#[derive(Clone, Copy)]
enum Going {
    Killed,
    Stopped,
}

async fn two_owners() -> Mesh {
    let mut mesh = Mesh::start(Shape::default()).await;
    mesh.add(KIND).await;
    wait_for("both to own partitions", PATIENCE, async || {
        let owned = "pushmesh_membership_partitions_held";
        let owned = [mesh.metric(KIND, 0, owned).await, mesh.metric(KIND, 1, owned).await];
        if owned == [4.0, 4.0] { Ok(()) } else { Err(format!("{owned:?}")) }
    })
    .await;
    mesh
}

/// Alice's owner goes; a backend that uses the other one.
async fn owner_goes(mesh: &mut Mesh, going: Going) -> Backend {
    let pushes = "pushmesh_push_pushes_total";
    let pushes = [mesh.metric(KIND, 0, pushes).await, mesh.metric(KIND, 1, pushes).await];
    let owner = pushes.iter().position(|pushes| *pushes > 0.0).expect("alice was told of a call");
    assert_eq!(pushes[1 - owner], 0.0, "nobody else was told");
    match going {
        Going::Killed => mesh.kill(KIND, owner),
        Going::Stopped => mesh.leave(KIND, owner).await,
    }
    mesh.backend()
}

/// Whatever was on its way to her has been shown when this has.
async fn settle(person: &mut Person, backend: &Backend) {
    backend.push(&person.name, "last", "last", PushPolicy::Inbox).await;
    person.expect_message("last").await;
}

async fn online_again(going: Going) {
    let mut mesh = two_owners().await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    let mut alice = mesh.login("alice").await;
    let first = alice.logins[0].login_id.to_string();
    backend.start_call("group", "friends", "c1").await;
    alice.expect_call("c1").await;
    backend.online("alice", "again").await;
    alice.expect("c1, for the new login", |event| matches!(event, Event::Push(_)).then_some(())).await;
    backend.start_call("group", "friends", "c2").await;
    alice.expect_call("c2").await;

    let backend = owner_goes(&mut mesh, going).await;
    backend.start_call("group", "friends", "c3").await;
    alice.expect_call("c3").await;
    settle(&mut alice, &backend).await;
    let logins = [first.as_str(), "again"];
    let expected = [format!("c1@{first}"), "c1@again".into(), "c2@again".into(), "c3@again".into(), "last".into()];
    assert_eq!(alice.told(&logins), expected);

    // Pull and push have the same ids, whatever her connection began with.
    let mut pulled: Vec<_> = alice.client.calls().await.expect("the kind answers").calls.iter().map(|c| c.id).collect();
    let mut pushed: Vec<_> = alice.shown[1..4].iter().map(|push| push.id).collect();
    pulled.sort();
    pushed.sort();
    assert_eq!(pulled, pushed);
    // She goes on with her connection's login, and stays in the one that stands in its place.
    alice.client.reconnect().await;
    assert!(alice.expect_logged_in().await.resumed);
    backend.start_call("group", "friends", "c4").await;
    alice.expect_call("c4").await;
    assert_eq!(alice.told(&logins).last().map(String::as_str), Some("c4@again"));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn online_again_outlives_an_owner_that_is_killed() {
    online_again(Going::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn online_again_outlives_an_owner_that_leaves() {
    online_again(Going::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_reported_offline_stays_so_for_the_next_owner() {
    let mut mesh = two_owners().await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    let mut phone = mesh.login("alice").await;
    let mut laptop = Person::connect(&mesh, "alice", "laptop", 0, |_| {});
    laptop.expect_logged_in().await;
    backend.start_call("group", "friends", "c1").await;
    phone.expect_call("c1").await;
    laptop.expect_call("c1").await;
    backend.offline("alice", phone.logins[0].login_id.as_str()).await;
    // Records of a user keep their order: the phone is offline when the laptop is told anew.
    backend.report(vec![on_laptop("alice", "later")]).await.expect("the stream is open");
    laptop.expect("c1, for the new login", |event| matches!(event, Event::Push(_)).then_some(())).await;

    let backend = owner_goes(&mut mesh, Going::Killed).await;
    backend.start_call("group", "friends", "c2").await;
    laptop.expect_call("c2").await;
    settle(&mut laptop, &backend).await;
    phone.expect_message("last").await;
    let login = phone.logins[0].login_id.to_string();
    assert_eq!(phone.told(&[&login]), [format!("c1@{login}"), "last".into()]);
    assert_eq!(laptop.told(&["later"])[1..], ["c1@later", "c2@later", "last"]);
    mesh.stop().await;
}

fn on_laptop(user: &str, login: &str) -> pushmesh_proto::v1::ReportRequest {
    let record = e2e::record(1, user, login, pushmesh_proto::v1::LoginEvent::Online);
    pushmesh_proto::v1::ReportRequest { device: "laptop".into(), ..record }
}
