//! Several devices, several connections of one device, and logins that go on.

use e2e::{Mesh, Person, Shape};
use pushmesh_client::{End, Event};
use pushmesh_proto::v1::PushPolicy;
use pushmesh_protocol::frame::KickReason;

#[tokio::test(flavor = "multi_thread")]
async fn each_device_has_its_own_login_and_is_told_for_itself() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut phone = mesh.login("alice").await;
    let mut laptop = Person::connect(&mesh, "alice", "laptop", 0, |_| {});
    laptop.expect_logged_in().await;
    let (one, two) = (phone.expect_call("standup").await, laptop.expect_call("standup").await);
    assert_ne!(one, two);
    // A user's own push goes to all his devices; the first acknowledgement settles it.
    backend.push("alice", "1", "hello", PushPolicy::Inbox).await;
    phone.expect_message("hello").await;
    laptop.expect_message("hello").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_device_replaces_the_first() {
    let mesh = Mesh::start(Shape { instances: 2, ..Shape::default() }).await;
    let mut first = mesh.login_at("alice", 0).await;
    let mut second = mesh.login_at("alice", 1).await;
    let end = first.expect("its end", |event| match event {
        Event::Ended(end) => Some(end.clone()),
        _ => None,
    });
    assert_eq!(end.await, End::Kicked(KickReason::Replaced));
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    second.expect_call("standup").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_goes_on_with_its_login_and_shows_nothing_twice() {
    let mesh = Mesh::start(Shape { instances: 2, ..Shape::default() }).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut alice = mesh.login("alice").await;
    alice.expect_call("standup").await;
    let before = alice.logins[0].clone();
    alice.client.reconnect().await;
    let after = alice.expect_logged_in().await;
    assert!(after.resumed && after.login_id == before.login_id && after.conn_id != before.conn_id);
    backend.start_call("group", "friends", "another").await;
    alice.expect_call("another").await;
    assert_eq!(alice.counts(), [("standup".to_owned(), 1), ("another".to_owned(), 1)].into());
    mesh.stop().await;
}

/// Login ids are their user's: a login system that counts from one for everybody loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn two_users_with_the_same_login_id_do_not_meet() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice", "ben"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut people = Vec::new();
    for user in ["alice", "ben"] {
        assert_eq!(backend.online(user, "one").await, "one");
        let token = mesh.client_token(user, Some("one"));
        let mut person = Person::connect(&mesh, user, "phone", 0, |options| options.token = token.into());
        assert_eq!(person.expect_logged_in().await.login_id.as_str(), "one");
        people.push((person.expect_call("standup").await, person));
    }
    let [(of_alice, mut alice), (of_ben, ben)] = <[_; 2]>::try_from(people).ok().expect("two");
    assert_ne!(of_alice, of_ben);
    // A stranger's end, and then Alice's own: neither hides the other.
    backend.offline("eve", "one").await;
    backend.offline("ben", "one").await;
    backend.start_call("group", "friends", "retro").await;
    alice.expect_call("retro").await;
    backend.offline("alice", "one").await;
    let mut stored = 0.0;
    for door in ["grpc", "bus"] {
        let records = format!("pushmesh_login_ingest_records_total{{door=\"{door}\",outcome=\"accepted\"}}");
        stored += mesh.metric("login-ingest", 0, &records).await;
    }
    assert_eq!(stored, 5.0, "two logins, each by one of two doors, and three ends");
    ben.client.close();
    mesh.stop().await;
}

/// The login system and the comet report the same login: the ids make the second one invisible.
#[tokio::test(flavor = "multi_thread")]
async fn two_doors_report_one_login() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    assert_eq!(backend.online("alice", "sid-1").await, "sid-1");
    let token = mesh.client_token("alice", Some("sid-1"));
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.token = token.into());
    assert_eq!(alice.expect_logged_in().await.login_id.as_str(), "sid-1");
    alice.expect_call("standup").await;
    // Online again is a new login, told on the connection that stands.
    backend.online("alice", "sid-2").await;
    alice.expect("the call again, for the new login", |event| matches!(event, Event::Push(_)).then_some(())).await;
    // An older offline ends nothing of the newer login.
    backend.offline("alice", "sid-1").await;
    backend.start_call("group", "friends", "later").await;
    alice.expect_call("later").await;
    assert_eq!(alice.counts()["standup"], 2);
    assert_ne!(alice.shown[0].id, alice.shown[1].id);
    mesh.stop().await;
}
