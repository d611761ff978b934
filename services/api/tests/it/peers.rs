//! What api asks and hears: comets that tell how full they are, owners of rooms, push services.

use std::time::Duration;

use pushmesh_bus::Bus;
use pushmesh_protocol::{
    Instance, Kind,
    frame::{Ranked, RoomPosition, RoomState},
    message::{CallsAnswer, CallsRequest},
    name::{Filter, Subject},
    room::{CometRooms, CometStatus, RoomAnswer, RoomAsk, RoomInfo},
    wire,
};
use tokio_util::task::AbortOnDropHandle;

use crate::mesh::partitions;

/// Runs until it is dropped.
pub type Peer = AbortOnDropHandle<()>;

pub fn status(name: &str, connections: u32, capacity: u32) -> CometStatus {
    CometStatus {
        epoch: 1,
        connections,
        capacity,
        rooms: 3,
        draining: false,
        websocket: format!("ws://{name}:1"),
        tcp: String::new(),
        at: 0,
    }
}

/// Tells the same five times a second.
pub fn comet(bus: &Bus, name: &str, status: CometStatus) -> Peer {
    let (bus, subject) = (bus.clone(), Subject::comet_status(&Instance::new(name).unwrap()));
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tick.tick().await;
            bus.publish(subject.clone(), wire::encode(&status).into()).await.unwrap();
        }
    }))
}

/// Says that whoever is asked for is in these rooms.
pub async fn rooms_of(bus: &Bus, name: &str, rooms: &[&str]) -> Peer {
    let mut asks = bus.subscribe(Subject::comet_rooms(&Instance::new(name).unwrap()).into()).await.unwrap();
    let rooms = rooms.iter().map(|room| room.parse().unwrap()).collect();
    let (bus, answer) = (bus.clone(), bytes::Bytes::from(wire::encode(&CometRooms { rooms })));
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(ask) = asks.next().await {
            bus.reply(ask.reply.unwrap(), answer.clone()).await.unwrap();
        }
    }))
}

/// Owns all rooms, and answers what `answer` makes of the question and its number.
pub async fn owner(bus: &Bus, answer: impl Fn(RoomAsk, usize) -> Vec<u8> + Clone + Send + 'static) -> Vec<Peer> {
    let mut peers = Vec::new();
    for partition in partitions().all() {
        let mut asks = bus.subscribe(Filter::from(Subject::room_ask(partition))).await.unwrap();
        let (bus, answer) = (bus.clone(), answer.clone());
        peers.push(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut number = 0;
            while let Some(ask) = asks.next().await {
                let answer = answer(wire::decode(&ask.payload).unwrap(), number);
                bus.reply(ask.reply.unwrap(), answer.into()).await.unwrap();
                number += 1;
            }
        })));
    }
    peers
}

/// What an owner says of every room.
pub fn told(ask: RoomAsk) -> Vec<u8> {
    let answer = match ask {
        RoomAsk::Info { room } => RoomAnswer::Info(RoomInfo {
            room,
            state: RoomState { banned: true, ..RoomState::default() },
            position: RoomPosition::default(),
            present: 17,
            parts: 2,
            gifts: 3,
            gifts_total: 400,
            likes_total: 5,
        }),
        RoomAsk::Ranking { places, .. } => {
            let place = |place: u16| Ranked { user: format!("u{place}").parse().unwrap(), total: (9 - place).into() };
            RoomAnswer::Ranking { top: (0..places.min(3)).map(place).collect(), gifts_total: 24 }
        }
        RoomAsk::Skipped { .. } => skipped(&[], 0),
        RoomAsk::Join(_) | RoomAsk::Joins(_) => panic!("api joins no room"),
    };
    wire::encode(&answer)
}

/// An owner who skipped these of ROOM_HIGH, has forgotten those up to `forgotten`, and skipped nothing of ROOM_NORMAL.
pub fn skipped(offsets: &[u64], forgotten: u64) -> RoomAnswer {
    RoomAnswer::Skipped { offsets: offsets.to_vec(), forgotten, normal: vec![], normal_forgotten: 0 }
}

/// Serves the calls of one kind.
pub async fn kind(
    bus: &Bus,
    kind: &str,
    answer: impl Fn(CallsRequest) -> CallsAnswer + Clone + Send + 'static,
) -> Vec<Peer> {
    let kind = Kind::new(kind).unwrap();
    let mut peers = Vec::new();
    for partition in partitions().all() {
        let mut asks = bus.subscribe(Filter::from(Subject::calls(&kind, partition))).await.unwrap();
        let (bus, answer) = (bus.clone(), answer.clone());
        peers.push(AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(ask) = asks.next().await {
                let answer = wire::encode(&answer(wire::decode(&ask.payload).unwrap()));
                bus.reply(ask.reply.unwrap(), answer.into()).await.unwrap();
            }
        })));
    }
    peers
}
