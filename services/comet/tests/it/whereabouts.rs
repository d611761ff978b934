//! In which rooms connections are, asked over a real nats-server.

use std::time::Duration;

use pushmesh_bus::RequestError;
use pushmesh_protocol::{
    ConnId, Partitions, RoomId,
    frame::{ClientFrame, Encoding, Leave, LeftReason, ServerFrame},
    name::Subject,
    room::{CometRooms, CometRoomsAsk, RoomAsk},
    wire,
};
use pushmesh_testkit::wait_for;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    harness::{SOON, Tcp, Ws, login},
    live::let_in,
    mesh::{Mesh, Running},
    rooms::{join, joined_frame, left, room_id},
};

/// Lets everybody into a room.
async fn owner(mesh: &Mesh, room: &str) -> AbortOnDropHandle<()> {
    let partition = Partitions::new(8).unwrap().of_room(&room_id(room));
    let joined = joined_frame(room, 0);
    mesh.answer(Subject::room_ask(partition), move |payload| {
        let RoomAsk::Joins(ask) = wire::decode(payload).unwrap() else { panic!("no JOIN") };
        wire::encode(&let_in(&ask, 1, joined.clone(), Vec::new()))
    })
    .await
}

async fn rooms_of(mesh: &Mesh, comet: &Running, connections: &[&ConnId]) -> Vec<RoomId> {
    let ask = CometRoomsAsk { connections: connections.iter().copied().cloned().collect() };
    let subject = Subject::comet_rooms(&comet.instance);
    let answer = mesh.bus.request(subject, wire::encode(&ask).into(), SOON).await.unwrap();
    wire::decode::<CometRooms>(&answer).unwrap().rooms
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_told_of_those_that_are_there_and_once_each() {
    let mesh = Mesh::start().await;
    let (_ingest, _r1, _r2) = tokio::join!(mesh.ingest(), owner(&mesh, "r1"), owner(&mesh, "r2"));
    let comet = mesh.comet("comet-1", |config| config.shards = 2).await;
    let (mut one, at_one) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let (mut two, at_two) = Ws::login(&comet, Encoding::Json, &mesh.token("ann", None)).await;
    let (here, there) = (at_one.conn_id, at_two.conn_id());
    assert_eq!(rooms_of(&mesh, &comet, &[&here, &there]).await, []);
    for room in ["r2", "r1"] {
        one.send(&join(room)).await;
        assert_eq!(one.next().await, Some(ServerFrame::Joined(joined_frame(room, 0))));
    }
    two.send(&join("r1")).await;
    assert_eq!(two.next().await, Ok(ServerFrame::Joined(joined_frame("r1", 0))));
    assert_eq!(rooms_of(&mesh, &comet, &[&here, &there]).await, [room_id("r1"), room_id("r2")]);
    assert_eq!(rooms_of(&mesh, &comet, &[&there]).await, [room_id("r1")]);
    one.send(&ClientFrame::Leave(Leave { room: room_id("r1") })).await;
    assert_eq!(one.next().await, Some(left("r1", LeftReason::Left)));
    assert_eq!(rooms_of(&mesh, &comet, &[&here]).await, [room_id("r2")]);
    // What nobody can read is answered by nobody, and stands in nobody's way.
    let nonsense = mesh.bus.request(Subject::comet_rooms(&comet.instance), "\u{1}".into(), Duration::from_millis(50));
    assert!(matches!(nonsense.await, Err(RequestError::Timeout(_))));
    let stranger: ConnId = "not-one-of-ours".parse().unwrap();
    assert_eq!(rooms_of(&mesh, &comet, &[&here, &stranger]).await, [room_id("r2")]);
    drop(one);
    wait_for("the connection to be gone", SOON, || async {
        let rooms = rooms_of(&mesh, &comet, &[&here]).await;
        if rooms.is_empty() { Ok(()) } else { Err(format!("{rooms:?}")) }
    })
    .await;
    comet.drain().await;
}
