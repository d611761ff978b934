//! Live rooms on a real nats-server: whole comets, and a room's owner that does what the test says.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use pushmesh_bus::{Bus, RequestError, Subscription};
use pushmesh_protocol::{
    Partition, Partitions,
    frame::{
        Chain, ClientFrame, Encoding, ErrorCode, Join, Joined, Leave, LeftReason, LoginOk, Reconnect, RoomPosition,
        ServerFrame, item,
    },
    name::{Filter, Subject},
    room::{
        CometStatus, JoinedUser, JoinedView, JoinsAnswer, JoinsAsk, RoomAnswer, RoomAsk, RoomBatch, RoomClass,
        RoomFrame, RoomOrder, RoomPresence,
    },
    wire,
};
use pushmesh_testkit::wait_for;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    harness::{Doors, SOON, Tcp, Ws, login},
    mesh::{Mesh, token},
    rooms::{chat, join, joined_frame, left, room_id, said, to_all},
};

pub const ROOM: &str = "r1";

/// The owner of one room's partition. It answers one JOIN after the other by what it was told, and then by the last of it.
struct Owner {
    bus: Bus,
    asked: Arc<Mutex<Vec<JoinsAsk>>>,
    answers: Arc<Mutex<Vec<RoomAnswer>>>,
    _task: AbortOnDropHandle<()>,
}

pub fn partition() -> Partition {
    Partitions::new(8).unwrap().of_room(&room_id(ROOM))
}

/// All who ask see the same.
pub fn let_in(ask: &JoinsAsk, epoch: u64, joined: Joined, missed: Vec<Bytes>) -> RoomAnswer {
    let users = ask.users.iter().map(|_| JoinedUser { view: Some(0), role: None, muted_until: None }).collect();
    RoomAnswer::JoinedAll(Box::new(JoinsAnswer { epoch, views: vec![JoinedView { joined, missed }], users }))
}

/// For as many as ask.
fn joined(epoch: u64, high: u64, missed: &[ServerFrame]) -> RoomAnswer {
    let missed = missed.iter().map(|frame| frame.encode(Encoding::MessagePack).into()).collect();
    let nobody = JoinsAsk { room: room_id(ROOM), users: vec![], resume: None, trace: None };
    let_in(&nobody, epoch, joined_frame(ROOM, high), missed)
}

impl Owner {
    async fn start(mesh: &Mesh) -> Self {
        let asked = Arc::<Mutex<Vec<JoinsAsk>>>::default();
        let answers = Arc::new(Mutex::new(vec![joined(1, 0, &[])]));
        let (note, say) = (asked.clone(), answers.clone());
        let task = mesh
            .answer(Subject::room_ask(partition()), move |payload| {
                let RoomAsk::Joins(ask) = wire::decode(payload).unwrap() else { panic!("no JOIN") };
                let mut answers = say.lock().unwrap();
                let mut answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                if let RoomAnswer::JoinedAll(all) = &answer {
                    let JoinedView { joined, missed } = all.views[0].clone();
                    answer = let_in(&ask, all.epoch, joined, missed);
                }
                note.lock().unwrap().push(ask);
                wire::encode(&answer)
            })
            .await;
        Self { bus: mesh.bus.clone(), asked, answers, _task: task }
    }

    fn will_say(&self, answers: Vec<RoomAnswer>) {
        *self.answers.lock().unwrap() = answers;
    }

    fn asked(&self) -> Vec<JoinsAsk> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    async fn publish(&self, epoch: u64, class: RoomClass, frames: Vec<RoomFrame>, orders: Vec<RoomOrder>) {
        let (room, partition) = (room_id(ROOM), partition());
        let batch = RoomBatch { room: room.clone(), partition, epoch, class, frames, orders, trace: None };
        self.bus.publish(Subject::room_frame(partition, &room), wire::encode(&batch).into()).await.unwrap();
    }

    async fn chat(&self, epoch: u64, offset: u64) {
        self.publish(epoch, RoomClass::High, vec![to_all(&chat(ROOM, offset))], vec![]).await;
    }

    /// Whether any comet listens to the room.
    async fn is_heard(&self) -> bool {
        let ask = |subject| self.bus.request(subject, Vec::new().into(), SOON);
        let asked = ask(Subject::room_frame(partition(), &room_id(ROOM)));
        // The server says in their order what nobody listens to; comets listen, and say nothing.
        tokio::select! {
            biased;
            answer = asked => answer != Err(RequestError::NoResponders),
            answer = ask(Subject::app(&token("nobody"))) => {
                assert_eq!(answer, Err(RequestError::NoResponders));
                true
            }
        }
    }
}

async fn next<T: serde::de::DeserializeOwned>(from: &mut Subscription) -> T {
    let message = tokio::time::timeout(SOON, from.next()).await.expect("a message in time").unwrap();
    wire::decode(&message.payload).unwrap()
}

