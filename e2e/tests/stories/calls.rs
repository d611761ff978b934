//! Who is told of which call, and when it is over.

use std::time::Duration;

use e2e::{Mesh, PATIENCE, Person, Shape};
use pushmesh_client::Event;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_told_of_every_call_of_the_three_kinds_and_of_their_ends() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice", "bob"]).await;
    backend.member("discuss", "lunch", &["alice"]).await;
    backend.member("org", "acme/sales/east", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    backend.start_call("discuss", "lunch", "where").await;
    backend.start_call("org", "acme", "all-hands").await;
    backend.start_call("org", "acme/sales/west", "not-hers").await;

    let mut alice = mesh.login("alice").await;
    for call in ["standup", "where", "all-hands"] {
        alice.expect_call(call).await;
    }
    let mut bob = mesh.login("bob").await;
    bob.expect_call("standup").await;

    // Pull and push have the same ids.
    let pulled = bob.client.calls().await.expect("the kinds answer");
    assert!(pulled.missing.is_empty());
    let pulled: Vec<_> = pulled.calls.iter().map(|active| active.id).collect();
    assert_eq!(pulled, [bob.shown[0].id]);

    backend.end_call("group", "standup").await;
    alice.expect_ended("standup").await;
    bob.expect_ended("standup").await;
    backend.end_call("org", "all-hands").await;
    alice.expect_ended("all-hands").await;
    let carol = mesh.login("carol").await;
    assert_eq!((alice.shown.len(), bob.shown.len(), carol.shown.len()), (3, 1, 0));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_online_is_told_of_a_call_that_starts_and_of_one_he_is_added_to() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    let mut alice = mesh.login("alice").await;
    let mut bob = mesh.login("bob").await;
    backend.start_call("group", "friends", "standup").await;
    alice.expect_call("standup").await;
    backend.member("group", "friends", &["bob"]).await;
    bob.expect_call("standup").await;
    backend.end_call("group", "standup").await;
    alice.expect_ended("standup").await;
    bob.expect_ended("standup").await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_id_is_used_once() {
    let mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.start_call("group", "friends", "standup").await;
    backend.start_call("group", "friends", "standup").await;
    let other = backend.try_start_call("group", "family", "standup").await.expect_err("another unit");
    assert_eq!(other.code(), tonic::Code::AlreadyExists, "{other}");
    backend.end_call("group", "standup").await;
    let again = backend.try_start_call("group", "friends", "standup").await.expect_err("it has ended");
    assert_eq!(again.code(), tonic::Code::AlreadyExists, "{again}");
    mesh.stop().await;
}

/// A login and a call's start, a thousand times at once: whichever comes first, the login is told exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_and_a_call_start_race_a_thousand_times() {
    const RACES: usize = 1000;
    const AT_ONCE: usize = 50;
    let mesh = Mesh::start(Shape { instances: 2, ..Shape::default() }).await;
    let (one, two) = (mesh.backend_at(0), mesh.backend_at(1));
    let mut chance = fastrand::Rng::with_seed(3);
    // A call is stored sooner than a login. Of two calls one starts later, by a part of what this machine takes for a login:
    // at first 20 ms, then what it took at last.
    let mut head_start = Duration::from_millis(20);
    let mut logins_first = 0;
    for chunk in (0..RACES).collect::<Vec<_>>().chunks(AT_ONCE) {
        let stories = chunk.iter().map(|race| {
            let (mesh, one, two) = (&mesh, &one, &two);
            let delay = if race % 2 == 0 { Duration::ZERO } else { head_start.mul_f64(1.5 * chance.f64()) };
            async move {
                let (user, unit, call) = (format!("u{race}"), format!("g{race}"), format!("c{race}"));
                one.member("group", &unit, &[&user]).await;
                let begun = Instant::now();
                let mut person = Person::connect(mesh, &user, "phone", race % 2, |options| {
                    options.connect_timeout = PATIENCE;
                });
                let starting = async {
                    tokio::time::sleep_until(begun + delay).await;
                    two.start_call("group", &unit, &call).await;
                    begun.elapsed()
                };
                let logging_in = async {
                    person.expect_logged_in().await;
                    begun.elapsed()
                };
                let (started, logged_in) = tokio::join!(starting, logging_in);
                let login = person.logins[0].login_id.to_string();
                person.expect_call_of("group", &call, &login).await;
                (person, started, logged_in)
            }
        });
        let mut people = futures_util::future::join_all(stories).await;
        for (person, started, logged_in) in &mut people {
            person.read();
            // Of the login that stands. Where a connection broke on the way, what was reported for it is a login too.
            let login = person.logins[0].login_id.to_string();
            let (of_this, of_others): (Vec<_>, Vec<_>) =
                person.told(&[&login]).into_iter().partition(|push| push.ends_with(&login));
            let unbroken = !person.last.iter().any(|event| matches!(event, Event::Disconnected { .. }));
            assert_eq!(of_this.len(), 1, "{} {:?}", person.name, person.shown);
            assert!(of_others.is_empty() || !unbroken, "{} {:?}", person.name, person.shown);
            logins_first += usize::from(logged_in < started);
        }
        people.sort_unstable_by_key(|(_, _, logged_in)| *logged_in);
        head_start = people[people.len() / 2].2.min(Duration::from_secs(1));
        people.into_iter().for_each(|(person, ..)| person.vanish());
    }
    let both = RACES / 20..=RACES - RACES / 20;
    assert!(both.contains(&logins_first), "the login was first {logins_first} times of {RACES}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn org_push_away_for_a_minute_delays_only_its_own() {
    let mut mesh = Mesh::start(Shape::default()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice", "bob"]).await;
    backend.member("org", "acme", &["alice", "bob"]).await;
    backend.start_call("group", "friends", "standup").await;
    backend.start_call("org", "acme", "all-hands").await;
    mesh.process("org-push", 0).stop();
    let stopped = Instant::now();
    let mut alice = mesh.login("alice").await;
    alice.expect_call("standup").await;
    // Group pushes go on undisturbed for the whole minute.
    let mut count = 0;
    while stopped.elapsed() < Duration::from_secs(60) {
        count += 1;
        let mut guest = mesh.login(&format!("guest{count}")).await;
        backend.member("group", "friends", &[&guest.name.clone()]).await;
        guest.expect_call("standup").await;
        guest.vanish();
    }
    alice.read();
    assert_eq!(alice.counts().get("all-hands"), None);
    mesh.process("org-push", 0).cont();
    alice.expect_call("all-hands").await;
    let mut bob = mesh.login("bob").await;
    bob.expect_call("all-hands").await;
    assert_eq!(alice.counts()["standup"], 1);
    mesh.stop().await;
}
