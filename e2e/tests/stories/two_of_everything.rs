//! Two instances of every service share the work; one leaves, one is killed, and nobody misses anything.

use e2e::{Mesh, PATIENCE, Person, Shape};
use pushmesh_testkit::wait_for;

const PEOPLE: usize = 60;

fn shape() -> Shape {
    Shape { instances: 2, partitions: 16, ..Shape::default() }
}

async fn crowd(mesh: &Mesh) -> Vec<Person> {
    let backend = mesh.backend();
    let names: Vec<_> = (0..PEOPLE).map(|n| format!("user{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    backend.member("group", "friends", &names).await;
    backend.member("org", "acme/sales", &names).await;
    let mut people: Vec<_> =
        names.iter().enumerate().map(|(n, name)| Person::connect(mesh, name, "phone", n % 2, |_| {})).collect();
    for person in &mut people {
        person.expect_logged_in().await;
    }
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_every_service_share_the_work() {
    let mesh = Mesh::start(shape()).await;
    let mut people = crowd(&mesh).await;
    mesh.backend_at(1).start_call("group", "friends", "standup").await;
    mesh.backend_at(0).start_call("org", "acme", "all-hands").await;
    for person in &mut people {
        person.expect_call("standup").await;
        person.expect_call("all-hands").await;
    }
    for index in [0, 1] {
        for (service, metric) in [
            ("distributor", "pushmesh_distributor_records_total"),
            ("group-push", "pushmesh_push_pushes_total"),
            ("org-push", "pushmesh_push_pushes_total"),
            ("ack-retry", "pushmesh_ack_retry_transmissions_total"),
        ] {
            assert!(mesh.metric(service, index, metric).await > 0.0, "{service} {index} did nothing");
        }
    }
    mesh.backend().end_call("group", "standup").await;
    for person in &mut people {
        person.expect_ended("standup").await;
        assert_eq!(person.shown.len(), 2, "{} {:?}", person.name, person.counts());
    }
    mesh.stop().await;
}

/// One of `service` leaves under load; then of the two, its successor added, one is killed.
async fn leave_then_kill(service: &'static str) {
    let mut mesh = Mesh::start(shape()).await;
    let mut people = crowd(&mesh).await;
    let backend = mesh.backend();
    let load = |from: usize| {
        let backend = backend.clone();
        tokio::spawn(async move {
            for n in from..from + 20 {
                backend.start_call("group", "friends", &format!("call{n}")).await;
                for person in 0..10 {
                    backend.online(&format!("user{person}"), &format!("again-{n}-{person}")).await;
                }
            }
        })
    };
    let running = load(0);
    mesh.leave(service, 1).await;
    running.await.expect("the load goes on");
    mesh.add(service).await;
    let running = load(20);
    mesh.kill(service, 1);
    running.await.expect("the load goes on");
    mesh.add(service).await;
    for person in &mut people {
        for n in 0..40 {
            person.expect_call(&format!("call{n}")).await;
        }
    }
    // Each login of those who came again is told of the calls of its time once: never the same id twice.
    for person in &mut people {
        person.read();
        let mut ids: Vec<_> = person.shown.iter().map(|push| push.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), person.shown.len(), "{} saw a push twice", person.name);
    }
    for person in people.iter_mut().take(10) {
        let newest = format!("call{}", 39);
        assert!(person.counts()[&newest] >= 1);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_distributor_leaves_and_one_is_killed_under_load() {
    leave_then_kill("distributor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_group_push_leaves_and_one_is_killed_under_load() {
    leave_then_kill("group-push").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ack_retry_leaves_and_one_is_killed_under_load() {
    leave_then_kill("ack-retry").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_comet_costs_its_clients_a_reconnect() {
    let mut mesh = Mesh::start(shape()).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "standup").await;
    let mut alice = mesh.login_at("alice", 1).await;
    alice.expect_call("standup").await;
    // An acknowledgement on its way dies with its comet; here it has arrived.
    wait_for("the acknowledgement to settle", PATIENCE, async || {
        let outcomes = "pushmesh_ack_retry_outcomes_total";
        let settled = mesh.metric("ack-retry", 0, outcomes).await + mesh.metric("ack-retry", 1, outcomes).await;
        if settled >= 1.0 { Ok(()) } else { Err("nothing is settled") }
    })
    .await;
    mesh.kill("comet", 1);
    // She comes back by another comet, as a front door would send her.
    let resume = alice.logins[0].resume();
    alice.vanish();
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.resume = Some(resume.clone()));
    let login = alice.expect_logged_in().await;
    assert!(login.resumed, "her session stands in the mesh, not in the comet");
    backend.start_call("group", "friends", "later").await;
    alice.expect_call("later").await;
    assert_eq!(alice.counts().get("standup"), None, "what she acknowledged is not told again");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_comet_says_goodbye_and_its_clients_go_over() {
    let mut mesh = Mesh::start(shape().set("comet", "service.drain_for=3s")).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    let mut alice = mesh.login_at("alice", 1).await;
    mesh.process("comet", 1).term();
    alice
        .expect("a goodbye", |event| match event {
            pushmesh_client::Event::Disconnected { .. } => Some(()),
            _ => None,
        })
        .await;
    let resume = alice.logins[0].resume();
    alice.vanish();
    let mut alice = Person::connect(&mesh, "alice", "phone", 0, |options| options.resume = Some(resume.clone()));
    assert!(alice.expect_logged_in().await.resumed);
    backend.start_call("group", "friends", "standup").await;
    alice.expect_call("standup").await;
    mesh.process("comet", 1).expect_exit(0, PATIENCE).await;
    mesh.stop().await;
}