async fn enter(client: &mut Tcp, position: u64) {
    client.send(&join(ROOM)).await;
    assert_eq!(client.next().await, Some(ServerFrame::Joined(joined_frame(ROOM, position))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_from_its_first_member_to_a_while_after_its_last() {
    let mesh = Mesh::start().await;
    let (_ingest, owner) = tokio::join!(mesh.ingest(), Owner::start(&mesh));
    let comet = mesh.comet("comet-1", |config| config.rooms.linger = Duration::from_millis(300)).await;
    assert!(!owner.is_heard().await);
    let (mut tcp, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let (mut json, _) = Ws::login(&comet, Encoding::Json, &mesh.token("ben", None)).await;
    owner.will_say(vec![joined(1, 5, &[chat(ROOM, 4), chat(ROOM, 5)])]);
    let resume = Some(RoomPosition { epoch: 1, gifts: 0, high: 3, normal: 0 });
    let back = ClientFrame::Join(Join { room: room_id(ROOM), resume });
    tcp.send(&back).await;
    json.send(&back).await;
    for offset in [4, 5] {
        if offset == 4 {
            let joined = ServerFrame::Joined(joined_frame(ROOM, 5));
            assert_eq!((tcp.next().await, json.next().await), (Some(joined.clone()), Ok(joined)));
        }
        assert_eq!((tcp.next().await, json.next().await), (Some(chat(ROOM, offset)), Ok(chat(ROOM, offset))));
    }
    let asked = owner.asked();
    assert!(asked.iter().all(|ask| ask.resume == resume && ask.room == room_id(ROOM)));
    for offset in 6..50 {
        owner.chat(1, offset).await;
    }
    for offset in 6..50 {
        assert_eq!((tcp.next().await, json.next().await), (Some(chat(ROOM, offset)), Ok(chat(ROOM, offset))));
    }
    // A gift and a kick, from the owner's side.
    let gift = said(ROOM, Chain::Gifts, item::GIFT, 1, 50);
    let urgent = RoomFrame { urgent: true, ..to_all(&gift) };
    let kick = RoomOrder::Kick { user: "ann".parse().unwrap() };
    owner.publish(1, RoomClass::High, vec![urgent], vec![kick]).await;
    assert_eq!((tcp.next().await, json.next().await), (Some(gift.clone()), Ok(gift)));
    assert_eq!(tcp.next().await, Some(left(ROOM, LeftReason::Kicked)));
    assert!(owner.is_heard().await);
    json.send(&ClientFrame::Leave(Leave { room: room_id(ROOM) })).await;
    assert_eq!(json.next().await, Ok(left(ROOM, LeftReason::Left)));
    wait_for("the room to be left alone", SOON, || async {
        if owner.is_heard().await { Err("still listened to") } else { Ok(()) }
    })
    .await;
    enter_again(&owner, &mut tcp).await;
}

async fn enter_again(owner: &Owner, client: &mut Tcp) {
    owner.will_say(vec![joined(1, 49, &[])]);
    enter(client, 49).await;
    owner.chat(1, 50).await;
    assert_eq!(client.next().await, Some(chat(ROOM, 50)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_waits_for_an_owner_within_its_bound_and_is_told_what_is_wrong() {
    let mesh = Mesh::start().await;
    let (_ingest, comet) = tokio::join!(
        mesh.ingest(),
        mesh.comet("comet-1", |config| config.rooms.join_within = Duration::from_millis(700))
    );
    let (mut client, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    client.send(&join(ROOM)).await;
    let refused = client.error().await;
    assert_eq!((refused.error, refused.room), (ErrorCode::NotServed, Some(room_id(ROOM))), "there is no such service");
    let _fanout = mesh.member("room-fanout", "room-fanout-1", "").await;
    // Once the comet has heard of it, the client is to come again.
    loop {
        client.send(&join(ROOM)).await;
        let refused = client.error().await;
        assert_eq!(refused.room, Some(room_id(ROOM)));
        if refused.error == ErrorCode::Unavailable {
            break assert!(refused.retry_after_ms >= Some(500), "{refused:?}");
        }
    }
    // Another one has more time, and knows from its start that there is such a service.
    let comet = mesh.comet("comet-2", |_| {}).await;
    let (mut client, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let owner = Owner::start(&mesh).await;
    owner.will_say(vec![RoomAnswer::NotReady, RoomAnswer::NotReady, joined(9, 3, &[])]);
    enter(&mut client, 3).await;
    assert_eq!(owner.asked().len(), 3);
    client.send(&ClientFrame::Leave(Leave { room: room_id(ROOM) })).await;
    client.next().await.unwrap();
    owner.will_say(vec![RoomAnswer::Closed]);
    client.send(&join(ROOM)).await;
    let refused = client.error().await;
    assert_eq!((refused.error, refused.room), (ErrorCode::Forbidden, Some(room_id(ROOM))));
    // Who owned it before owns it no more, whatever he says.
    owner.will_say(vec![joined(8, 1, &[]), joined(10, 4, &[])]);
    enter(&mut client, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_an_owner_that_is_no_longer_reach_nobody() {
    let mesh = Mesh::start().await;
    let (_ingest, owner, comet) = tokio::join!(mesh.ingest(), Owner::start(&mesh), mesh.comet("comet-1", |_| {}));
    let (mut client, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    enter(&mut client, 0).await;
    for (epoch, offset) in [(5, 1), (6, 2), (5, 90), (6, 3), (4, 91), (7, 4)] {
        owner.chat(epoch, offset).await;
    }
    for offset in 1..=4 {
        assert_eq!(client.next().await, Some(chat(ROOM, offset)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_told_who_is_there_and_everybody_how_full_the_comet_is() {
    let mesh = Mesh::start().await;
    let mut presence = mesh.bus.subscribe(Subject::room_presence(partition()).into()).await.unwrap();
    let mut statuses = mesh.bus.subscribe(Filter::comet_statuses()).await.unwrap();
    let (_ingest, owner) = tokio::join!(mesh.ingest(), Owner::start(&mesh));
    let comet = mesh
        .comet("comet-1", |config| {
            config.limits.connections = 77;
            config.tcp_address = "tcp://edge.example:7".into();
        })
        .await;
    let (mut ann, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let (mut ben, _) = Tcp::log_in(&comet, login(&mesh.token("ben", None))).await;
    enter(&mut ann, 0).await;
    enter(&mut ben, 0).await;
    let members = |report: &RoomPresence| {
        assert_eq!(report.comet, comet.instance);
        report.rooms.iter().find(|count| count.room == room_id(ROOM)).map(|count| count.members)
    };
    while members(&next(&mut presence).await) != Some(2) {}
    // A new owner asks.
    owner.publish(1, RoomClass::Normal, vec![], vec![RoomOrder::Recount]).await;
    loop {
        let report: RoomPresence = next(&mut presence).await;
        if report.whole {
            assert_eq!((members(&report), report.rooms.len()), (Some(2), 1));
            break;
        }
    }
    let full = loop {
        let status: CometStatus = next(&mut statuses).await;
        if status.connections == 2 && status.rooms == 1 {
            break status;
        }
    };
    assert_eq!((full.capacity, full.draining), (77, false));
    assert_eq!(full.websocket, format!("ws://{}", comet.websocket()));
    assert_eq!(full.tcp, "tcp://edge.example:7");
    drop(ann);
    while members(&next(&mut presence).await) != Some(1) {}
    let drained = tokio::spawn(comet.drain());
    while !next::<CometStatus>(&mut statuses).await.draining {}
    drained.await.unwrap();
    drop(ben);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_sends_each_client_to_a_door_like_its_own_where_there_is_room() {
    let mesh = Mesh::start().await;
    let (_ingest, going, roomy, full) = tokio::join!(
        mesh.ingest(),
        mesh.comet("comet-1", |_| {}),
        mesh.comet("comet-2", |_| {}),
        mesh.comet("comet-3", |config| {
            config.limits.connections = 1;
            config.limits.per_address = 1;
        })
    );
    let (_last_place, _) = Tcp::log_in(&full, login(&mesh.token("zoe", None))).await;
    let mut statuses = mesh.bus.subscribe(Filter::comet_statuses()).await.unwrap();
    let (mut tcp, mut ws): (Vec<(Tcp, LoginOk)>, Vec<Ws>) = (Vec::new(), Vec::new());
    for number in 0..10 {
        tcp.push(Tcp::log_in(&going, login(&mesh.token(&format!("tcp-{number}"), None))).await);
        ws.push(Ws::login(&going, Encoding::Json, &mesh.token(&format!("ws-{number}"), None)).await.0);
    }
    let (tcp_door, ws_door) = (format!("tcp://{}", roomy.tcp()), format!("ws://{}", roomy.websocket()));
    // Twice from each: by then the one that goes has heard it too.
    let (mut of_full, mut of_roomy) = (0, 0);
    while of_full < 2 || of_roomy < 2 {
        let status: CometStatus = next(&mut statuses).await;
        of_full += u32::from(status.capacity == 1 && status.connections == 1);
        of_roomy += u32::from(status.tcp == tcp_door);
    }
    let goodbye = tokio::spawn(going.drain());
    for (client, _) in &mut tcp {
        let Some(ServerFrame::Reconnect(Reconnect { address, .. })) = client.next().await else {
            panic!("no RECONNECT")
        };
        assert_eq!(address.as_deref(), Some(tcp_door.as_str()));
    }
    for client in &mut ws {
        let Ok(ServerFrame::Reconnect(Reconnect { address, .. })) = client.next().await else { panic!("no RECONNECT") };
        assert_eq!(address.as_deref(), Some(ws_door.as_str()));
    }
    drop((tcp, ws));
    goodbye.await.unwrap();
}
