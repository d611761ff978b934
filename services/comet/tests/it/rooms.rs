//! Live rooms at the shards: real sockets, and the test is the mesh behind them.

use std::{collections::HashSet, sync::Arc, time::Instant};

use comet::{
    room::frame::Frame,
    shard::{
        command::{Joined, NotJoined, RoomDelivery, Urgent},
        outlet::JoinRequest,
    },
};
use pushmesh_protocol::{
    RoomId, UserId,
    frame::{
        self, Chain, ClientFrame, Encoding, Error, ErrorCode, Join, Leave, Left, LeftReason, Ping, Pong, Room,
        RoomItem, RoomPosition, RoomState, ServerFrame, item,
    },
    room::{Audience, RoomClass, RoomFrame, RoomOrder, part_of},
};

use crate::harness::*;

pub fn room_id(name: &str) -> RoomId {
    name.parse().unwrap()
}

pub fn join(room: &str) -> ClientFrame {
    ClientFrame::Join(Join { room: room_id(room), resume: None })
}

/// Chat of `room` with an offset.
pub fn chat(room: &str, offset: u64) -> ServerFrame {
    said(room, Chain::High, item::CHAT, offset, 20)
}

pub fn said(room: &str, chain: Chain, kind: &str, offset: u64, bytes: usize) -> ServerFrame {
    let item = RoomItem {
        chain,
        offset,
        prev: offset.saturating_sub(1),
        kind: kind.parse().unwrap(),
        from: Some("ben".parse().unwrap()),
        at: 1,
        data: "x".repeat(bytes).as_str().into(),
    };
    ServerFrame::Room(Room { room: room_id(room), epoch: 1, items: vec![item], heads: None })
}

pub fn to_all(frame: &ServerFrame) -> RoomFrame {
    to(Audience::Everybody, frame)
}

pub fn to(audience: Audience, frame: &ServerFrame) -> RoomFrame {
    RoomFrame { audience, urgent: false, conflate: None, frame: frame.encode(Encoding::MessagePack).into() }
}

pub fn joined_frame(room: &str, high: u64) -> frame::Joined {
    frame::Joined {
        room: room_id(room),
        position: RoomPosition { epoch: 1, gifts: 0, high, normal: 0 },
        recovered: true,
        state: RoomState::default(),
        role: None,
        muted_until: None,
        present: 1,
        top: Vec::new(),
        gifts_total: 0,
        likes_total: 0,
    }
}

impl Comet {
    /// The newest JOIN that has not been taken yet.
    pub async fn asked(&self) -> JoinRequest {
        self.until("a JOIN", |seen| seen.joins.pop()).await
    }

    pub async fn answer(&self, request: &JoinRequest, overseer: bool, position: u64, missed: &[ServerFrame]) {
        let dialect = request.from.dialect;
        let answer = joined_frame(request.room.as_str(), position);
        let first = dialect.encode(&ServerFrame::Joined(answer.clone()));
        let missed = missed.iter().map(|frame| dialect.encode(frame)).collect();
        let instead = dialect.encode(&ServerFrame::Joined(frame::Joined { recovered: false, ..answer }));
        let (to, room, attempt) = (request.from, request.room.clone(), request.attempt);
        self.tell(to, Urgent::Joined(Box::new(Joined { to, room, attempt, first, missed, instead, overseer }))).await;
    }

    pub async fn refuse(&self, request: &JoinRequest, error: ErrorCode) {
        let (to, room, attempt) = (request.from, request.room.clone(), request.attempt);
        let message = "the test says no".to_owned();
        let told = Some(room.clone());
        let error = Error { error, field: None, message, retry_after_ms: None, address: None, re: None, room: told };
        self.tell(to, Urgent::NotJoined(Box::new(NotJoined { to, room, attempt, error }))).await;
    }

    /// Frames off the bus, and orders behind them, to all shards.
    pub async fn broadcast(&self, room: &str, class: RoomClass, frames: Vec<RoomFrame>, orders: Vec<RoomOrder>) {
        let (room, now) = (room_id(room), Instant::now());
        let frames: Arc<[Arc<Frame>]> =
            frames.into_iter().map(|frame| Arc::new(Frame::new(&room, class, frame, now, None))).collect();
        let orders: Arc<[RoomOrder]> = orders.into();
        for queues in &self.queues {
            let delivery = RoomDelivery { room: room.clone(), frames: frames.clone(), orders: orders.clone() };
            queues.rooms[class as usize].send(delivery).await.unwrap();
        }
    }

