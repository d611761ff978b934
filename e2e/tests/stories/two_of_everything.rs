//! Two instances of every service share the work; one leaves, one is killed, and nobody misses anything.

use e2e::{Backend, Mesh, PATIENCE, Person, Shape, record};
use pushmesh_proto::v1::{LoginEvent, report_response::Answer};
use pushmesh_testkit::{Port, wait_for};
use tokio::sync::oneshot;

const PEOPLE: usize = 60;

fn shape() -> Shape {
    Shape { instances: 2, partitions: 16, ..Shape::default() }
}

async fn crowd(mesh: &Mesh) -> Vec<Person> {
    let backend = mesh.backend();
    let names: Vec<_> = (0..PEOPLE).map(|n| format!("user{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    backend.member("group", "friends", &names).await;
    backend.member("discuss", "lunch", &names).await;
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
    const CALLS: [(&str, &str, &str); 3] =
        [("group", "friends", "standup"), ("discuss", "lunch", "where"), ("org", "acme", "all-hands")];
    let mesh = Mesh::start(shape()).await;
    for service in ["distributor", "group-push", "discuss-push", "org-push", "ack-retry"] {
        wait_for("both to own partitions", PATIENCE, async || {
            let owned = "pushmesh_membership_partitions_held";
            let owned = [mesh.metric(service, 0, owned).await, mesh.metric(service, 1, owned).await];
            if owned == [8.0, 8.0] { Ok(()) } else { Err(format!("{service}: {owned:?}")) }
        })
        .await;
    }
    let mut people = crowd(&mesh).await;
    for (index, (kind, unit, call)) in CALLS.into_iter().enumerate() {
        mesh.backend_at(index % 2).start_call(kind, unit, call).await;
    }
    for person in &mut people {
        for (_, _, call) in CALLS {
            person.expect_call(call).await;
        }
    }
    for index in [0, 1] {
        for (service, metric) in [
            ("distributor", "pushmesh_distributor_records_total"),
            ("group-push", "pushmesh_push_pushes_total"),
            ("discuss-push", "pushmesh_push_pushes_total"),
            ("org-push", "pushmesh_push_pushes_total"),
            ("ack-retry", "pushmesh_ack_retry_transmissions_total"),
        ] {
            assert!(mesh.metric(service, index, metric).await > 0.0, "{service} {index} did nothing");
        }
        let connections = mesh.metric("comet", index, "pushmesh_comet_connections").await;
        assert_eq!(connections, (PEOPLE / 2) as f64, "of comet {index}");
    }
    // Comets ask any login-ingest, with as many logins at once as there are: some guests more make it certain.
    for guest in 0.. {
        let of_comets = "pushmesh_login_ingest_records_total{door=\"bus\",outcome=\"accepted\"}";
        let records = [0, 1].map(|index| mesh.metric("login-ingest", index, of_comets));
        if futures_util::future::join_all(records).await.iter().all(|records| *records > 0.0) {
            break;
        }
        assert!(guest < 100, "one login-ingest did nothing");
        mesh.login_at(&format!("guest{guest}"), guest % 2).await.vanish();
    }
    for (kind, _, call) in CALLS {
        mesh.backend().end_call(kind, call).await;
    }
    for person in &mut people {
        for (_, _, call) in CALLS {
            person.expect_ended(call).await;
        }
        assert_eq!(person.shown.len(), CALLS.len(), "{} {:?}", person.name, person.counts());
    }
    mesh.stop().await;
}

/// In each half of a load: so many calls start, and everybody comes online again once.
const ROUNDS: usize = 20;

/// The login with which somebody came online again in this half.
fn again(half: usize, person: usize) -> String {
    format!("again-{half}-{person}")
}

/// Half of a load, which tells when it is in its middle.
async fn half_of_a_load(backend: Backend, half: usize, in_the_middle: oneshot::Sender<()>) {
    let mut in_the_middle = Some(in_the_middle);
    for round in 0..ROUNDS {
        backend.start_call("group", "friends", &format!("call{}", half * ROUNDS + round)).await;
        let these = (round * PEOPLE / ROUNDS)..((round + 1) * PEOPLE / ROUNDS);
        let online = |person| record(person as u64, &format!("user{person}"), &again(half, person), LoginEvent::Online);
        let answers = backend.report(these.map(online).collect()).await.expect("the stream is open");
        for answer in answers {
            assert!(matches!(answer.answer, Some(Answer::Accepted(_))), "{answer:?}");
        }
        if let Some(tell) = in_the_middle.take_if(|_| round == ROUNDS / 2) {
            tell.send(()).expect("the story waits for it");
        }
    }
}

/// One of `service` leaves under load; then of the two, its successor added, one is killed.
async fn leave_then_kill(service: &'static str) {
    let mut mesh = Mesh::start(shape()).await;
    let mut people = crowd(&mesh).await;
    for half in [0, 1] {
        mesh.owns(service, 1).await;
        let (tell, in_the_middle) = oneshot::channel();
        let load = tokio::spawn(half_of_a_load(mesh.backend(), half, tell));
        in_the_middle.await.expect("the load goes on");
        match half {
            0 => mesh.leave(service, 1).await,
            _ => mesh.kill(service, 1),
        }
        load.await.expect("the load goes on");
        mesh.add(service).await;
        // Whatever was under way when one went: each login that was accepted is told of every call, of those that had
        // started as of those that started later.
        for (n, person) in people.iter_mut().enumerate() {
            for call in 0..(half + 1) * ROUNDS {
                person.expect_call_of("group", &format!("call{call}"), &again(half, n)).await;
            }
        }
    }
    // And of nothing else, and of nothing twice.
    for (n, person) in people.iter_mut().enumerate() {
        person.read();
        let logins = [person.logins[0].login_id.to_string(), again(0, n), again(1, n)];
        let mut told = person.told(&logins.each_ref().map(String::as_str));
        let count = told.len();
        assert!(told.iter().all(|push| !push.ends_with("@another")), "{}: {told:?}", person.name);
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), count, "{} saw a push twice", person.name);
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

/// As a deployment does it: the comet comes back where it was, and its clients by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_comet_that_restarts_costs_its_clients_a_reconnect() {
    let port = Port::take();
    let listen = format!("service.websocket=127.0.0.1:{}", port.number());
    let mut mesh = Mesh::start(Shape::default().set("comet", listen).set("comet", "service.drain_for=1s")).await;
    let backend = mesh.backend();
    backend.member("group", "friends", &["alice"]).await;
    backend.start_call("group", "friends", "before").await;
    let mut alice = mesh.login("alice").await;
    let first = alice.logins[0].clone();
    alice.expect_call("before").await;
    for (down, up) in [("while-it-left", "after-it-left"), ("while-it-was-dead", "after-it-was-dead")] {
        match down {
            "while-it-left" => mesh.leave("comet", 0).await,
            _ => mesh.kill("comet", 0),
        }
        backend.start_call("group", "friends", down).await;
        mesh.add("comet").await;
        let login = alice.expect_logged_in().await;
        assert!(login.resumed && login.login_id == first.login_id, "{login:?} goes on with {first:?}");
        alice.expect_call(down).await;
        backend.start_call("group", "friends", up).await;
        alice.expect_call(up).await;
    }
    let calls = ["before", "while-it-left", "after-it-left", "while-it-was-dead", "after-it-was-dead"];
    let expected = calls.map(|call| format!("{call}@{}", first.login_id));
    assert_eq!(alice.told(&[first.login_id.as_str()]), expected);
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
