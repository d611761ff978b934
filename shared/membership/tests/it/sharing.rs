use pushmesh_bus::TakeOver;
use pushmesh_membership::{JoinError, Me, Membership, Tuning};
use pushmesh_protocol::{Partition, id::Token};
use pushmesh_testkit::wait_for;

use crate::mesh::{Mesh, SOON, connect, instance, partitions, service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_share_by_weight_one_leaves_one_dies_and_comes_back() {
    let mesh = Mesh::start().await;
    let a = mesh.join("a", 25).await;
    mesh.shared_by("a alone", &[&a]).await;
    let b = mesh.join("b", 25).await;
    let c = mesh.join("c", 50).await;
    mesh.shared_by("three by weight", &[&a, &b, &c]).await;
    assert!(c.ownership.held().len() <= 9, "ceil(1.1 · 16 · 50 / 100)");
    assert!(c.ownership.held().len() > a.ownership.held().len());
    assert!(a.membership.epoch() < b.membership.epoch() && b.membership.epoch() < c.membership.epoch());

    // In good order: every partition that moves is handed over.
    let moved: Vec<_> = b.ownership.held();
    b.membership.leave().await;
    mesh.shared_by("two after a leave", &[&a, &c]).await;
    let takes = mesh.log.last_takes();
    for (partition, epoch) in moved {
        let (_, newer, how) = &takes[&partition.0];
        assert!(*newer > epoch);
        assert_eq!(*how, TakeOver::HandedOver);
    }
    wait_for("b is no member", SOON, || async {
        let view = a.membership.view().borrow().clone();
        if view.member(&service(), &instance("b")).is_none() { Ok(()) } else { Err("still there") }
    })
    .await;

    // By a crash: after 1.2 s of silence.
    let (epoch, moved) = (c.membership.epoch(), c.ownership.held());
    c.membership.abort().await;
    mesh.shared_by("one after a crash", &[&a]).await;
    let takes = mesh.log.last_takes();
    assert!(moved.iter().all(|(partition, _)| takes[&partition.0].2 == TakeOver::Crashed), "{takes:?}");

    let again = mesh.join("c", 50).await;
    assert!(again.membership.epoch() > epoch);
    mesh.shared_by("two after it came back", &[&a, &again]).await;
    mesh.expect_no_fault();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_sees_members_and_owners_of_any_service() {
    let mesh = Mesh::start().await;
    let bus = connect(&mesh.nats, "comet", "comet-1").await;
    let comet = Token::new("comet").expect("a token");
    let me = Me { service: comet.clone(), instance: instance("comet-1"), weight: 1, address: String::new() };
    let watcher = Membership::join(&bus, me, Tuning::default()).await.expect("it joins");
    let mut owners = watcher.owners(&service());
    assert_eq!(owners.of(Partition(3)), None);

    let a = mesh.join("a", 50).await;
    mesh.shared_by("a alone", &[&a]).await;
    tokio::time::timeout(SOON, owners.changed()).await.expect("the owners changed");
    let all = || partitions().all().all(|p| owners.of(p).is_some_and(|owner| owner.instance == instance("a")));
    wait_for("a owns all", SOON, || async { if all() { Ok(()) } else { Err("not yet") } }).await;
    let held = a.ownership.held();
    assert!(held.iter().all(|(p, epoch)| owners.of(*p).is_some_and(|owner| owner.epoch == *epoch)));

    a.membership.set_address("a:2").await;
    wait_for("the new address", SOON, || async {
        let view = watcher.view().borrow().clone();
        match view.member(&service(), &instance("a")) {
            Some(member) if member.address == "a:2" && member.alive => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(watcher.view().borrow().member(&comet, &instance("comet-1")).is_some());

    a.membership.leave().await;
    a.membership.leave().await;
    wait_for("nobody owns anything", SOON, || async {
        let left: Vec<_> = partitions().all().filter_map(|p| owners.of(p)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_outside_its_limits_does_not_join() {
    let mesh = Mesh::start().await;
    let bus = connect(&mesh.nats, "distributor", "a").await;
    for weight in [0, 101] {
        let me = Me { service: service(), instance: instance("a"), weight, address: String::new() };
        let refused = Membership::join(&bus, me, Tuning::default()).await.err();
        assert!(matches!(refused, Some(JoinError::Weight(found)) if found == weight), "{refused:?}");
    }
}
