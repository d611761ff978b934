use std::collections::HashMap;

use ack_retry::load::sent_before;
use pushmesh_bus::TakeOver;
use pushmesh_protocol::{PushId, message::AtEnd, name::Stream};
use pushmesh_testkit::wait_for;

use crate::mesh::{LONG, Mesh, partition};

const USERS: usize = 40;

/// Forty users online, each with pushes before and after the change of owners.
async fn story(kill: bool) {
    let mesh = Mesh::start().await;
    let settings = ["service.retry_interval=2s", "service.suspect_after=500ms"];
    let mut first = mesh.ack_retry("one", &settings).await;
    let mut second = mesh.ack_retry("two", &settings).await;
    let comet = mesh.comet("c1").await;
    let name = |n: usize| format!("user{n}");
    for n in 0..USERS {
        mesh.put_session(&comet, &name(n), "phone", &format!("l{n}"), &format!("conn{n}")).await;
    }
    let mut pushes: HashMap<PushId, usize> = HashMap::new();
    for n in 0..USERS {
        pushes.insert(mesh.call(&name(n), "phone", &format!("l{n}"), "silent").await, n);
    }
    wait_for("both to have sent", LONG, async || {
        let sent = comet.items().len();
        if sent >= USERS { Ok(()) } else { Err(format!("{sent}")) }
    })
    .await;
    if kill {
        first.kill();
    } else {
        first.term();
    }
    for n in 0..USERS {
        pushes.insert(mesh.call(&name(n), "phone", &format!("l{n}"), "later").await, n);
        pushes.insert(mesh.message(&name(n), "m", AtEnd::Dead).await, n);
    }
    // Nobody acknowledges: every push comes three times, whoever owns it, or twice where its owner died before the first.
    wait_for("all to be dead letters", LONG, async || {
        let dead = mesh.dead().await.len();
        if dead == pushes.len() { Ok(()) } else { Err(format!("{dead} of {}", pushes.len())) }
    })
    .await;
    for (push, n) in &pushes {
        let times = comet.transmissions(*push).len();
        let least = if kill { 2 } else { 3 };
        assert!((least..=3).contains(&times), "{times} transmissions of {push} to {}", name(*n));
    }
    mesh.nothing_is_left().await;
    second.kill();
    mesh.no_push_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_sent_is_known_to_the_next_but_one_too() {
    let mesh = Mesh::start().await;
    let at = partition("alice");
    for call in ["a", "b", "c"] {
        mesh.call("alice", "phone", "l1", call).await;
    }
    let mut first = mesh.bus.take_partition(&Stream::PUSH, at, TakeOver::Fresh).await.unwrap();
    let mut last = 0;
    for _ in 0..3 {
        last = first.next().await.unwrap().sequence;
    }
    first.abandon();
    // Sets the consumer back, and ends before it has read anything.
    assert_eq!(sent_before(&mesh.bus, &mesh.pending, at, TakeOver::Crashed).await.unwrap(), last);
    mesh.bus.take_partition(&Stream::PUSH, at, TakeOver::Crashed).await.unwrap().abandon();
    assert_eq!(sent_before(&mesh.bus, &mesh.pending, at, TakeOver::Crashed).await.unwrap(), last);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_killed_and_no_push_is_lost_nor_sent_a_fourth_time() {
    story(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_leaves_and_every_push_is_sent_exactly_three_times() {
    story(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stood_still_sends_nothing_under_its_old_lease() {
    let mesh = Mesh::start().await;
    let settings = ["service.retry_interval=1s", "service.suspect_after=300ms"];
    let mut first = mesh.ack_retry("one", &settings).await;
    let _second = mesh.ack_retry("two", &settings).await;
    let comet = mesh.comet("c1").await;
    let mut pushes = vec![];
    for n in 0..USERS {
        let (name, login) = (format!("user{n}"), format!("l{n}"));
        mesh.put_session(&comet, &name, "phone", &login, &format!("conn{n}")).await;
        pushes.push(mesh.call(&name, "phone", &login, "silent").await);
    }
    wait_for("both to have sent", LONG, async || {
        let sent = comet.items().len();
        if sent >= USERS { Ok(()) } else { Err(format!("{sent}")) }
    })
    .await;
    first.stop();
    wait_for("all to be dead letters", LONG, async || {
        let dead = mesh.dead().await.len();
        if dead == USERS { Ok(()) } else { Err(format!("{dead}")) }
    })
    .await;
    first.cont();
    let late = mesh.call("user0", "phone", "l0", "late").await;
    comet.has(late, 1).await;
    wait_for("the late one to be a dead letter too", LONG, async || {
        let dead = mesh.dead().await.len();
        if dead == USERS + 1 { Ok(()) } else { Err(format!("{dead}")) }
    })
    .await;
    // Where its partition went over again, what had been delivered counts as sent: fewer, never more.
    for push in pushes.into_iter().chain([late]) {
        assert!(comet.transmissions(push).len() <= 3, "{push}");
    }
    let mut newest = HashMap::new();
    for (_, item) in comet.items() {
        let seen = newest.entry(item.partition).or_insert(item.epoch);
        assert!(item.epoch >= *seen, "partition {}: epoch {} after {seen}", item.partition, item.epoch);
        *seen = item.epoch;
    }
}
