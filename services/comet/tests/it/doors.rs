//! Logging in, being told, asking and leaving, through every door.

use comet::{
    address::Address,
    framing::Dialect,
    shard::{
        command::Urgent,
        outlet::{AckEvent, Asked, EndingKind},
    },
};
use pushmesh_protocol::{
    frame::{
        Ack, App, AppBody, CallsQuery, ClientFrame, Encoding, ErrorCode, KickReason, Logout, Ping, Pong, ServerFrame,
    },
    message::AckOutcome,
};
use tokio_tungstenite::tungstenite;

use crate::harness::*;

#[tokio::test]
async fn every_door_and_encoding_logs_in_pings_is_told_and_acknowledges() {
    let comet = Comet::start(config());
    let (mut pack, a) = Ws::login(&comet, Encoding::MessagePack, "user:ann").await;
    let (mut json, b) = Ws::login(&comet, Encoding::Json, "user:ann").await;
    let (mut tcp, c) = Tcp::login(&comet, "user:ann").await;
    assert_eq!([a.dialect, b.dialect, c.dialect], DIALECTS);
    for (number, to) in [a, b, c].into_iter().enumerate() {
        comet.push(to, [encode(to, &push(number as u64, 10))]).await;
    }
    pack.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(pack.next().await.unwrap(), push(0, 10));
    assert_eq!(pack.next().await.unwrap(), ServerFrame::Pong(Pong {}));
    assert_eq!(json.next().await.unwrap(), push(1, 10));
    assert_eq!(tcp.next().await.unwrap(), push(2, 10));
    json.raw(tungstenite::Message::Ping(b"now"[..].into())).await;
    json.send(&ClientFrame::Ack(Ack { ids: vec![push_id(1)] })).await;
    let (from, pushes) = comet
        .until("the acknowledgement", |seen| match seen.acks.pop() {
            Some(AckEvent::Acked { from, pushes, .. }) => Some((from, pushes)),
            _ => None,
        })
        .await;
    assert_eq!((from, pushes), (b, vec![push_id(1)]));
}

#[tokio::test]
async fn what_comes_before_login_ok_waits_for_it_and_what_comes_for_nobody_is_told() {
    let comet = Comet::start(config());
    let mut client = Tcp::connect(&comet).await;
    client.send(&login("hold")).await;
    // Said too early, and read after the login.
    client.send(&ClientFrame::Ping(Ping {})).await;
    let address = comet.until("the login", |seen| seen.logins.pop()).await;
    comet.push(address, (0..3).map(|number| encode(address, &push(number, 10)))).await;
    comet.push(Address { nonce: 1, ..address }, [encode(address, &push(9, 10))]).await;
    let gone = |event: &AckEvent| matches!(event, AckEvent::Undelivered { outcome: AckOutcome::Gone, .. });
    comet.until("the answer for nobody", |seen| seen.acks.iter().any(gone).then_some(())).await;
    comet.release();
    assert!(matches!(client.next().await, Some(ServerFrame::LoginOk(_))));
    for number in 0..3 {
        assert_eq!(client.next().await, Some(push(number, 10)));
    }
    assert_eq!(client.next().await, Some(ServerFrame::Pong(Pong {})));
}

#[tokio::test]
async fn a_connections_end_is_told_by_its_kind() {
    let comet = Comet::start(config());
    let (mut tcp, first) = Tcp::login(&comet, "user:ann").await;
    tcp.send(&ClientFrame::Logout(Logout {})).await;
    tcp.expect_end().await;
    let (mut ws, second) = Ws::login(&comet, Encoding::Json, "user:ben").await;
    ws.send(&ClientFrame::Logout(Logout {})).await;
    ws.expect_close(1000).await;
    let (mut kicked, third) = Ws::login(&comet, Encoding::MessagePack, "user:cay").await;
    comet.kick(third, KickReason::Replaced).await;
    assert!(matches!(kicked.next().await, Ok(ServerFrame::Kick(kick)) if kick.reason == KickReason::Replaced));
    kicked.expect_close(4001).await;
    let (dropped, fourth) = Tcp::login(&comet, "user:dee").await;
    drop(dropped);
    let (mut civil, fifth) = Ws::login(&comet, Encoding::MessagePack, "user:eve").await;
    civil.socket.close(None).await.unwrap();
    let expected = [
        (first, EndingKind::Logout),
        (second, EndingKind::Logout),
        (third, EndingKind::Left),
        (fourth, EndingKind::Left),
        (fifth, EndingKind::Left),
    ];
    for (address, how) in expected {
        let ended = |ending: &&comet::shard::outlet::Ending| ending.session.address == address;
        let found = comet.until("the end", |seen| seen.endings.iter().find(ended).map(|ending| ending.how)).await;
        assert_eq!(found, how);
    }
    assert_eq!(comet.door.open(), 5, "their places are kept until the ends are written");
    comet.seen.lock().unwrap().endings.clear();
    assert_eq!((comet.door.open(), sessions(&comet).await), (0, 0));
}

