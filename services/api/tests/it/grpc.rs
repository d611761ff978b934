//! The second door: the same operations, told in its own way.

use std::cell::Cell;

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{
    FindCometsRequest, GetHistoryRequest, GetRankingRequest, GetRoomRequest, GetTotalsRequest, GetUserRequest,
    KickRequest, ListMyCallsRequest, MuteRequest, PushManyRequest, RoomChain, RoomRole, RoomState, SendGiftRequest,
    SendLikesRequest, SendMessageRequest, SendNoteRequest, SetRoleRequest, SetStateRequest, UnmuteRequest,
    broadcasts_client::BroadcastsClient, online_client::OnlineClient, rooms_client::RoomsClient,
};
use pushmesh_protocol::{frame::Role, room::RoomHappening};
use pushmesh_testkit::{Process, wait_for};
use serde_json::json;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    mesh::{LONG, Mesh, key_of, now},
    peers,
};

struct Grpc {
    rooms: RoomsClient<Channel>,
    online: OnlineClient<Channel>,
    broadcasts: BroadcastsClient<Channel>,
    token: String,
}

impl Grpc {
    async fn at(process: &Process, token: String) -> Self {
        let channel =
            Channel::from_shared(format!("http://{}", process.door("grpc"))).unwrap().connect().await.unwrap();
        Self {
            rooms: RoomsClient::new(channel.clone()),
            online: OnlineClient::new(channel.clone()),
            broadcasts: BroadcastsClient::new(channel),
            token,
        }
    }

    fn of<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }
}

/// Asks, and gives the answer or the status.
macro_rules! ask {
    ($grpc:expr, $client:ident . $method:ident ( $message:expr )) => {{
        let request = $grpc.of($message);
        $grpc.$client.clone().$method(request).await.map(|response| response.into_inner())
    }};
}

/// Code, and what the metadata names.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, key: &str, what: &str) {
    told(answer, code, key, what, if code == Code::InvalidArgument { what } else { "" });
}

/// Like [`refused`], where the message begins with a field.
#[track_caller]
fn told<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, key: &str, what: &str, field: &str) {
    let status = answer.unwrap_err();
    let named = status.metadata().get(key).and_then(|value| value.to_str().ok());
    assert_eq!((status.code(), named), (code, Some(what)), "{status:?}");
    assert!(status.message().starts_with(field), "{status:?}");
}

