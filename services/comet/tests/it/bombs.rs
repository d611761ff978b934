//! Input that nobody sends by mistake.

use pushmesh_protocol::frame::{ClientFrame, Encoding, ErrorCode, Ping, Pong, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
