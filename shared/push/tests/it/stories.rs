//! A user's day.

use std::{cell::RefCell, time::Duration};

use pushmesh_protocol::message::OnlineResult;
use pushmesh_push::Reach;
use pushmesh_testkit::wait_for;

use crate::mesh::{Mesh, PATIENCE, TestKind, now, offline, online, timeout};

#[tokio::test]
async fn a_login_and_a_call_meet_whichever_comes_first() {
    let mesh = Mesh::start(TestKind::group()).await;
    let push = mesh.engine("group-1").await;
    let mut tap = mesh.tap().await;

    push.join("g1", &["ann"]).await;
    push.join("g2", &["ann"]).await;
    push.start("before", "g1").await;
    mesh.record(&push.instance, "ann", online("l1")).await;
    tap.expect(&["+before@l1"]).await;
    push.start("after", "g2").await;
    tap.expect(&["+after@l1"]).await;
    push.start("elsewhere", "g3").await;
    push.join("g3", &["ann"]).await;
    tap.expect(&["+elsewhere@l1"]).await;

    push.end("before").await;
    tap.expect(&["-before@l1"]).await;
    push.leave("g2", &["ann"]).await;
    tap.expect(&["-after@l1"]).await;

    // Online again: a new login, which ends the older one.
    let again = mesh.entry("ann", online("l2"));
    mesh.tell(&push.instance, vec![again.clone()]).await;
    assert_eq!(tap.next().await, "end l1");
    tap.expect(&["+elsewhere@l2"]).await;

    // The same batch once more: the same ids, and nothing new before what comes next.
    let results = mesh.tell(&push.instance, vec![again]).await;
    assert_eq!(results, [OnlineResult::Done { pushes: 1 }]);
    mesh.record(&push.instance, "ann", offline("l2")).await;
    assert_eq!(tap.next().await, "end l2");
    push.start("too-late", "g1").await;
    push.join("g9", &["bob"]).await;
    push.start("bobs", "g9").await;
    mesh.record(&push.instance, "bob", online("lb")).await;
    tap.expect(&["+bobs@lb"]).await;
    push.engine.drain().await;
}

#[tokio::test]
async fn a_session_is_a_login_until_it_times_out() {
    let mesh = Mesh::start(TestKind::group()).await;
    let comet = mesh.comet().await;
    let push = mesh.engine("group-1").await;
    let mut tap = mesh.tap().await;
    push.join("g", &["ann"]).await;
    push.start("c1", "g").await;

    mesh.session("ann", "conn-1", "l1", None).await;
    tap.expect(&["+c1@l1"]).await;
    // Its record comes late: the same push, stored once.
    mesh.record(&push.instance, "ann", online("l1")).await;

    let answer = wait_for("the question's answer", PATIENCE, || mesh.question("ann", "l1")).await;
    assert_eq!(answer.calls.len(), 1);
    assert_eq!(answer.calls[0].call.call_id.as_str(), "c1");

    // Left, resumed on another connection, and timed out all the same: a live session stands against it.
    mesh.session("ann", "conn-1", "l1", Some(now())).await;
    mesh.session("ann", "conn-2", "l1", None).await;
    push.start("c2", "g").await;
    tap.expect(&["+c2@l1"]).await;
    mesh.session_gone("ann", "conn-1").await;
    mesh.record(&push.instance, "ann", timeout("l1")).await;
    push.start("c3", "g").await;
    tap.expect(&["+c3@l1"]).await;
    mesh.session_gone("ann", "conn-2").await;
    assert_eq!(tap.next().await, "end l1");

    // A comet that fell silent: the key still stands when the timeout comes, and is purged afterwards. The end is stored
    // before the record is answered, so that no owner can take it along.
    mesh.session("bob", "conn-3", "l2", None).await;
    mesh.record(&push.instance, "bob", online("l2")).await;
    comet.abort().await;
    let tap = RefCell::new(tap);
    let ended = wait_for("the comet to count as silent", PATIENCE, async || {
        mesh.record(&push.instance, "bob", timeout("l2")).await;
        tap.borrow_mut().come().ok_or("no end is stored")
    });
    assert_eq!(ended.await, "end l2");
    push.engine.drain().await;
}

#[tokio::test]
async fn a_call_above_reaches_all_below() {
    let mut kind = TestKind::group();
    kind.kind = pushmesh_protocol::Kind::new("org").unwrap();
    kind.reach = Reach::Below;
    let mesh = Mesh::start(kind).await;
    let push = mesh.engine("org-1").await;
    let mut tap = mesh.tap().await;
    push.join("net/verizon/res", &["ann"]).await;
    push.join("net/verizon", &["ann", "bob"]).await;
    push.join("net", &["cid"]).await;
    let entries = [("ann", "la"), ("bob", "lb"), ("cid", "lc")].map(|(user, login)| mesh.entry(user, online(login)));
    mesh.tell(&push.instance, entries.to_vec()).await;
    push.start("all", "net").await;
    tap.expect(&["+all@la", "+all@lb", "+all@lc"]).await;
    push.start("some", "net/verizon").await;
    tap.expect(&["+some@la", "+some@lb"]).await;
    push.end("all").await;
    tap.expect(&["-all@la", "-all@lb", "-all@lc"]).await;
    push.engine.drain().await;
}

#[tokio::test]
async fn a_discussion_is_forgotten_after_its_last_call() {
    let mut kind = TestKind::group();
    kind.dissolve_after = Some(Duration::from_secs(1));
    kind.members_max = Some(3);
    let mesh = Mesh::start(kind).await;
    let push = mesh.engine("group-1").await;
    push.join("d", &["ann", "bob"]).await;
    push.join("quiet", &["ann"]).await;
    push.start("c", "d").await;
    push.end("c").await;
    wait_for("the members to be forgotten", PATIENCE, || async {
        match (push.units("ann").await, push.units("bob").await) {
            (ann, bob) if ann == ["quiet"] && bob.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    push.join("d", &["ann"]).await;
    assert_eq!(push.units("ann").await.len(), 2, "a younger membership stays");
    push.engine.drain().await;
}