#[tokio::test]
async fn questions_are_passed_on_answered_and_bounded() {
    let mut config = config();
    config.limits.questions = 2;
    let comet = Comet::start(config);
    let (mut client, address) = Tcp::login(&comet, "user:ann").await;
    client.send(&ClientFrame::Calls(CallsQuery { re: 5 })).await;
    let body = AppBody { re: Some(6), data: "hi".into() };
    client.send(&ClientFrame::App(App { code: 1000, body })).await;
    client.send(&ClientFrame::Calls(CallsQuery { re: 7 })).await;
    let refused = client.error().await;
    assert_eq!((refused.error, refused.re), (ErrorCode::TooFast, Some(7)));
    assert!(refused.message.contains("limits.questions"), "{}", refused.message);
    let asked = comet.until("both questions", |seen| (seen.questions.len() == 2).then(|| seen.questions.split_off(0)));
    let asked = asked.await;
    assert!(matches!(asked[0].what, Asked::Calls { re: 5 }));
    assert!(matches!(&asked[1].what, Asked::App { code: 1000, re: Some(6), data } if data == &"hi".into()));
    let answer = ServerFrame::Pong(Pong {});
    comet.tell(address, Urgent::Answer { to: address, frame: encode(address, &answer) }).await;
    assert_eq!(client.next().await, Some(answer));
    client.send(&ClientFrame::Calls(CallsQuery { re: 8 })).await;
    comet.until("the third question", |seen| seen.questions.pop()).await;
}

#[tokio::test]
async fn a_goodbye_sends_all_away_and_closes_the_doors() {
    let comet = Comet::start(config());
    let (mut ws, _) = Ws::login(&comet, Encoding::Json, "user:ann").await;
    let (mut tcp, _) = Tcp::login(&comet, "user:ben").await;
    let mut newcomer = Tcp::connect(&comet).await;
    for queues in &comet.queues {
        queues.urgent.send(Urgent::StopAccepting).await.unwrap();
        // As at the end of the goodbye, when whoever is left is told at once.
        let count = usize::MAX >> 1;
        queues.urgent.send(Urgent::Goodbye { count, after_most_ms: 400 }).await.unwrap();
    }
    for told in [ws.next().await.ok(), tcp.next().await] {
        let Some(ServerFrame::Reconnect(reconnect)) = told else { panic!("no RECONNECT but {told:?}") };
        assert!(reconnect.after_ms <= 400);
        assert_eq!(reconnect.address, None, "this comet knows of no other");
    }
    ws.expect_close(1012).await;
    tcp.expect_end().await;
    assert_eq!(newcomer.error().await.error, ErrorCode::Unavailable);
    comet.until("both ends", |seen| (seen.endings.len() == 2).then_some(())).await;
    pushmesh_testkit::wait_for("closed doors", SOON, || async {
        match tokio::net::TcpStream::connect(comet.tcp).await {
            Err(_) => Ok(()),
            Ok(_) => Err("still accepted"),
        }
    })
    .await;
}

#[tokio::test]
async fn frames_split_anywhere_are_read_as_one() {
    let comet = Comet::start(config());
    let frames = [tcp_frame(&login("user:ann")), tcp_frame(&ClientFrame::Ping(Ping {}))].concat();
    for cut in 1..frames.len() {
        let mut client = Tcp::connect(&comet).await;
        client.stream.set_nodelay(true).unwrap();
        let (first, second) = frames.split_at(cut);
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, first).await.unwrap();
        tokio::task::yield_now().await;
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, second).await.unwrap();
        assert!(matches!(client.next().await, Some(ServerFrame::LoginOk(_))), "cut at {cut}");
        assert_eq!(client.next().await, Some(ServerFrame::Pong(Pong {})), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_login_in_single_bytes_and_fragments_is_still_a_login() {
    use tokio::io::AsyncWriteExt;
    let comet = Comet::start(config());
    let mut stream = tokio::net::TcpStream::connect(comet.websocket).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: pushmesh.v1.json\r\n\r\n";
    let text = login("user:ann").encode(Encoding::Json);
    let (begin, end) = text.split_at(20);
    let bytes = [request.as_bytes(), &masked(0x01, begin), &masked(0x89, b"?"), &masked(0x80, end)].concat();
    for byte in &bytes {
        stream.write_all(std::slice::from_ref(byte)).await.unwrap();
    }
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("LOGIN_OK") {
        let read = tokio::time::timeout(SOON, tokio::io::AsyncReadExt::read_buf(&mut stream, &mut answer)).await;
        assert!(read.unwrap().unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.windows(3).any(|bytes| bytes == [0x8a, 1, b'?']), "the ping is answered");
    assert_eq!(Dialect::WebSocketJson, comet.until("the login", |seen| seen.logins.pop()).await.dialect);
}

#[tokio::test]
async fn a_door_is_shared_by_shards_and_by_nobody_else() {
    let comet = Comet::start(config());
    let taken = comet::socket::listeners(comet.tcp, 2, &config().socket).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}
