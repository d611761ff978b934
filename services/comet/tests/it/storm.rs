//! All members of a room miss something at once, and come back for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use pushmesh_protocol::{
    frame::{ClientFrame, Encoding, Join, RoomPosition, ServerFrame},
    name::Subject,
    room::{JOINS_MAX, RoomAsk, RoomBatch, RoomClass},
    wire,
};

use crate::{
    harness::{Tcp, login},
    live::{ROOM, let_in, partition},
    mesh::Mesh,
    rooms::{chat, join, joined_frame, room_id, to_all},
};

const CLIENTS: usize = 400;
const LINES: u64 = 2_000;

/// What all clients and the owner did together.
#[derive(Default)]
struct Counts {
    joins: AtomicUsize,
    asks: AtomicUsize,
    users: AtomicUsize,
    /// The largest ask.
    most: AtomicUsize,
}

/// Takes what comes by the rule, asks for what it missed, and ends with the last line.
async fn watch(mut client: Tcp, counts: Arc<Counts>) -> Tcp {
    let (mut at, mut is_asking, mut misses) = (0, false, false);
    while at < LINES || is_asking {
        match client.next().await.expect("the comet holds the connection") {
            ServerFrame::Joined(joined) => {
                assert!(joined.recovered);
                // What it missed until now follows.
                (is_asking, misses) = (false, false);
            }
            ServerFrame::Room(room) => {
                for item in &room.items {
                    misses |= item.prev > at;
                    at = if item.prev == at { item.offset } else { at };
                }
            }
            ServerFrame::Gap(gap) => misses |= gap.high > 0,
            other => panic!("{other:?}"),
        }
        if misses && !is_asking && at < LINES {
            (misses, is_asking) = (false, true);
            counts.joins.fetch_add(1, Ordering::Relaxed);
            let resume = Some(RoomPosition { epoch: 1, gifts: 0, high: at, normal: 0 });
            client.send(&ClientFrame::Join(Join { room: room_id(ROOM), resume })).await;
        }
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_misses_something_all_at_once_is_asked_for_a_few_times_and_everybody_is_complete() {
    let mesh = Mesh::start().await;
    let _ingest = mesh.ingest().await;
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    let _owner = mesh
        .answer(Subject::room_ask(partition()), move |payload| {
            let RoomAsk::Joins(ask) = wire::decode(payload).unwrap() else { panic!("no JOIN") };
            assert!((1..=JOINS_MAX).contains(&ask.users.len()));
            let Some(resume) = ask.resume else {
                return wire::encode(&let_in(&ask, 1, joined_frame(ROOM, 0), vec![]));
            };
            counted.asks.fetch_add(1, Ordering::Relaxed);
            counted.users.fetch_add(ask.users.len(), Ordering::Relaxed);
            counted.most.fetch_max(ask.users.len(), Ordering::Relaxed);
            let missed = (resume.high + 1..=LINES).map(|line| chat(ROOM, line).encode(Encoding::MessagePack).into());
            wire::encode(&let_in(&ask, 1, joined_frame(ROOM, LINES), missed.collect()))
        })
        .await;
    let comet = mesh
        .comet("comet-1", |config| {
            config.rooms.queue = 1;
            // Whoever misses all lines is told all of them.
            config.limits.backlog_messages = 10_000;
            config.limits.backlog_bytes = 4 << 20;
        })
        .await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (mut client, _) = Tcp::log_in(&comet, login(&mesh.token(&format!("user-{number}"), None))).await;
        client.send(&join(ROOM)).await;
        assert_eq!(client.next().await, Some(ServerFrame::Joined(joined_frame(ROOM, 0))));
        clients.push(client);
    }
    let watching = tokio::spawn(join_all(clients.into_iter().map(|client| watch(client, counts.clone()))));
    // More at once than one place in a queue takes.
    let (room, partition) = (room_id(ROOM), partition());
    for line in 1..=LINES {
        let frames = vec![to_all(&chat(ROOM, line))];
        let (class, orders) = (RoomClass::High, vec![]);
        let batch = RoomBatch { room: room.clone(), partition, epoch: 1, class, frames, orders, trace: None };
        mesh.bus.publish(Subject::room_frame(partition, &room), wire::encode(&batch).into()).await.unwrap();
    }
    drop(watching.await.unwrap());
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (joins, asks, users, most) = (of(&counts.joins), of(&counts.asks), of(&counts.users), of(&counts.most));
    println!("{joins} JOINs, {asks} asks for {users} users, {most} in the largest");
    assert!(joins >= CLIENTS, "all of them missed something: {joins}");
    assert!(users >= joins, "each is asked for");
    // How many come at the same time is the machine's affair: the busier it is, the more positions they stand at.
    assert!(asks < joins && most > 1, "{joins} JOINs, {asks} asks, {most} in the largest");
}