    pub async fn high(&self, room: &str, frames: &[ServerFrame]) {
        self.broadcast(room, RoomClass::High, frames.iter().map(to_all).collect(), vec![]).await;
    }

    /// Members and those of them that have joined, as the shards say.
    pub async fn until_present(&self, room: &str, expected: (u32, u32)) {
        self.until("the tallies", |seen| {
            let mut found = (0, 0);
            for (_, tally) in seen.tallies.iter().filter(|((_, of), _)| of.as_str() == room) {
                found = (found.0 + tally.members, found.1 + tally.present);
            }
            (found == expected).then_some(())
        })
        .await;
    }
}

/// A client that is in a room.
pub async fn member(comet: &Comet, user: &str, room: &str) -> Tcp {
    let (mut client, _) = Tcp::login(comet, &format!("user:{user}")).await;
    enter(comet, &mut client, room).await;
    client
}

pub async fn enter(comet: &Comet, client: &mut Tcp, room: &str) {
    client.send(&join(room)).await;
    let request = comet.asked().await;
    comet.answer(&request, false, 0, &[]).await;
    assert_eq!(client.next().await, Some(ServerFrame::Joined(joined_frame(room, 0))));
}

pub fn left(room: &str, reason: LeftReason) -> ServerFrame {
    ServerFrame::Left(Left { room: room_id(room), reason })
}

async fn expect_pong(client: &mut Tcp) {
    client.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(client.next().await, Some(ServerFrame::Pong(Pong {})), "nothing before it");
}

#[tokio::test]
async fn who_joins_hears_joined_then_what_was_missed_then_what_came_meanwhile_in_every_dialect() {
    let comet = Comet::start(config());
    let (mut tcp, _) = Tcp::login(&comet, "user:ann").await;
    let (mut pack, _) = Ws::login(&comet, Encoding::MessagePack, "user:cid").await;
    let (mut json, _) = Ws::login(&comet, Encoding::Json, "user:dan").await;
    tcp.send(&join("r1")).await;
    let mut asked = vec![comet.asked().await];
    pack.send(&join("r1")).await;
    asked.push(comet.asked().await);
    json.send(&join("r1")).await;
    asked.push(comet.asked().await);
    assert_eq!(asked.iter().map(|request| request.user.as_str()).collect::<Vec<_>>(), ["ann", "cid", "dan"]);
    comet.until_present("r1", (3, 0)).await;
    comet.high("r1", &[chat("r1", 10), chat("r1", 11)]).await;
    comet.high("r1", &[chat("r1", 12)]).await;
    // The shards are done with these before they are told the answers.
    tcp.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(tcp.next().await, Some(ServerFrame::Pong(Pong {})), "what came is held");
    for request in &asked {
        comet.answer(request, false, 10, &[chat("r1", 8), chat("r1", 9), chat("r1", 10)]).await;
    }
    let expected: Vec<ServerFrame> = std::iter::once(ServerFrame::Joined(joined_frame("r1", 10)))
        .chain([8, 9, 10].map(|offset| chat("r1", offset)))
        .chain([10, 11, 12, 13].map(|offset| chat("r1", offset)))
        .collect();
    comet.until_present("r1", (3, 3)).await;
    comet.high("r1", &[chat("r1", 13)]).await;
    for frame in expected {
        assert_eq!(tcp.next().await.as_ref(), Some(&frame));
        assert_eq!(pack.next().await.as_ref(), Ok(&frame));
        assert_eq!(json.next().await.as_ref(), Ok(&frame));
    }
    drop((tcp, pack));
    json.send(&ClientFrame::Leave(Leave { room: room_id("r1") })).await;
    assert_eq!(json.next().await, Ok(left("r1", LeftReason::Left)));
    comet.until_present("r1", (0, 0)).await;
}

