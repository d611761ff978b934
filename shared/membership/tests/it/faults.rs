use std::{sync::atomic::Ordering, time::Duration};

use pushmesh_bus::TakeOver;
use pushmesh_membership::Parting;
use pushmesh_protocol::Partition;
use pushmesh_testkit::{Nats, wait_for};

use crate::mesh::{Mesh, SOON, instance, service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_costs_new_epochs_at_most() {
    let mut mesh = Mesh::start().await;
    let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
    mesh.shared_by("two", &[&a, &b]).await;
    mesh.nats.restart().await;
    mesh.shared_by("two after the restart", &[&a, &b]).await;
    mesh.log.take_longest_pause();
    wait_for("work goes on", SOON, || async {
        if mesh.log.take_longest_pause() > Duration::ZERO { Ok(()) } else { Err("no effect") }
    })
    .await;
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_fences_everybody_and_nobody_is_taken_for_dead() {
    let mesh = Mesh::start().await;
    let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
    mesh.shared_by("two", &[&a, &b]).await;
    let before = mesh.log.epochs();
    mesh.nats.pause();
    wait_for("nobody holds anything", SOON, || async {
        let held = a.ownership.held().len() + b.ownership.held().len();
        if held == 0 { Ok(()) } else { Err(format!("{held} held")) }
    })
    .await;
    mesh.nats.resume();
    mesh.renewed("all under new epochs", &before).await;
    mesh.shared_by("two again", &[&a, &b]).await;
    let takes = mesh.log.last_takes();
    assert!(takes.values().all(|(_, _, how)| *how == TakeOver::Crashed), "{takes:?}");
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_returns_is_begun_anew_under_a_new_epoch() {
    let mesh = Mesh::start().await;
    let a = mesh.join("a", 50).await;
    mesh.shared_by("a alone", &[&a]).await;
    let before = mesh.log.epochs()[&0];
    a.work.quits.store(true, Ordering::Relaxed);
    wait_for("partition 0 under a new epoch", SOON, || async {
        let now = mesh.log.epochs()[&0];
        if now > before { Ok(()) } else { Err(format!("epoch {now}")) }
    })
    .await;
    assert_eq!(mesh.log.last_takes()[&0].2, TakeOver::Crashed);
    assert!(a.ownership.held().iter().any(|(partition, _)| *partition == Partition(0)));
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_the_same_name_takes_the_place_of_the_first() {
    let mesh = Mesh::start().await;
    let first = mesh.join("a", 50).await;
    mesh.shared_by("the first", &[&first]).await;
    let before = mesh.log.epochs();
    let second = mesh.join("a", 50).await;
    mesh.renewed("all under the second's epochs", &before).await;
    mesh.shared_by("the second", &[&second]).await;
    assert!(*first.membership.superseded().borrow());
    assert_eq!(first.ownership.held(), []);
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_heartbeats_stop_is_replaced_and_has_stopped_before() {
    let mesh = Mesh::start().await;
    let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
    mesh.shared_by("two", &[&a, &b]).await;
    // Everything of b ends at once but its connection for JetStream.
    b.membership.abort().await;
    assert_eq!(b.ownership.held(), []);
    mesh.shared_by("a alone", &[&a]).await;
    b.bus.drain().await;
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_without_nats_takes_seconds_and_says_that_nobody_heard() {
    for stop in [Nats::kill, |nats: &mut Nats| nats.pause()] {
        let mut mesh = Mesh::start().await;
        let (a, b) = (mesh.join("a", 50).await, mesh.join("b", 50).await);
        mesh.shared_by("two", &[&a, &b]).await;
        stop(&mut mesh.nats);
        let parting = tokio::time::timeout(SOON, a.membership.leave()).await.expect("it ends");
        assert_eq!(parting, Parting::Unheard);
        assert_eq!(a.ownership.held(), []);
        assert_eq!(a.membership.leave().await, Parting::Unheard, "asked again");
        drop(a);

        mesh.nats.restart().await;
        mesh.shared_by("b alone, as after a crash", &[&b]).await;
        assert_eq!(b.membership.leave().await, Parting::InOrder);
        mesh.expect_no_fault();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_refused_its_heartbeats_still_hears_who_dies() {
    let nats = Nats::start_with(|options| {
        options.extra = r#"authorization { users = [
            { user: boss, password: secret },
            { user: mute, password: secret, permissions: { publish: { deny: "pm.v1.hb.distributor.b" }, subscribe: ">" } }
        ] }"#
            .to_owned();
    })
    .await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").expect("the directory is ours");
    let user = |name: &'static str| {
        let file = file.clone();
        move |config: &mut pushmesh_bus::Config| {
            (config.user, config.password_file) = (Some(name.to_owned()), Some(file));
        }
    };
    let mesh = Mesh::on(nats, user("boss")).await;
    let a = mesh.join_with("a", 50, user("boss")).await;
    // Each of its heartbeats is refused, and its connection says so four times a second.
    let b = mesh.join_with("b", 50, user("mute")).await;
    let c = mesh.join_with("c", 50, user("boss")).await;
    mesh.shared_by("a and c", &[&a, &c]).await;
    let alive = |name: &'static str| {
        let view = b.membership.view().borrow().clone();
        view.member(&service(), &instance(name)).is_some_and(|member| member.alive)
    };
    wait_for("b to see a and c", SOON, async || match alive("a") && alive("c") {
        true => Ok(()),
        false => Err("not yet"),
    })
    .await;
    c.membership.abort().await;
    wait_for("b to see that c is dead", SOON, async || match alive("c") {
        true => Err("c counts as alive"),
        false => Ok(()),
    })
    .await;
    assert!(alive("a"));
}
