//! Behind a balancer that says who connects.

use std::time::Duration;

use comet::{Config, proxy::ProxyProtocol};
use pushmesh_protocol::frame::{Encoding, ErrorCode, ServerFrame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::*;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: pushmesh.v1.json\r\n\r\n";

fn behind_a_balancer() -> Config {
    Config { proxy_protocol: ProxyProtocol::Required, ..config() }
}

fn version_1(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let here = if client.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {client} {here} 40000 443\r\n").into_bytes()
}

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[127, 0, 0, 1], &40_000u16.to_be_bytes(), &443u16.to_be_bytes()].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

async fn connect(comet: &Comet, header: &[u8]) -> Tcp {
    let mut client = Tcp::connect(comet).await;
    client.stream.write_all(header).await.unwrap();
    client.send(&login("user:ann")).await;
    client
}

// All that comes until the comet closes; `None` if it did so with a reset.
async fn rest(mut stream: TcpStream) -> Option<Vec<u8>> {
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("closed in time").ok().map(|_| rest)
}

#[tokio::test]
async fn the_limit_of_one_address_is_the_clients() {
    let mut config = behind_a_balancer();
    config.limits.per_address = 1;
    let comet = Comet::start(config);
    let mut clients = Vec::new();
    for header in
        [version_1("192.0.2.1"), version_2([192, 0, 2, 2]), version_1("2001:db8:0:1::7"), version_1("2001:db8:0:2::7")]
    {
        let mut client = connect(&comet, &header).await;
        assert!(matches!(client.next().await, Some(ServerFrame::LoginOk(_))));
        clients.push(client);
    }
    for header in [version_2([192, 0, 2, 1]), version_1("192.0.2.2"), version_1("2001:db8:0:2::8")] {
        let mut client = connect(&comet, &header).await;
        let error = client.error().await;
        assert_eq!(error.error, ErrorCode::Full);
        assert!(error.message.contains("limits.per_address of 1"), "{}", error.message);
        client.expect_end().await;
    }
}

#[tokio::test]
async fn both_doors_read_a_header_in_whatever_pieces_it_comes() {
    let comet = Comet::start(behind_a_balancer());
    let upgrade = [UPGRADE, &masked(0x81, &login("user:ann").encode(Encoding::Json))].concat();
    let tcp = tcp_frame(&login("user:ann"));
    for header in [version_1("192.0.2.1"), version_2([192, 0, 2, 1])] {
        for (door, said, answer) in [(comet.websocket, &upgrade, &b"LOGIN_OK"[..]), (comet.tcp, &tcp, b"login-of-ann")]
        {
            let all = [&header[..], said].concat();
            for pieces in [vec![&all[..]], vec![&header[..], said], all.chunks(1).collect()] {
                let mut stream = TcpStream::connect(door).await.unwrap();
                stream.set_nodelay(true).unwrap();
                for piece in pieces {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let mut answered = Vec::new();
                while !answered.windows(answer.len()).any(|window| window == answer) {
                    let read = tokio::time::timeout(SOON, stream.read_buf(&mut answered)).await;
                    assert!(read.unwrap().unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&answered));
                }
            }
        }
    }
    // The balancer's own: it looks whether the comet lives.
    let mut health = connect(&comet, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    assert!(matches!(health.next().await, Some(ServerFrame::LoginOk(_))));
}

#[tokio::test]
async fn who_says_no_header_is_closed_without_a_word() {
    let mut config = behind_a_balancer();
    config.limits.handshake_within = Duration::from_millis(300);
    let comet = Comet::start(config);
    let cases = [
        UPGRADE.to_vec(),
        tcp_frame(&login("user:ann")),
        b"PROXY TCP4 192.0.2.1 127.0.0.1 40000\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1".to_vec(),
        version_2([192, 0, 2, 1])[..20].to_vec(),
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &[0; 200][..]].concat(),
    ];
    for bytes in cases {
        for door in [comet.websocket, comet.tcp] {
            let mut stream = TcpStream::connect(door).await.unwrap();
            // The comet may have closed already.
            let _ = stream.write_all(&bytes).await;
            assert!(rest(stream).await.is_none_or(|said| said.is_empty()), "{bytes:x?}");
        }
    }
    pushmesh_testkit::wait_for("their places", SOON, || async {
        if comet.door.open() == 0 { Ok(()) } else { Err(format!("{} open", comet.door.open())) }
    })
    .await;
    assert!(comet.seen.lock().unwrap().logins.is_empty());
}

#[tokio::test]
async fn a_second_header_is_the_clients_word_and_no_handshake() {
    let comet = Comet::start(behind_a_balancer());
    let second = [version_1("192.0.2.1"), version_1("192.0.2.1")].concat();
    let mut stream = TcpStream::connect(comet.websocket).await.unwrap();
    stream.write_all(&second).await.unwrap();
    let said = rest(stream).await.expect("an answer");
    assert!(said.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn only_trusted_balancers_may_say_who_connects() {
    for (trusted, is_trusted) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let config = Config { trusted_proxies: vec![trusted.parse().unwrap()], ..behind_a_balancer() };
        let comet = Comet::start(config);
        let mut client = Tcp::connect(&comet).await;
        // The comet may have closed already.
        let said = [version_1("192.0.2.1"), tcp_frame(&login("user:ann"))].concat();
        let _ = client.stream.write_all(&said).await;
        assert_eq!(matches!(client.next().await, Some(ServerFrame::LoginOk(_))), is_trusted, "{trusted}");
    }
}

#[tokio::test]
async fn a_full_comet_tells_clients_behind_a_balancer_too() {
    let mut config = behind_a_balancer();
    config.limits.connections = 1;
    let comet = Comet::start(config);
    let mut first = connect(&comet, &version_1("192.0.2.1")).await;
    assert!(matches!(first.next().await, Some(ServerFrame::LoginOk(_))));
    let mut second = connect(&comet, &version_1("192.0.2.2")).await;
    assert_eq!(second.error().await.error, ErrorCode::Full);
    second.expect_end().await;
}