#[tokio::test]
async fn gifts_go_first_and_classes_keep_their_order_behind_each_other() {
    let mut config = config();
    config.shards = 1;
    let comet = Comet::start(config);
    let mut client = member(&comet, "ann", "r1").await;
    let mut all = Vec::new();
    for offset in 1..=3 {
        all.push(to_all(&said("r1", Chain::Normal, item::STATE, offset, 5)));
    }
    let gift = said("r1", Chain::Gifts, item::GIFT, 1, 5);
    let likes =
        RoomFrame { conflate: Some("likes".parse().unwrap()), ..to_all(&said("r1", Chain::Loose, item::LIKE, 0, 1)) };
    let delivery = |class: RoomClass, frames: Vec<RoomFrame>| {
        let frames =
            frames.into_iter().map(|frame| Arc::new(Frame::new(&room_id("r1"), class, frame, Instant::now(), None)));
        RoomDelivery { room: room_id("r1"), frames: frames.collect(), orders: Arc::new([]) }
    };
    let urgent = RoomFrame { urgent: true, ..to_all(&gift) };
    let queues = &comet.queues[0].rooms;
    // What the shard finds together is its own affair; the order within a class is not.
    queues[2].try_send(delivery(RoomClass::Low, vec![likes.clone(), likes])).unwrap();
    queues[1].try_send(delivery(RoomClass::Normal, all)).unwrap();
    queues[0]
        .try_send(delivery(RoomClass::High, vec![to_all(&chat("r1", 1)), urgent, to_all(&chat("r1", 2))]))
        .unwrap();
    let (mut high, mut normal, mut gifts, mut loose) = (vec![], vec![], vec![], 0);
    while high.len() + normal.len() + gifts.len() < 6 {
        let Some(ServerFrame::Room(room)) = client.next().await else { panic!("no ROOM") };
        let item = &room.items[0];
        match item.chain {
            Chain::High => high.push((item.offset, gifts.len())),
            Chain::Normal => normal.push(item.offset),
            Chain::Gifts => gifts.push(item.offset),
            Chain::Loose => loose += 1,
        }
    }
    assert_eq!(high, [(1, 1), (2, 1)], "the gift goes before the chat it came with");
    assert_eq!((normal, gifts), (vec![1, 2, 3], vec![1]));
    assert!(loose <= 1, "the newer one took the older one's place");
}

#[tokio::test]
async fn everybody_gets_what_is_for_his_part_and_overseers_get_it_all() {
    let comet = Comet::start(config());
    let users = ["ann", "ben", "cid", "dan", "eva", "fay"];
    let mut clients = Vec::new();
    for user in users {
        clients.push(member(&comet, user, "r1").await);
    }
    let (mut host, _) = Tcp::login(&comet, "user:host").await;
    host.send(&join("r1")).await;
    let request = comet.asked().await;
    comet.answer(&request, true, 0, &[]).await;
    host.next().await.unwrap();
    let part = |user: &str, of: u16| part_of(&user.parse().unwrap(), of);
    for of in [2, 8, 2, 1] {
        let mut frames = Vec::new();
        for index in 0..of {
            let chat = chat("r1", u64::from(of) * 100 + u64::from(index));
            frames.push(to(Audience::Part { part: index, of }, &chat));
            frames.push(to(Audience::Overseers, &chat));
        }
        let alone = said("r1", Chain::Loose, item::MUTE, 7, 3);
        frames.push(to(Audience::User("cid".parse().unwrap()), &alone));
        let end = said("r1", Chain::Normal, item::STATE, u64::from(of), 3);
        frames.push(to_all(&end));
        comet.broadcast("r1", RoomClass::High, frames, vec![]).await;
        for (user, client) in users.iter().zip(&mut clients) {
            assert_eq!(client.next().await, Some(chat("r1", u64::from(of * 100 + part(user, of)))), "{user} of {of}");
            if *user == "cid" {
                assert_eq!(client.next().await.as_ref(), Some(&alone));
            }
            assert_eq!(client.next().await.as_ref(), Some(&end), "{user} of {of}");
        }
        for index in 0..of {
            assert_eq!(host.next().await, Some(chat("r1", u64::from(of * 100 + index))));
        }
        assert_eq!(host.next().await.as_ref(), Some(&end));
    }
    // Roles change: the host sees his part, and ann sees all.
    let order = |user: &str, overseer| RoomOrder::Oversee { user: user.parse().unwrap(), overseer };
    comet.broadcast("r1", RoomClass::High, vec![], vec![order("host", false), order("ann", true)]).await;
    let of_part = to(Audience::Part { part: part("host", 2), of: 2 }, &chat("r1", 5000));
    let of_all = to(Audience::Overseers, &chat("r1", 6000));
    comet.broadcast("r1", RoomClass::High, vec![of_part, of_all], vec![]).await;
    assert_eq!(host.next().await, Some(chat("r1", 5000)));
    assert_eq!(clients[0].next().await, Some(chat("r1", 6000)));
    expect_pong(&mut host).await;
    expect_pong(&mut clients[0]).await;
}

