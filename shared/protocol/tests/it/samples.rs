//! One example of every frame, and of every branch a body may take.

use pushmesh_protocol::{Payload, PushId, Unit, frame::*};

pub fn client() -> Vec<(&'static str, ClientFrame)> {
    vec![
        ("login", ClientFrame::Login(login(None))),
        (
            "login_resume",
            ClientFrame::Login(login(Some(Resume { login_id: "l1".parse().unwrap(), conn_id: "c1".parse().unwrap() }))),
        ),
        ("logout", ClientFrame::Logout(Logout {})),
        ("ping", ClientFrame::Ping(Ping {})),
        ("pong", ClientFrame::Pong(Pong {})),
        ("join", ClientFrame::Join(Join { room: "r1".parse().unwrap(), resume: None })),
        ("join_resume", ClientFrame::Join(Join { room: "r1".parse().unwrap(), resume: Some(position()) })),
        ("leave", ClientFrame::Leave(Leave { room: "r1".parse().unwrap() })),
        ("ack", ClientFrame::Ack(Ack { ids: vec![id(1), id(2)] })),
        ("calls", ClientFrame::Calls(CallsQuery { re: 7 })),
        ("app", ClientFrame::App(App { code: 1000, body: AppBody { re: Some(3), data: "hello".into() } })),
    ]
}

pub fn server() -> Vec<(&'static str, ServerFrame)> {
    vec![
        (
            "login_ok",
            ServerFrame::LoginOk(LoginOk {
                user: "alice".parse().unwrap(),
                login_id: "l1".parse().unwrap(),
                conn_id: "c1".parse().unwrap(),
                resumed: false,
                heartbeat: Heartbeat { interval_ms: 25_000, misses: 3 },
                server_time: 1_700_000_000_000,
                frame_max_bytes: 65_536,
            }),
        ),
        ("server_ping", ServerFrame::Ping(Ping {})),
        ("server_pong", ServerFrame::Pong(Pong {})),
        ("push_call", ServerFrame::Push(push(PushBody::Call(call(Some("topic".into())))))),
        ("push_call_no_data", ServerFrame::Push(push(PushBody::Call(call(None))))),
        (
            "push_message",
            ServerFrame::Push(push(PushBody::Message(Message {
                sender: "billing".parse().unwrap(),
                data: Payload::from(vec![0xff, 0x00, 0x80]),
            }))),
        ),
        (
            "call_ended",
            ServerFrame::CallEnded(CallEnded {
                id: id(9),
                seq: 43,
                ends: id(8),
                kind: "group".parse().unwrap(),
                call_id: "call-1".parse().unwrap(),
                at: 1_700_000_000_001,
            }),
        ),
        (
            "calls_answer",
            ServerFrame::Calls(Calls {
                re: 7,
                calls: vec![ActiveCall { id: id(8), call: call(None) }],
                missing: vec!["org".parse().unwrap()],
            }),
        ),
        (
            "joined",
            ServerFrame::Joined(Joined {
                room: "r1".parse().unwrap(),
                position: position(),
                recovered: true,
                state: RoomState { open: true, playable: false, banned: false },
                role: Some(Role::Host),
                muted_until: Some(1_700_000_060_000),
                present: 1204,
                top: vec![Ranked { user: "bob".parse().unwrap(), total: 500 }],
                gifts_total: 510,
                likes_total: 70_000,
            }),
        ),
        ("left", ServerFrame::Left(Left { room: "r1".parse().unwrap(), reason: LeftReason::Kicked })),
        (
            "room",
            ServerFrame::Room(Room {
                room: "r1".parse().unwrap(),
                epoch: 5,
                items: vec![
                    RoomItem {
                        chain: Chain::Gifts,
                        offset: 12,
                        prev: 9,
                        kind: "gift".parse().unwrap(),
                        from: Some("bob".parse().unwrap()),
                        at: 1_700_000_000_002,
                        data: "rose".into(),
                    },
                    RoomItem {
                        chain: Chain::Normal,
                        offset: 4,
                        prev: 0,
                        kind: "state".parse().unwrap(),
                        from: None,
                        at: 1_700_000_000_003,
                        data: Payload::default(),
                    },
                    RoomItem {
                        chain: Chain::Loose,
                        offset: 0,
                        prev: 0,
                        kind: item::LIKE.parse().unwrap(),
                        from: None,
                        at: 1_700_000_000_004,
                        data: item::write(&item::Like { count: 3, total: 70_003 }),
                    },
                ],
                heads: None,
            }),
        ),
        (
            "room_heads",
            ServerFrame::Room(Room { room: "r1".parse().unwrap(), epoch: 5, items: vec![], heads: Some(position()) }),
        ),
        ("gap", ServerFrame::Gap(Gap { room: None, high: 0, normal: 2, low: 31 })),
        ("gap_room", ServerFrame::Gap(Gap { room: Some("r1".parse().unwrap()), high: 0, normal: 0, low: 1 })),
        ("kick", ServerFrame::Kick(Kick { reason: KickReason::Replaced })),
        ("reconnect", ServerFrame::Reconnect(Reconnect { after_ms: 1500, address: Some("ws://b:7400".into()) })),
        (
            "error",
            ServerFrame::Error(Error {
                error: ErrorCode::BadFrame,
                field: Some("device".into()),
                message: "has '.' at byte 1; only A-Z a-z 0-9 _ - are allowed".into(),
                retry_after_ms: None,
                address: None,
                re: None,
                room: None,
            }),
        ),
        ("server_app", ServerFrame::App(App { code: 65_535, body: AppBody { re: None, data: Payload::default() } })),
    ]
}

fn login(resume: Option<Resume>) -> Login {
    Login {
        token: "eyJhbGciOiJIUzI1NiJ9.e30.c2ln".into(),
        device: "phone".parse().unwrap(),
        heartbeat: if resume.is_some() { HeartbeatProfile::Fast } else { HeartbeatProfile::Normal },
        resume,
    }
}

fn position() -> RoomPosition {
    RoomPosition { epoch: 5, gifts: 12, high: 900, normal: 4 }
}

fn push(body: PushBody) -> Push {
    Push { id: id(8), seq: 42, body, at: 1_700_000_000_000 }
}

fn call(data: Option<Payload>) -> Call {
    Call {
        kind: "org".parse().unwrap(),
        call_id: "call-1".parse().unwrap(),
        unit: Unit::new("net/verizon").unwrap(),
        started_at: 1_699_999_999_000,
        data,
    }
}

fn id(last: u8) -> PushId {
    PushId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, last])
}