fn chat(room: &str, from: &str) -> SendMessageRequest {
    let (room, from) = (room.to_owned(), from.to_owned());
    SendMessageRequest { room, r#type: "chat".into(), from, data: "hello".into(), id: String::new() }
}

fn gift(key: &str, value: u64) -> SendGiftRequest {
    let (room, from) = ("stage".into(), "alice".into());
    SendGiftRequest { room, key: key.into(), from, gift: "rose".into(), value, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_lead_to_the_same_gift() {
    let mesh = Mesh::start().await;
    let shop = Grpc::at(&mesh.one, mesh.backend(&[Scope::RoomWrite])).await;
    let key = key_of(now(), 1);
    let first = ask!(shop, rooms.send_gift(gift(&key, 100))).unwrap();
    assert_eq!((first.key.as_str(), first.repeated), (key.as_str(), false));
    let again = ask!(shop, rooms.send_gift(gift(&key, 100))).unwrap();
    assert_eq!((again.sequence, again.repeated), (first.sequence, true));
    let request = json!({"key": key, "from": "alice", "gift": "rose", "value": 100});
    let over_http = mesh.at_two(mesh.backend(&[Scope::RoomWrite])).post("/v1/rooms/stage/gifts", request).await;
    assert_eq!((over_http.sequence(), &over_http.json["repeated"]), (first.sequence, &json!(true)));
    refused(ask!(shop, rooms.send_gift(gift(&key, 101))), Code::AlreadyExists, "field", "key");
    let old = key_of(now() - 2 * 3_600_000, 1);
    refused(ask!(shop, rooms.send_gift(gift(&old, 1))), Code::FailedPrecondition, "error", "key_too_old");
    assert_eq!(mesh.gifts("stage").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_through_it() {
    let mesh = Mesh::start().await;
    let shop = Grpc::at(&mesh.one, mesh.backend(&[Scope::RoomWrite])).await;
    let (room, user) = (String::from("stage"), String::from("bob"));
    let role = RoomRole::Host.into();
    ask!(shop, rooms.set_role(SetRoleRequest { room: room.clone(), user: user.clone(), role })).unwrap();
    ask!(shop, rooms.set_role(SetRoleRequest { room: room.clone(), user: user.clone(), role: 0 })).unwrap();
    let mute = MuteRequest { room: room.clone(), user: user.clone(), for_ms: 60_000 };
    let until = ask!(shop, rooms.mute(mute.clone())).unwrap().until_ms;
    assert!(until.abs_diff(now() + 60_000) < 10_000);
    refused(ask!(shop, rooms.send_message(chat("stage", "bob"))), Code::FailedPrecondition, "error", "muted");
    let note = SendGiftRequest { from: user.clone(), note: "hello".into(), ..gift(&key_of(now(), 1), 5) };
    refused(ask!(shop, rooms.send_gift(note.clone())), Code::FailedPrecondition, "error", "muted");
    refused(ask!(shop, rooms.send_gift(note.clone())), Code::FailedPrecondition, "field", "note");
    ask!(shop, rooms.send_gift(SendGiftRequest { note: String::new(), ..note })).unwrap();
    ask!(shop, rooms.unmute(UnmuteRequest { room: room.clone(), user: user.clone() })).unwrap();
    ask!(shop, rooms.mute(MuteRequest { room: String::new(), ..mute.clone() })).unwrap();
    refused(ask!(shop, rooms.send_message(chat("stage", "bob"))), Code::FailedPrecondition, "error", "muted");
    ask!(shop, rooms.unmute(UnmuteRequest { room: String::new(), user: user.clone() })).unwrap();
    ask!(shop, rooms.kick(KickRequest { room: room.clone(), user: user.clone() })).unwrap();
    ask!(shop, rooms.send_note(SendNoteRequest { room: room.clone(), data: "mind the gap".into() })).unwrap();
    let likes = ask!(shop, rooms.send_likes(SendLikesRequest { room: room.clone(), from: user.clone(), count: 7 }));
    let likes = likes.unwrap();
    assert_eq!((likes.accepted, likes.limit.as_str(), likes.stored_within_ms), (7, "", 200));
    let banned = SetStateRequest { room: room.clone(), banned: Some(true), ..Default::default() };
    let state = ask!(shop, rooms.set_state(banned)).unwrap().state;
    assert_eq!(state, Some(RoomState { open: true, playable: true, banned: true }));
    refused(ask!(shop, rooms.send_message(chat("stage", "bob"))), Code::FailedPrecondition, "error", "room_banned");

    let told: Vec<_> = mesh.happened("stage").await.into_iter().map(|(_, what)| what).collect();
    let bob = "bob".parse().unwrap();
    assert_eq!(told[0], RoomHappening::Role { user: bob, role: Some(Role::Host) });
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(mesh.notes("stage").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_asked_is_answered_as_over_http() {
    let mesh = Mesh::start().await;
    let reader = Grpc::at(&mesh.one, mesh.backend(&[Scope::RoomRead, Scope::RoomWrite])).await;
    let room = String::from("stage");
    let unavailable = ask!(reader, rooms.get_room(GetRoomRequest { room: room.clone() }));
    refused(unavailable, Code::Unavailable, "retry-after-ms", "2000");
    let _owner = peers::owner(&mesh.bus, |ask, _| peers::told(ask)).await;
    let found = ask!(reader, rooms.get_room(GetRoomRequest { room: room.clone() })).unwrap();
    assert_eq!((found.present, found.parts, found.gifts_total, found.likes_total), (17, 2, 400, 5));
    let found = ask!(reader, rooms.get_ranking(GetRankingRequest { room: room.clone(), places: 0 })).unwrap();
    assert_eq!((found.top.len(), found.top[0].user.as_str(), found.gifts_total), (3, "u0", 24));

    let sequence = ask!(reader, rooms.send_message(chat("stage", "alice"))).unwrap().sequence;
    let history = GetHistoryRequest { room: room.clone(), ..Default::default() };
    let found = ask!(reader, rooms.get_history(history.clone())).unwrap();
    assert_eq!((found.items.len(), found.more), (1, false));
    assert_eq!(
        (found.items[0].offset, found.items[0].from.as_str(), &found.items[0].data[..]),
        (sequence, "alice", &b"hello"[..])
    );
    let after = GetHistoryRequest { after: sequence, chain: RoomChain::High.into(), ..history };
    assert!(ask!(reader, rooms.get_history(after)).unwrap().items.is_empty());

    let nowhere = ask!(reader, online.find_comets(FindCometsRequest { transport: String::new() }));
    refused(nowhere, Code::Unavailable, "retry-after-ms", "1000");
    let _comet = peers::comet(&mesh.bus, "one", peers::status("one", 4, 10));
    wait_for("the comet", LONG, async || {
        match ask!(reader, online.find_comets(FindCometsRequest { transport: "ws".into() })) {
            Ok(found) if found.candidates[0].address == "ws://one:1" => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    assert_eq!(ask!(reader, online.get_totals(GetTotalsRequest {})).unwrap().connections, 4);
    assert!(ask!(reader, online.get_user(GetUserRequest { user: "alice".into() })).unwrap().devices.is_empty());
    refused(ask!(reader, online.list_my_calls(ListMyCallsRequest {})), Code::PermissionDenied, "error", "forbidden");
    let alice = Grpc::at(&mesh.one, mesh.client("alice")).await;
    assert!(ask!(alice, online.list_my_calls(ListMyCallsRequest {})).unwrap().calls.is_empty());

    let pusher = Grpc::at(&mesh.one, mesh.backend(&[Scope::PushWrite])).await;
    let users = vec!["alice".to_owned(), "bob".to_owned()];
    let push =
        PushManyRequest { users, sender: "shop".into(), id: "x".into(), data: "hi".into(), ..Default::default() };
    let done = ask!(pusher, broadcasts.push_many(push.clone())).unwrap();
    assert_eq!((done.stored, done.unknown.len()), (2, 0));
    let bad = PushManyRequest { users: vec!["alice".into(), "a.b".into()], ..push.clone() };
    refused(ask!(pusher, broadcasts.push_many(bad)), Code::InvalidArgument, "field", "users[1]");
    let bad = PushManyRequest { lifetime_ms: u64::MAX, ..push.clone() };
    refused(ask!(pusher, broadcasts.push_many(bad)), Code::InvalidArgument, "field", "lifetime_ms");
    let bad = PushManyRequest { policy: 9, ..push };
    refused(ask!(pusher, broadcasts.push_many(bad)), Code::InvalidArgument, "field", "policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_by_its_field_and_too_often_by_its_limit() {
    let mesh = Mesh::start().await;
    let shop = Grpc::at(&mesh.one, mesh.backend(&[Scope::RoomWrite, Scope::RoomRead])).await;
    let long = "x".repeat(5000);
    for bad in ["a.b", "*", ">", "a b", "a\r\nb", "a\0b", "é", long.as_str()] {
        refused(ask!(shop, rooms.send_message(chat(bad, "bob"))), Code::InvalidArgument, "field", "room");
        refused(ask!(shop, rooms.send_message(chat("stage", bad))), Code::InvalidArgument, "field", "from");
        let bad_type = SendMessageRequest { r#type: bad.into(), ..chat("stage", "bob") };
        refused(ask!(shop, rooms.send_message(bad_type)), Code::InvalidArgument, "field", "type");
        refused(ask!(shop, rooms.send_gift(gift(bad, 1))), Code::InvalidArgument, "field", "key");
        let user = GetUserRequest { user: bad.into() };
        refused(ask!(shop, online.get_user(user)), Code::InvalidArgument, "field", "user");
    }
    refused(ask!(shop, rooms.send_message(chat("", "bob"))), Code::InvalidArgument, "field", "room");
    let empty = SendMessageRequest { data: "".into(), ..chat("stage", "bob") };
    refused(ask!(shop, rooms.send_message(empty)), Code::InvalidArgument, "field", "data");
    let large = SendMessageRequest { data: vec![0; 4097].into(), ..chat("stage", "bob") };
    refused(ask!(shop, rooms.send_message(large)), Code::InvalidArgument, "field", "data");
    let (room, user) = (String::from("stage"), String::from("bob"));
    let short = MuteRequest { room: room.clone(), user: user.clone(), for_ms: 0 };
    refused(ask!(shop, rooms.mute(short)), Code::InvalidArgument, "field", "for_ms");
    refused(
        ask!(shop, rooms.set_role(SetRoleRequest { room: room.clone(), user, role: 9 })),
        Code::InvalidArgument,
        "field",
        "role",
    );
    let ranking = GetRankingRequest { room: room.clone(), places: 1001 };
    refused(ask!(shop, rooms.get_ranking(ranking)), Code::InvalidArgument, "field", "places");
    let history = GetHistoryRequest { room: room.clone(), chain: 7, ..Default::default() };
    refused(ask!(shop, rooms.get_history(history)), Code::InvalidArgument, "field", "chain");
    let history = GetHistoryRequest { room, limit: 501, ..Default::default() };
    refused(ask!(shop, rooms.get_history(history)), Code::InvalidArgument, "field", "limit");
    let comets = FindCometsRequest { transport: "udp".into() };
    refused(ask!(shop, online.find_comets(comets)), Code::InvalidArgument, "field", "transport");

    let alice = Grpc::at(&mesh.one, mesh.client("alice")).await;
    ask!(alice, rooms.send_message(chat("stage", ""))).unwrap();
    let taken = Cell::new(1);
    let too_fast = wait_for("a line too many", LONG, async || {
        let answer = ask!(alice, rooms.send_message(chat("stage", "")));
        // A second has passed: it may say one more.
        taken.set(taken.get() + usize::from(answer.is_ok()));
        if answer.is_err() { Ok(answer) } else { Err("it was taken") }
    })
    .await;
    refused(too_fast, Code::ResourceExhausted, "limit", "chat_per_user");
    refused(ask!(alice, rooms.send_message(chat("stage", "bob"))), Code::PermissionDenied, "field", "from");
    refused(ask!(alice, online.get_totals(GetTotalsRequest {})), Code::PermissionDenied, "error", "forbidden");
    let stranger = Grpc::at(&mesh.one, "nonsense".into()).await;
    refused(ask!(stranger, rooms.send_message(chat("a.b", ""))), Code::Unauthenticated, "error", "unauthenticated");
    assert_eq!(mesh.chat("stage").await.len(), taken.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_by_the_limits_name() {
    let mesh = Mesh::start_with(&["service.limits.body_max_bytes=2048"]).await;
    let shop = Grpc::at(&mesh.one, mesh.backend(&[Scope::RoomWrite, Scope::PushWrite])).await;
    let of = |bytes: usize| SendMessageRequest { data: vec![b'x'; bytes].into(), ..chat("stage", "") };
    ask!(shop, rooms.send_message(of(2000))).unwrap();
    let large = "x".repeat(2048);
    for answer in [
        ask!(shop, rooms.send_message(of(2048))).map(drop),
        ask!(shop, online.find_comets(FindCometsRequest { transport: large })).map(drop),
    ] {
        told(answer.clone(), Code::InvalidArgument, "limit", "body_max_bytes", "body");
        told(answer, Code::InvalidArgument, "error", "too_large", "body");
    }
    let users = |count: usize| (0..count).map(|number| format!("{number:0>64}")).collect();
    let push = |count| PushManyRequest {
        users: users(count),
        sender: "shop".into(),
        id: "x".into(),
        data: "now".into(),
        ..Default::default()
    };
    assert_eq!(ask!(shop, broadcasts.push_many(push(1000))).unwrap().stored, 1000);
    let too_many = ask!(shop, broadcasts.push_many(push(1001))).map(drop);
    told(too_many, Code::InvalidArgument, "limit", "push_users", "users");
    let too_large = ask!(shop, broadcasts.push_many(push(4000))).map(drop);
    told(too_large, Code::InvalidArgument, "limit", "large_body_bytes", "body");
    assert_eq!(mesh.chat("stage").await.len(), 1);
}