#[tokio::test]
async fn who_oversees_since_he_asked_is_not_set_back_by_the_older_answer() {
    let comet = Comet::start(config());
    let (mut client, _) = Tcp::login(&comet, "user:ann").await;
    client.send(&join("r1")).await;
    let request = comet.asked().await;
    let user: UserId = "ann".parse().unwrap();
    let frames = vec![to(Audience::Overseers, &chat("r1", 5))];
    let order = RoomOrder::Oversee { user: user.clone(), overseer: true };
    comet.broadcast("r1", RoomClass::High, frames, vec![order]).await;
    expect_pong(&mut client).await;
    comet.answer(&request, false, 4, &[]).await;
    assert_eq!(client.next().await, Some(ServerFrame::Joined(joined_frame("r1", 4))));
    assert_eq!(client.next().await, Some(chat("r1", 5)));
    comet.broadcast("r1", RoomClass::High, vec![to(Audience::Overseers, &chat("r1", 6))], vec![]).await;
    assert_eq!(client.next().await, Some(chat("r1", 6)));
}

#[tokio::test]
async fn a_join_of_a_room_one_is_in_recovers_in_place() {
    let comet = Comet::start(config());
    let mut client = member(&comet, "ann", "r1").await;
    comet.until_present("r1", (1, 1)).await;
    let resume = Some(RoomPosition { epoch: 1, gifts: 0, high: 4, normal: 0 });
    client.send(&ClientFrame::Join(Join { room: room_id("r1"), resume })).await;
    let request = comet.asked().await;
    assert_eq!(request.resume, resume);
    comet.high("r1", &[chat("r1", 7)]).await;
    client.send(&join("r1")).await;
    let refused = client.error().await;
    assert_eq!((refused.error, refused.room), (ErrorCode::TooFast, Some(room_id("r1"))), "one at a time");
    comet.answer(&request, false, 6, &[chat("r1", 5), chat("r1", 6)]).await;
    assert_eq!(client.next().await, Some(ServerFrame::Joined(joined_frame("r1", 6))));
    for offset in 5..=7 {
        assert_eq!(client.next().await, Some(chat("r1", offset)));
    }
    // Where the owner is away nothing is lost but the recovery.
    client.send(&join("r1")).await;
    let request = comet.asked().await;
    comet.high("r1", &[chat("r1", 8)]).await;
    expect_pong(&mut client).await;
    comet.refuse(&request, ErrorCode::Unavailable).await;
    assert_eq!(client.error().await.error, ErrorCode::Unavailable);
    assert_eq!(client.next().await, Some(chat("r1", 8)));
    comet.answer(&request, false, 99, &[]).await;
    expect_pong(&mut client).await;
    // A room that takes nobody has nobody.
    client.send(&join("r1")).await;
    let request = comet.asked().await;
    comet.refuse(&request, ErrorCode::Forbidden).await;
    assert_eq!(client.error().await.error, ErrorCode::Forbidden);
    comet.until_present("r1", (0, 0)).await;
}

#[tokio::test]
async fn a_connection_is_in_several_rooms_within_its_limits() {
    let mut config = config();
    config.limits.rooms = 3;
    config.limits.joins_per_second = 1;
    let comet = Comet::start(config);
    let mut client = member(&comet, "ann", "r1").await;
    enter(&comet, &mut client, "r2").await;
    enter(&comet, &mut client, "r3").await;
    client.send(&join("r4")).await;
    let refused = client.error().await;
    assert_eq!((refused.error, refused.room), (ErrorCode::Forbidden, Some(room_id("r4"))));
    assert!(refused.message.contains("limits.rooms is 3"), "{}", refused.message);
    for room in ["r3", "r1", "r2"] {
        comet.high(room, &[chat(room, 1)]).await;
        assert_eq!(client.next().await, Some(chat(room, 1)));
    }
    client.send(&ClientFrame::Leave(Leave { room: room_id("r2") })).await;
    assert_eq!(client.next().await, Some(left("r2", LeftReason::Left)));
    client.send(&ClientFrame::Leave(Leave { room: room_id("r2") })).await;
    assert_eq!(client.next().await, Some(left("r2", LeftReason::Left)), "nothing to leave is no error");
    comet.high("r2", &[chat("r2", 2)]).await;
    enter(&comet, &mut client, "r4").await;
    for room in ["r4", "r3", "r1"] {
        comet.high(room, &[chat(room, 3)]).await;
        assert_eq!(client.next().await, Some(chat(room, 3)));
    }
    // Six at once and one a second, however slow this machine is.
    for _ in 0..60 {
        client.send(&ClientFrame::Leave(Leave { room: room_id("r4") })).await;
        client.send(&join("r4")).await;
    }
    let refused = loop {
        match client.next().await {
            Some(ServerFrame::Error(refused)) => break refused,
            other => assert_eq!(other, Some(left("r4", LeftReason::Left))),
        }
    };
    assert_eq!((refused.error, refused.room), (ErrorCode::TooFast, Some(room_id("r4"))));
    assert!(refused.message.contains("limits.joins_per_second"), "{}", refused.message);
}

