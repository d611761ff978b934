//! One example of every frame and of the messages that push services, ack-retry and comets exchange, and of every branch
//! that they may take.

use pushmesh_protocol::{Partition, Payload, PushId, TraceContext, Unit, frame::*, message};

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

pub fn orders() -> Vec<message::PushOrder> {
    let login = message::Target::Login { login_id: "l1".parse().unwrap(), device: "phone".parse().unwrap() };
    let told = delivery(login, message::Body::Call(call(Some("topic".into()))), message::AtEnd::Dead);
    let said = Message { sender: "billing".parse().unwrap(), data: Payload::from(vec![0xff, 0x00, 0x80]) };
    let said = delivery(message::Target::User, message::Body::Message(said), message::AtEnd::Inbox);
    let untraced = message::Delivery {
        body: message::Body::Call(call(None)),
        policy: message::Policy { at_end: message::AtEnd::Drop, lifetime_ms: 1 },
        source: None,
        trace: None,
        ..told.clone()
    };
    let withdrawal = message::Withdrawal {
        id: id(9),
        push: id(8),
        user: "alice".parse().unwrap(),
        login_id: "l1".parse().unwrap(),
        device: "phone".parse().unwrap(),
        kind: "group".parse().unwrap(),
        call_id: "call-1".parse().unwrap(),
        at: 1_700_000_000_001,
        source: told.source.clone(),
        trace: trace(),
    };
    let ended = message::LoginEnded {
        user: "alice".parse().unwrap(),
        login_id: "l1".parse().unwrap(),
        kind: "org".parse().unwrap(),
        at: 1_700_000_000_002,
        by: None,
    };
    let successor = message::Successor { login_id: "l2".parse().unwrap(), at: 1_700_000_000_002 };
    let by = |successor| Some(message::EndedBy { sequence: u64::MAX, successor });
    vec![
        message::PushOrder::Deliver(told),
        message::PushOrder::Deliver(said),
        message::PushOrder::Deliver(untraced),
        message::PushOrder::Withdraw(withdrawal),
        message::PushOrder::LoginEnded(message::LoginEnded { by: by(None), ..ended.clone() }),
        message::PushOrder::LoginEnded(message::LoginEnded { by: by(Some(successor)), ..ended.clone() }),
        message::PushOrder::LoginEnded(ended),
    ]
}

pub fn comet_batches() -> Vec<message::CometBatch> {
    let ended = server().into_iter().find_map(|(_, frame)| match frame {
        ServerFrame::CallEnded(ended) => Some(ended),
        _ => None,
    });
    let orders = [
        message::CometOrder::Push(push(PushBody::Call(call(None)))),
        message::CometOrder::CallEnded(ended.unwrap()),
        message::CometOrder::Kick(Kick { reason: KickReason::Replaced }),
    ];
    let item = |order| message::CometItem {
        partition: Partition(7),
        epoch: 70_000,
        user: "alice".parse().unwrap(),
        conn_id: "c1".parse().unwrap(),
        trace: if matches!(order, message::CometOrder::Kick(_)) { None } else { trace() },
        order,
    };
    vec![message::CometBatch { items: vec![] }, message::CometBatch { items: orders.map(item).into() }]
}

pub fn ack_batches() -> Vec<message::AckBatch> {
    let outcomes = [message::AckOutcome::Acked, message::AckOutcome::Gone, message::AckOutcome::Fenced];
    let item = |outcome| message::AckItem {
        user: "alice".parse().unwrap(),
        conn_id: "c1".parse().unwrap(),
        push: id(8),
        trace: trace().filter(|_| outcome == message::AckOutcome::Acked),
        outcome,
    };
    let batch = |items| message::AckBatch { comet: "comet-1".parse().unwrap(), comet_epoch: 3, items };
    vec![batch(vec![]), batch(outcomes.map(item).into())]
}

pub fn pendings() -> Vec<message::Pending> {
    let pending = |(tries, order)| message::Pending {
        order,
        seq: 42,
        tries,
        state: if tries == 0 { message::PendingState::Inbox } else { message::PendingState::Trying },
        at: 1_700_000_000_003,
        logins: (0..tries).map(|number| format!("l{number}").parse().unwrap()).collect(),
    };
    (0..).zip(orders()).map(pending).collect()
}

pub fn sessions() -> Vec<message::Session> {
    let session = |left| message::Session {
        login_id: "l1".parse().unwrap(),
        device: "phone".parse().unwrap(),
        comet: "comet-1".parse().unwrap(),
        comet_epoch: 3,
        since: 1_700_000_000_000,
        left,
    };
    vec![session(None), session(Some(1_700_000_000_004))]
}

pub fn call_records() -> Vec<message::CallRecord> {
    let going_on = message::CallRecord {
        unit: Unit::new("net/verizon").unwrap(),
        started_at: 1_700_000_000_000,
        ended_at: None,
        data: Some("topic".into()),
        trace: trace(),
    };
    let over = message::CallRecord { ended_at: Some(1_700_000_000_005), data: None, trace: None, ..going_on.clone() };
    vec![going_on, over]
}

fn delivery(target: message::Target, body: message::Body, at_end: message::AtEnd) -> message::Delivery {
    message::Delivery {
        id: id(8),
        user: "alice".parse().unwrap(),
        target,
        body,
        policy: message::Policy { at_end, lifetime_ms: 86_400_000 },
        at: 1_700_000_000_000,
        source: Some(message::Source { service: "group-push".parse().unwrap(), epoch: 11 }),
        trace: trace(),
    }
}

fn trace() -> Option<TraceContext> {
    Some(TraceContext { trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span_id: 0xb7ad_6b71_6920_3331 })
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
