//! A mesh on three nats-servers, each of which dies once.

use std::collections::HashMap;

use e2e::{Mesh, PATIENCE, Shape, Viewer, gift_key};
use futures_util::future::join_all;
use pushmesh_protocol::frame::item;
use pushmesh_testkit::wait_for;
use serde_json::json;

/// Each is the leader of a third of the streams and consumers, or will be: none may matter.
const SERVERS: usize = 3;
const ROOMS: [&str; 3] = ["stage", "hall", "yard"];
/// Before, between and after the three deaths.
const ROUNDS: u64 = 7;
const GIVERS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn any_server_of_three_may_die_and_nothing_accepted_is_lost() {
    let mut mesh = Mesh::start(Shape { servers: SERVERS, partitions: 4, ..Shape::rooms() }).await;
    mesh.backend().member("group", "friends", &["alice"]).await;
    let mut alice = mesh.login("alice").await;
    let mut viewers = Vec::new();
    for (index, room) in ROOMS.iter().enumerate() {
        let mut viewer = Viewer::enter(&mesh, &format!("v{index}"), index % 2).await;
        viewer.join(room).await;
        viewers.push(viewer);
    }
    let mut given: HashMap<(&str, u64), u64> = HashMap::new();
    for round in 0..ROUNDS {
        // Odd rounds go on without a server, the even ones with it again.
        let server = (round / 2) as usize % SERVERS;
        if round % 2 == 1 {
            mesh.broker.kill(server);
        }
        let call = format!("call-{round}");
        start(&mesh, &call).await;
        let gifts = ROOMS.iter().flat_map(|room| (0..GIVERS).map(move |giver| (*room, giver, 1 + 10 * round + giver)));
        let gifts: Vec<_> = gifts.collect();
        join_all(gifts.iter().map(|(room, giver, value)| give(&mesh, room, *giver, *value))).await;
        for (room, giver, value) in gifts {
            *given.entry((room, giver)).or_default() += value;
        }
        alice.expect_call(&call).await;
        if round % 2 == 1 {
            mesh.broker.restart(server).await;
        }
    }
    for (room, viewer) in ROOMS.iter().zip(&mut viewers) {
        let total: u64 = given.iter().filter(|((of, _), _)| of == room).map(|(_, value)| value).sum();
        wait_for("the ledger to be exact", PATIENCE, async || {
            let said = mesh.front(0).get(&format!("/v1/rooms/{room}")).await;
            if said.body["gifts_total"] == json!(total) { Ok(()) } else { Err(format!("{total}: {said:?}")) }
        })
        .await;
        viewer.expect_items(room, item::GIFT, (ROUNDS * GIVERS) as usize).await;
        let mut seen = viewer.gifts(room);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), (ROUNDS * GIVERS) as usize, "every gift once in {room}");
        viewer.assert_in_order();
        assert!(viewer.gaps.is_empty(), "{:?}", viewer.gaps);
    }
    assert!(alice.counts().values().all(|shown| *shown == 1), "{:?}", alice.counts());
    assert_eq!(mesh.all_dead_letters().await.len(), 0);
    mesh.stop().await;
}

/// As a backend does: until it is answered.
async fn start(mesh: &Mesh, call: &str) {
    let backend = mesh.backend();
    wait_for("a call to be stored", PATIENCE, async || backend.try_start_call("group", "friends", call).await).await;
}

/// With one key, until it is answered.
async fn give(mesh: &Mesh, room: &str, giver: u64, value: u64) {
    let (door, key) = (mesh.front((giver % 2) as usize), gift_key());
    wait_for("a gift to be stored", PATIENCE, async || {
        let said = door.gift(room, &key, &format!("g{giver}"), value).await;
        if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}
