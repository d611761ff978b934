//! Rooms over real sockets.

use std::time::Duration;

use pushmesh_client::{
    Chain, Client, Error, ErrorCode, Event, Events, Joined, Left, LeftReason, RoomItem, RoomPosition,
};
use pushmesh_protocol::{
    RoomId,
    frame::{ClientFrame, Gap, Join, Reconnect, Room, ServerFrame},
};

use crate::{
    logged_in, next,
    peer::{Peer, Socket, options},
};

fn room() -> RoomId {
    RoomId::new("live").unwrap()
}

fn at(gifts: u64, high: u64) -> RoomPosition {
    RoomPosition { epoch: 7, gifts, high, normal: 0 }
}

fn joined(position: RoomPosition, recovered: bool) -> ServerFrame {
    let json = serde_json::json!({ "room": room(), "position": position, "recovered": recovered });
    ServerFrame::Joined(serde_json::from_value::<Joined>(json).unwrap())
}

/// Chat with this offset and the one before it.
fn chat(prev: u64, offset: u64) -> ServerFrame {
    let kind = "chat".parse().unwrap();
    let item = RoomItem { chain: Chain::High, offset, prev, kind, from: None, at: 1, data: "hi".into() };
    ServerFrame::Room(Room { room: room(), epoch: 7, items: vec![item], heads: None })
}

async fn expect_join(socket: &mut Socket) -> Join {
    match socket.next().await {
        ClientFrame::Join(join) => join,
        other => panic!("expected JOIN, not {other:?}"),
    }
}

async fn expect_chat(events: &mut Events, offset: u64) {
    match next(events).await {
        Event::Room { item, .. } => assert_eq!(item.offset, offset),
        other => panic!("expected the item {offset}, not {other:?}"),
    }
}

/// A client in the room at (0, 10).
async fn in_the_room(peer: &Peer) -> (Client, Events, Socket) {
    let (client, mut events) = Client::connect(options(peer));
    client.join(room()).await;
    let mut socket = logged_in(peer, &mut events).await;
    assert_eq!(expect_join(&mut socket).await, Join { room: room(), resume: None });
    socket.send(&[joined(at(0, 10), true)]).await;
    assert!(matches!(next(&mut events).await, Event::Joined(told) if told.position == at(0, 10)));
    (client, events, socket)
}

#[tokio::test]
async fn what_was_dropped_is_asked_for_and_shown_once() {
    let peer = Peer::tcp().await;
    let (client, mut events, mut socket) = in_the_room(&peer).await;
    let dropped = Gap { room: Some(room()), high: 1, normal: 0, low: 0 };
    socket.send(&[chat(10, 11), ServerFrame::Gap(dropped.clone()), chat(12, 13)]).await;
    expect_chat(&mut events, 11).await;
    assert_eq!(next(&mut events).await, Event::Gap(dropped));
    assert_eq!(expect_join(&mut socket).await.resume, Some(at(0, 11)));
    socket.send(&[joined(at(0, 13), true), chat(11, 12), chat(12, 13), chat(12, 13), chat(13, 14)]).await;
    assert!(matches!(next(&mut events).await, Event::Joined(told) if told.recovered));
    for offset in 12..=14 {
        expect_chat(&mut events, offset).await;
    }
    let stats = client.stats();
    assert_eq!((stats.room_items, stats.room_recoveries), (4, 1));
}

#[tokio::test]
async fn rooms_move_to_another_comet_with_their_position() {
    let (peer, other) = (Peer::websocket().await, Peer::tcp().await);
    let (_client, mut events, mut socket) = in_the_room(&peer).await;
    let to = Reconnect { after_ms: 1, address: Some(other.address().to_string()) };
    socket.send(&[chat(10, 11), ServerFrame::Reconnect(to)]).await;
    expect_chat(&mut events, 11).await;
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    let mut socket = logged_in(&other, &mut events).await;
    assert_eq!(expect_join(&mut socket).await.resume, Some(at(0, 11)));
    socket.send(&[joined(at(0, 12), true), chat(10, 11), chat(11, 12)]).await;
    assert!(matches!(next(&mut events).await, Event::Joined(_)));
    expect_chat(&mut events, 12).await;
    // And back, after too long.
    drop(socket);
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    let mut socket = logged_in(&peer, &mut events).await;
    assert_eq!(expect_join(&mut socket).await.resume, Some(at(0, 12)));
    socket.send(&[joined(at(3, 90), false), chat(90, 91)]).await;
    assert!(matches!(next(&mut events).await, Event::Joined(told) if !told.recovered));
    assert_eq!(next(&mut events).await, Event::RoomGap { room: room(), from: at(0, 12), to: at(3, 90) });
    expect_chat(&mut events, 91).await;
}

#[tokio::test]
async fn another_process_goes_on_from_a_position() {
    let peer = Peer::tcp().await;
    let (client, mut events) = Client::connect(options(&peer));
    let mut socket = logged_in(&peer, &mut events).await;
    client.join_from(room(), at(4, 40)).await;
    assert_eq!(expect_join(&mut socket).await.resume, Some(at(4, 40)));
    let not_now = Error {
        error: ErrorCode::Unavailable,
        field: None,
        message: "a take-over is going on".into(),
        retry_after_ms: Some(20),
        address: None,
        re: None,
        room: Some(room()),
    };
    socket.send(&[ServerFrame::Error(not_now)]).await;
    let told = next(&mut events).await;
    assert!(
        matches!(&told, Event::RoomUnavailable { again_in, .. } if *again_in <= Duration::from_millis(30)),
        "{told:?}"
    );
    assert_eq!(expect_join(&mut socket).await.resume, Some(at(4, 40)));
    socket.send(&[joined(at(4, 41), true), chat(40, 41)]).await;
    assert!(matches!(next(&mut events).await, Event::Joined(_)));
    expect_chat(&mut events, 41).await;
    client.leave(room()).await;
    assert!(matches!(socket.next().await, ClientFrame::Leave(leave) if leave.room == room()));
    let left = Left { room: room(), reason: LeftReason::Left };
    socket.send(&[chat(41, 42), ServerFrame::Left(left.clone())]).await;
    assert_eq!(next(&mut events).await, Event::Left(left));
}
