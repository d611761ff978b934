//! Input that nobody sends by mistake.

use pushmesh_protocol::frame::{ClientFrame, Encoding, Error, ErrorCode, Ping, Pong, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite;

use crate::harness::*;

async fn raw_websocket(comet: &Comet) -> tokio::net::TcpStream {
    let (client, _) = Ws::login(comet, Encoding::MessagePack, "user:mal").await;
    match client.socket.into_inner() {
        tokio_tungstenite::MaybeTlsStream::Plain(stream) => stream,
        _ => panic!("plain"),
    }
}

// All that comes until the comet closes.
async fn rest(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    read.expect("closed in time").expect("closed in order, not reset");
    rest
}

#[tokio::test]
async fn broken_framing_is_told_and_closed_with_the_rfcs_code() {
    let comet = Comet::start(config());
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("reserved bit", masked(0xc2, b"x"), 1002),
        ("opcode", masked(0x83, b"x"), 1002),
        ("unmasked", vec![0x82, 1, 0], 1002),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("2^62 bytes", vec![0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
        ("text", masked(0x81, b"[4,{}]"), 1003),
        ("stray continuation", masked(0x80, b"x"), 1002),
        ("close code", masked(0x88, &[0x03, 0xed]), 1002),
    ];
    for (name, bytes, code) in cases {
        let mut stream = raw_websocket(&comet).await;
        stream.write_all(&bytes).await.unwrap();
        let told = rest(&mut stream).await;
        let close = told.windows(2).rposition(|bytes| bytes == code.to_be_bytes());
        assert!(close.is_some(), "{name}: {told:x?}");
        let error = ServerFrame::decode(Encoding::MessagePack, &told[payload_of(&told)]).unwrap();
        let expected = if code == 1009 { ErrorCode::TooLarge } else { ErrorCode::BadFrame };
        assert!(
            matches!(error, ServerFrame::Error(error) if error.error == expected && error.field.is_some()),
            "{name}"
        );
    }
    let mut client = Tcp::login(&comet, "user:mal").await.0;
    client.stream.write_all(&[0xff; 8]).await.unwrap();
    assert_eq!(client.error().await.error, ErrorCode::TooLarge);
    client.expect_end().await;
}

/// Texts that must never become part of a name, and what is said of them.
fn bad_ids() -> Vec<(String, &'static str)> {
    vec![
        (String::new(), "is empty"),
        ("a.b".into(), "has '.' at byte 1"),
        ("*".into(), "'*'"),
        (">".into(), "'>'"),
        ("a b".into(), "' '"),
        ("a\r\nb".into(), "'\\r'"),
        ("$JS".into(), "'$'"),
        ("é".into(), "'é'"),
        ("a".repeat(5000), "has 5000 bytes; the limit is 64"),
    ]
}

/// The body of a frame, as one that no library would make: a map of texts, and of such maps.
enum Body<'a> {
    Text(&'a str),
    Map(&'a [(&'a str, Body<'a>)]),
}

impl Body<'_> {
    fn json(&self) -> String {
        match self {
            // What these texts have is escaped in JSON as in Rust.
            Self::Text(text) => format!("{text:?}"),
            Self::Map(fields) => {
                let fields: Vec<_> = fields.iter().map(|(key, body)| format!("{key:?}:{}", body.json())).collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    fn pack(&self) -> Vec<u8> {
        let text = |text: &str| [&[0xda][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        match self {
            Self::Text(said) => text(said),
            Self::Map(fields) => {
                let packed = fields.iter().flat_map(|(key, body)| [text(key), body.pack()].concat());
                std::iter::once(0x80 | fields.len() as u8).chain(packed).collect()
            }
        }
    }
}

/// Says a frame as the first of a connection through every door and encoding; what it is told, and the words it is closed with.
async fn said_first(comet: &Comet, (name, code): (&str, u8), body: &Body<'_>) -> Vec<(Error, Option<String>)> {
    let json = format!("[{name:?},{}]", body.json());
    let pack = [&[0x92, code][..], &body.pack()].concat();
    let mut tcp = Tcp::connect(comet).await;
    tcp.stream.write_all(&comet::framing::tcp::write(&pack)).await.unwrap();
    let mut told = vec![(tcp.error().await, None)];
    tcp.expect_end().await;
    for (encoding, message) in [
        (Encoding::Json, tungstenite::Message::text(json)),
        (Encoding::MessagePack, tungstenite::Message::binary(pack)),
    ] {
        let mut ws = Ws::connect(comet, encoding).await;
        ws.raw(message).await;
        let error = ws.error().await;
        told.push((error, ws.next().await.err().map(|(code, words)| format!("{code} {words}"))));
    }
    told
}

#[tokio::test]
async fn a_login_that_cannot_be_read_is_told_which_field_is_wrong() {
    use Body::{Map, Text};
    let mut config = config();
    config.limits.login_frame_bytes = 16 * 1024;
    let comet = Comet::start(config);
    for (body, field, words) in [
        (Map(&[]), "LOGIN.token", "missing field"),
        (Map(&[("token", Text("user:ann"))]), "LOGIN.device", "missing field"),
        (Text("hello"), "LOGIN", "expected"),
    ] {
        for (error, closed) in said_first(&comet, ("LOGIN", 1), &body).await {
            assert_eq!((error.error, error.field.as_deref()), (ErrorCode::BadFrame, Some(field)), "{error:?}");
            assert!(error.message.contains(words), "{error:?}");
            let expected = format!("4010 login refused: {field} is malformed");
            assert!(closed.is_none_or(|closed| closed == expected), "{field}");
        }
    }
    for (id, reason) in bad_ids() {
        for (fields, field) in [
            (&[("token", Text("user:ann")), ("device", Text(&id))][..], "LOGIN.device"),
            (
                &[
                    ("token", Text("user:ann")),
                    ("device", Text("phone")),
                    ("resume", Map(&[("login_id", Text(&id)), ("conn_id", Text("c-1"))])),
                ],
                "LOGIN.resume.login_id",
            ),
            (
                &[
                    ("token", Text("user:ann")),
                    ("device", Text("phone")),
                    ("resume", Map(&[("login_id", Text("l-1")), ("conn_id", Text(&id))])),
                ],
                "LOGIN.resume.conn_id",
            ),
        ] {
            for (error, _) in said_first(&comet, ("LOGIN", 1), &Map(fields)).await {
                assert_eq!((error.error, error.field.as_deref()), (ErrorCode::BadFrame, Some(field)), "{id:.20}");
                assert!(error.message.contains(reason), "{id:.20}: {error:?}");
            }
        }
    }
    // Something else than LOGIN is told so, however badly it is said.
    for (error, closed) in said_first(&comet, ("ACK", 10), &Map(&[])).await {
        assert_eq!(error.field.as_deref(), Some("ACK.ids"));
        assert!(closed.is_none_or(|closed| closed == "4009 the first frame must be LOGIN"));
    }
}

#[tokio::test]
async fn bad_ids_are_refused_by_field_in_every_frame_and_encoding() {
    use Body::{Map, Text};
    let mut config = config();
    config.limits.bad_frames = 255;
    let comet = Comet::start(config);
    let (mut tcp, _) = Tcp::login(&comet, "user:mal").await;
    let (mut pack, _) = Ws::login(&comet, Encoding::MessagePack, "user:mal").await;
    let (mut json, _) = Ws::login(&comet, Encoding::Json, "user:mal").await;
    let ids = bad_ids();
    let mut cases = Vec::new();
    for (name, code) in [("JOIN", 6), ("LEAVE", 7)] {
        for (id, reason) in &ids {
            let fields = [("room", Text(id))];
            let body = Map(&fields);
            cases.push((name, code, body.json(), body.pack(), format!("{name}.room"), *reason));
        }
        cases.push((name, code, Map(&[]).json(), Map(&[]).pack(), format!("{name}.room"), "missing field"));
    }
    cases.push(("ACK", 10, Map(&[]).json(), Map(&[]).pack(), "ACK.ids".into(), "missing field"));
    for (name, code, text, packed, field, reason) in cases {
        let bytes = [&[0x92, code][..], &packed].concat();
        tcp.stream.write_all(&comet::framing::tcp::write(&bytes)).await.unwrap();
        pack.raw(tungstenite::Message::binary(bytes)).await;
        json.raw(tungstenite::Message::text(format!("[{name:?},{text}]"))).await;
        for error in [tcp.error().await, pack.error().await, json.error().await] {
            assert_eq!((error.error, error.field.as_deref()), (ErrorCode::BadFrame, Some(&*field)), "{text:.40}");
            assert!(error.message.contains(reason), "{text:.40}: {error:?}");
        }
    }
    for pong in [tcp_pong(&mut tcp).await, ws_pong(&mut pack).await, ws_pong(&mut json).await] {
        assert_eq!(pong, Some(ServerFrame::Pong(Pong {})));
    }
}

async fn tcp_pong(client: &mut Tcp) -> Option<ServerFrame> {
    client.send(&ClientFrame::Ping(Ping {})).await;
    client.next().await
}

async fn ws_pong(client: &mut Ws) -> Option<ServerFrame> {
    client.send(&ClientFrame::Ping(Ping {})).await;
    client.next().await.ok()
}

fn payload_of(frame: &[u8]) -> std::ops::Range<usize> {
    match frame[1] {
        126 => 4..4 + usize::from(u16::from_be_bytes([frame[2], frame[3]])),
        short => 2..2 + usize::from(short),
    }
}

#[tokio::test]
async fn bombs_are_refused_by_name_and_the_connection_goes_on() {
    let comet = Comet::start(config());
    let (mut client, _) = Tcp::login(&comet, "user:mal").await;
    let deep = [&[0x92, 4][..], &[0x81, 0xa1, b'x'].repeat(1000), &[0xc0]].concat();
    let long_list = [0x92, 10, 0x81, 0xa3, b'i', b'd', b's', 0xdd, 0xff, 0xff, 0xff, 0xff].to_vec();
    let long_text = [&[0x92, 6, 0x81, 0xa4][..], b"room", &[0xdb, 0xff, 0xff, 0xff, 0xff]].concat();
    let long_room = ClientFrame::App(pushmesh_protocol::frame::App {
        code: 1000,
        body: pushmesh_protocol::frame::AppBody { re: None, data: vec![1; 10].into() },
    });
    let trailing = [long_room.encode(Encoding::MessagePack), vec![0xc0]].concat();
    for bomb in [deep, long_list, long_text, trailing, vec![0xc1], vec![0x92, 0xce, 0, 1, 0, 0, 0x80]] {
        client.stream.write_all(&comet::framing::tcp::write(&bomb)).await.unwrap();
        let error = client.error().await;
        assert_eq!(error.error, ErrorCode::BadFrame, "{bomb:x?}");
        assert!(error.field.is_some(), "{error:?}");
    }
    client.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(client.next().await, Some(ServerFrame::Pong(Pong {})));
}

#[tokio::test]
async fn noise_after_a_login_ends_at_most_its_own_connection() {
    let mut config = config();
    config.limits.bad_frames = 255;
    let comet = Comet::start(config);
    let (mut healthy, _) = Tcp::login(&comet, "user:ann").await;
    let app = pushmesh_protocol::frame::AppBody { re: Some(1), data: vec![1; 40].into() };
    let frames = [
        ClientFrame::Ping(Ping {}),
        ClientFrame::Ack(pushmesh_protocol::frame::Ack { ids: vec![push_id(1), push_id(2)] }),
        ClientFrame::Calls(pushmesh_protocol::frame::CallsQuery { re: 3 }),
        ClientFrame::App(pushmesh_protocol::frame::App { code: 1000, body: app }),
        ClientFrame::Join(pushmesh_protocol::frame::Join { room: "r".parse().unwrap(), resume: None }),
        login("user:mal"),
    ];
    let mut random = random();
    for round in 0..60 {
        let (mut stream, websocket) = match round % 2 {
            0 => (raw_websocket(&comet).await, true),
            _ => (Tcp::login(&comet, "user:mal").await.0.stream, false),
        };
        for _ in 0..10 {
            let frame = &frames[random() % frames.len()];
            let body = frame.encode(Encoding::MessagePack);
            let mut bytes = if websocket { masked(0x82, &body) } else { tcp_frame(frame) };
            // Beyond the header, mostly: a broken header ends it at once.
            let from = if random().is_multiple_of(8) { 0 } else { bytes.len() - body.len() };
            let at = from + random() % (bytes.len() - from);
            bytes[at] ^= 1 << (random() % 8);
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
        }
    }
    healthy.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(healthy.next().await, Some(ServerFrame::Pong(Pong {})));
}

// A fixed sequence (Knuth's generator): what fails once fails again.
fn random() -> impl FnMut() -> usize {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    }
}

#[tokio::test]
async fn noise_on_both_doors_leaves_the_comet_well() {
    let comet = Comet::start(config());
    let (mut healthy, _) = Tcp::login(&comet, "user:ann").await;
    let good = [
        (comet.tcp, [tcp_frame(&login("user:mal")), tcp_frame(&ClientFrame::Ping(Ping {}))].concat()),
        (
            comet.websocket,
            [
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Protocol: pushmesh.v1.json\r\n\r\n"
                    .to_vec(),
                masked(0x81, &login("user:mal").encode(Encoding::Json)),
            ]
            .concat(),
        ),
    ];
    let mut random = random();
    for round in 0..400 {
        let (door, mut bytes) = good[round % 2].clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] ^= 1 << (random() % 8);
        }
        bytes.truncate(1 + random() % bytes.len());
        let mut stream = tokio::net::TcpStream::connect(door).await.unwrap();
        // The comet may have closed already.
        let _ = stream.write_all(&bytes).await;
    }
    healthy.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(healthy.next().await, Some(ServerFrame::Pong(Pong {})));
    pushmesh_testkit::wait_for("all noise gone", SOON, || async {
        comet.seen.lock().unwrap().endings.clear();
        match (comet.door.open(), sessions(&comet).await) {
            (1, 1) => Ok(()),
            other => Err(format!("{other:?} places and sessions")),
        }
    })
    .await;
}