#[tokio::test]
async fn who_is_kicked_gets_what_came_before_and_nothing_after() {
    let comet = Comet::start(config());
    let mut ann = member(&comet, "ann", "r1").await;
    let mut again = member(&comet, "ann", "r1").await;
    let mut ben = member(&comet, "ben", "r1").await;
    let (mut joining, _) = Tcp::login(&comet, "user:ann").await;
    joining.send(&join("r1")).await;
    let request = comet.asked().await;
    let kick = RoomOrder::Kick { user: "ann".parse().unwrap() };
    let frames = (1..=20).map(|offset| to_all(&chat("r1", offset))).collect();
    comet.broadcast("r1", RoomClass::High, frames, vec![kick]).await;
    comet.high("r1", &[chat("r1", 21)]).await;
    for client in [&mut ann, &mut again] {
        for offset in 1..=20 {
            assert_eq!(client.next().await, Some(chat("r1", offset)));
        }
        assert_eq!(client.next().await, Some(left("r1", LeftReason::Kicked)));
        expect_pong(client).await;
    }
    assert_eq!(joining.next().await, Some(left("r1", LeftReason::Kicked)));
    comet.answer(&request, false, 20, &[]).await;
    expect_pong(&mut joining).await;
    for offset in 1..=21 {
        assert_eq!(ben.next().await, Some(chat("r1", offset)));
    }
    comet.until_present("r1", (1, 1)).await;
    enter(&comet, &mut ann, "r1").await;
    comet.high("r1", &[chat("r1", 22)]).await;
    assert_eq!(ann.next().await, Some(chat("r1", 22)));
}

#[tokio::test]
async fn more_than_can_be_held_for_one_who_joins_is_told_as_a_gap() {
    let mut config = config();
    config.limits.backlog_messages = 10;
    let comet = Comet::start(config);
    let (mut client, _) = Tcp::login(&comet, "user:ann").await;
    client.send(&join("r1")).await;
    let request = comet.asked().await;
    comet.high("r1", &(1..=15).map(|offset| chat("r1", offset)).collect::<Vec<_>>()).await;
    expect_pong(&mut client).await;
    comet.answer(&request, false, 0, &[]).await;
    client.next().await.unwrap();
    let told = client.next().await;
    let Some(ServerFrame::Gap(gap)) = told else { panic!("no GAP but {told:?}") };
    assert_eq!((gap.room, gap.high, gap.normal, gap.low), (Some(room_id("r1")), 15, 0, 0));
    comet.high("r1", &[chat("r1", 16)]).await;
    assert_eq!(client.next().await, Some(chat("r1", 16)));
}

#[tokio::test]
async fn names_of_those_who_come_and_go_are_told_of_small_rooms() {
    let mut config = config();
    config.shards = 1;
    config.rooms.names_up_to = 2;
    let comet = Comet::start(config);
    let names = async |expected: (&[&str], &[&str])| {
        comet
            .until("names", |seen| {
                let tally = seen.tallies.get(&(0, room_id("r1")))?;
                let text = |names: &[UserId]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
                ((text(&tally.came), text(&tally.went))
                    == (
                        expected.0.iter().map(ToString::to_string).collect(),
                        expected.1.iter().map(ToString::to_string).collect(),
                    ))
                    .then_some(())
            })
            .await;
    };
    let ann = member(&comet, "ann", "r1").await;
    names((&["ann"], &[])).await;
    let _ben = member(&comet, "ben", "r1").await;
    names((&["ben"], &[])).await;
    let _cid = member(&comet, "cid", "r1").await;
    comet.until_present("r1", (3, 3)).await;
    names((&[], &[])).await;
    drop(ann);
    comet.until_present("r1", (2, 2)).await;
    let gone: HashSet<String> =
        comet.seen.lock().unwrap().tallies[&(0, room_id("r1"))].went.iter().map(ToString::to_string).collect();
    assert!(gone.is_empty() || gone == HashSet::from(["ann".to_owned()]), "{gone:?}");
}
