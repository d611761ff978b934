//! The client against a scripted comet that speaks real frames over real sockets.

#![allow(clippy::unwrap_used)]

mod api;
mod door;
mod peer;
mod rooms;

use std::time::Duration;

use peer::{Peer, Socket, call, call_ended, call_push, options};
use pushmesh_client::{AskError, Client, Encoding, End, Error, ErrorCode, Event, Events, KickReason, TokenSource};
use pushmesh_protocol::frame::{ActiveCall, App, AppBody, Calls, ClientFrame, Kick, Reconnect, ServerFrame};
use tokio::time::timeout;

/// More than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.expect("an event in time").expect("an event before the end")
}

async fn logged_in(peer: &Peer, events: &mut Events) -> Socket {
    let mut socket = peer.accept().await;
    socket.log_in(&[]).await;
    loop {
        if let Event::LoggedIn(_) = next(events).await {
            return socket;
        }
    }
}

async fn expect_push(events: &mut Events, n: u32) {
    match next(events).await {
        Event::Push(push) => assert_eq!(push.id, call(n).0),
        other => panic!("expected push {n}, not {other:?}"),
    }
}

#[tokio::test]
async fn shows_once_and_acknowledges_every_time_over_tcp() {
    let peer = Peer::tcp().await;
    let (client, mut events) = Client::connect(options(&peer));
    let mut socket = logged_in(&peer, &mut events).await;
    socket.send(&[call_push(1), call_push(2), call_push(1)]).await;
    expect_push(&mut events, 1).await;
    expect_push(&mut events, 2).await;
    assert_eq!(socket.acks(3).await, [call(1).0, call(2).0, call(1).0]);
    socket.send(&[call_ended(1), call_ended(3)]).await;
    assert!(matches!(next(&mut events).await, Event::CallEnded(ended) if ended.ends == call(1).0));
    assert_eq!(socket.acks(2).await, [call(1).0.withdrawal(), call(3).0.withdrawal()]);
    let stats = client.stats();
    assert_eq!((stats.transmissions, stats.duplicates, stats.logins), (5, 1, 1));
}

#[tokio::test]
async fn speaks_both_encodings_over_websocket() {
    for encoding in [Encoding::MessagePack, Encoding::Json] {
        let peer = Peer::websocket().await;
        let mut options = options(&peer);
        options.encoding = encoding;
        let (client, mut events) = Client::connect(options);
        let mut socket = logged_in(&peer, &mut events).await;
        assert_eq!(socket.encoding(), encoding);
        socket.send(&[call_push(1)]).await;
        expect_push(&mut events, 1).await;
        assert_eq!(socket.acks(1).await, [call(1).0]);
        client.close();
        assert_eq!(next(&mut events).await, Event::Ended(End::Closed));
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn resumes_its_login_and_dedupes_over_the_reconnect() {
    let peer = Peer::tcp().await;
    let (_client, mut events) = Client::connect(options(&peer));
    let mut socket = logged_in(&peer, &mut events).await;
    socket.send(&[call_push(1)]).await;
    expect_push(&mut events, 1).await;
    drop(socket);
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    let mut socket = peer.accept().await;
    let login = socket.log_in(&[call_push(1), call_push(2)]).await;
    let resume = login.resume.expect("an earlier login to resume");
    assert_eq!((resume.login_id.as_str(), resume.conn_id.as_str()), ("l1", "conn-1"));
    assert!(matches!(next(&mut events).await, Event::LoggedIn(told) if told.resumed));
    expect_push(&mut events, 2).await;
    assert_eq!(socket.acks(2).await, [call(1).0, call(2).0]);
}

#[tokio::test]
async fn goes_where_and_when_the_comet_says() {
    let (peer, other) = (Peer::tcp().await, Peer::tcp().await);
    let (_client, mut events) = Client::connect(options(&peer));
    let mut socket = logged_in(&peer, &mut events).await;
    let to = Reconnect { after_ms: 50, address: Some(other.address().host().to_owned()) };
    socket.send(&[ServerFrame::Reconnect(to)]).await;
    let told = next(&mut events).await;
    assert!(matches!(told, Event::Disconnected { again_in, .. } if again_in == Duration::from_millis(50)));
    drop(logged_in(&other, &mut events).await);
    // The address counted for one attempt.
    logged_in(&peer, &mut events).await;
}

#[tokio::test]
async fn a_full_comet_says_where_to_try() {
    let (peer, other) = (Peer::websocket().await, Peer::websocket().await);
    let (_client, mut events) = Client::connect(options(&peer));
    let mut socket = peer.accept().await;
    socket.expect_login().await;
    let address = Some(other.address().to_string());
    let full = Error { address, retry_after_ms: Some(10), ..refusal(ErrorCode::Full) };
    socket.send(&[ServerFrame::Error(full)]).await;
    logged_in(&other, &mut events).await;
}

fn refusal(error: ErrorCode) -> Error {
    Error { error, field: None, message: "no".into(), retry_after_ms: None, address: None, re: None, room: None }
}

#[tokio::test]
async fn a_refused_token_is_asked_for_again_and_the_same_one_ends_it() {
    let peer = Peer::tcp().await;
    let mut options = options(&peer);
    let tokens = std::sync::Mutex::new(vec!["second", "second", "first"]);
    options.token = TokenSource::asked(move || {
        let token = tokens.lock().expect("not poisoned").pop().expect("asked three times").to_owned();
        async move { Ok(token) }
    });
    let (_client, mut events) = Client::connect(options);
    for expected in ["first", "second"] {
        let mut socket = peer.accept().await;
        assert_eq!(socket.expect_login().await.token, expected);
        socket.send(&[ServerFrame::Error(refusal(ErrorCode::Unauthorized))]).await;
        assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    }
    assert_eq!(next(&mut events).await, Event::Ended(End::Refused(refusal(ErrorCode::Unauthorized))));
}

#[tokio::test]
async fn replaced_is_the_end_and_an_expired_token_is_renewed() {
    let peer = Peer::tcp().await;
    let mut options = options(&peer);
    let number = std::sync::atomic::AtomicU32::new(0);
    options.token = TokenSource::asked(move || {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move { Ok(format!("token-{n}")) }
    });
    let (_client, mut events) = Client::connect(options);
    let mut socket = logged_in(&peer, &mut events).await;
    socket.send(&[ServerFrame::Kick(Kick { reason: KickReason::TokenExpired })]).await;
    assert_eq!(next(&mut events).await, Event::Kicked(KickReason::TokenExpired));
    let mut socket = peer.accept().await;
    assert_eq!(socket.log_in(&[]).await.token, "token-1");
    socket.send(&[ServerFrame::Kick(Kick { reason: KickReason::Replaced })]).await;
    loop {
        match next(&mut events).await {
            Event::Ended(end) => break assert_eq!(end, End::Kicked(KickReason::Replaced)),
            Event::Disconnected { .. } | Event::LoggedIn(_) | Event::Kicked(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn pings_and_takes_silence_for_death() {
    let peer = Peer::tcp().await;
    let (_client, mut events) = Client::connect(options(&peer));
    let mut socket = peer.accept().await;
    socket.log_in_with_heartbeat(100, 3).await;
    assert!(matches!(next(&mut events).await, Event::LoggedIn(_)));
    assert!(matches!(socket.next().await, ClientFrame::Ping(_)));
    // The peer stays silent; its socket stays open.
    let told = next(&mut events).await;
    assert!(matches!(&told, Event::Disconnected { reason, .. } if reason.contains("silent")), "{told:?}");
    logged_in(&peer, &mut events).await;
}

#[tokio::test]
async fn asks_and_is_answered() {
    let peer = Peer::tcp().await;
    let (client, mut events) = Client::connect(options(&peer));
    let mut socket = logged_in(&peer, &mut events).await;
    let script = async {
        let ClientFrame::Calls(query) = socket.next().await else { panic!("expected CALLS") };
        let active = |n| ActiveCall { id: call(n).0, call: call(n).1 };
        let calls = Calls { re: query.re, calls: vec![active(1)], missing: vec![] };
        socket.send(&[ServerFrame::Calls(calls), call_push(1)]).await;
        let ClientFrame::Ack(_) = socket.next().await else { panic!("expected ACK") };
        let ClientFrame::App(app) = socket.next().await else { panic!("expected an application's frame") };
        assert_eq!(app.code, 1000);
        let unasked = App { code: 1001, body: AppBody { re: None, data: "news".into() } };
        socket.send(&[ServerFrame::App(unasked), ServerFrame::App(app)]).await;
    };
    let questions = async {
        assert_eq!(client.calls().await.unwrap().calls.len(), 1);
        assert_eq!(client.send_app(1000, "echo").await.unwrap(), "echo".into());
        assert_eq!(client.send_app(999, "echo").await, Err(AskError::Code(999)));
    };
    timeout(PATIENCE, async { tokio::join!(script, questions) }).await.expect("answers in time");
    expect_push(&mut events, 1).await;
    assert!(matches!(next(&mut events).await, Event::App(app) if app.code == 1001));
}

#[tokio::test]
async fn by_hand_nothing_is_acknowledged_until_told() {
    let peer = Peer::tcp().await;
    let mut options = options(&peer);
    options.auto_ack = false;
    let (client, mut events) = Client::connect(options);
    let mut socket = logged_in(&peer, &mut events).await;
    socket.send(&[call_push(1), call_push(1), call_push(1), call_push(2)]).await;
    expect_push(&mut events, 1).await;
    expect_push(&mut events, 2).await;
    client.ack(&[call(2).0]).await;
    assert_eq!(socket.acks(1).await, [call(2).0]);
    assert_eq!(client.stats().duplicates, 2);
}

#[tokio::test]
async fn what_was_acknowledged_before_a_close_goes_out() {
    for n in 1..=50 {
        let peer = Peer::tcp().await;
        let mut options = options(&peer);
        options.auto_ack = false;
        let (client, mut events) = Client::connect(options);
        let mut socket = logged_in(&peer, &mut events).await;
        socket.send(&[call_push(n)]).await;
        expect_push(&mut events, n).await;
        client.ack(&[call(n).0]).await;
        client.close();
        assert_eq!(socket.acks(1).await, [call(n).0]);
    }
}

#[tokio::test]
async fn an_unread_channel_stops_the_reading_and_not_the_heartbeat() {
    let peer = Peer::tcp().await;
    let mut options = options(&peer);
    options.events = 2;
    let (client, mut events) = Client::connect(options);
    let mut socket = peer.accept().await;
    socket.log_in_with_heartbeat(500, 5).await;
    // LOGIN_OK and push 1 fill the channel.
    let pushes: Vec<_> = (1..=600).map(call_push).collect();
    socket.send(&pushes).await;
    let mut pings = 0;
    while pings < 5 {
        match socket.next().await {
            ClientFrame::Ping(_) => pings += 1,
            ClientFrame::Ack(ack) => assert!(ack.ids.len() <= 2, "acknowledged before there was room"),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(client.stats().transmissions < 600, "read on although nobody takes the events");
    assert!(matches!(next(&mut events).await, Event::LoggedIn(_)));
    for n in 1..=600 {
        expect_push(&mut events, n).await;
    }
}

#[tokio::test]
async fn logs_out_and_is_over() {
    let peer = Peer::websocket().await;
    let (client, mut events) = Client::connect(options(&peer));
    let mut socket = logged_in(&peer, &mut events).await;
    let script = async {
        assert!(matches!(socket.next().await, ClientFrame::Logout(_)));
        drop(socket);
    };
    timeout(PATIENCE, async { tokio::join!(script, client.logout()) }).await.expect("over in time");
    assert_eq!(next(&mut events).await, Event::Ended(End::LoggedOut));
    assert_eq!(client.calls().await, Err(AskError::Ended));
}

#[tokio::test]
async fn a_comet_that_reads_nothing_does_not_hold_up_a_logout() {
    let peer = Peer::tcp().await;
    let (client, mut events) = Client::connect(options(&peer));
    let socket = logged_in(&peer, &mut events).await;
    // Until the socket takes no more: then the client is stuck in a write, and its commands wait.
    let asking = (0..64).map(|_| async { while client.send_app(1000, vec![0; 1 << 20]).await.is_ok() {} });
    let asking = futures_util::future::join_all(asking);
    let logout = async {
        while timeout(Duration::from_millis(200), client.ack(&[])).await.is_ok() {}
        timeout(PATIENCE, client.logout()).await.expect("it is over in time");
    };
    tokio::select! {
        _ = asking => panic!("the peer answers nothing"),
        () = logout => {}
    }
    drop(socket);
    let ended = async { while events.next().await.is_some() {} };
    timeout(PATIENCE, ended).await.expect("it ends");
}

#[tokio::test]
async fn tries_again_while_nobody_listens() {
    let peer = Peer::tcp().await;
    let mut options = options(&peer);
    let nobody = pushmesh_testkit::Port::take();
    options.address = format!("tcp://127.0.0.1:{}", nobody.number()).parse().unwrap();
    let (client, mut events) = Client::connect(options);
    for _ in 0..3 {
        assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    }
    client.close();
    loop {
        if let Event::Ended(end) = next(&mut events).await {
            break assert_eq!(end, End::Closed);
        }
    }
}

#[tokio::test]
async fn malformed_frames_end_the_connection_and_not_the_client() {
    let peer = Peer::tcp().await;
    let (_client, mut events) = Client::connect(options(&peer));
    for bytes in [&[0xff, 0xff, 0xff, 0xff][..], &[0, 0, 0, 2, 0x91, 1], &[0, 0, 0, 3, 0x92, 1, 0x80]] {
        let mut socket = logged_in(&peer, &mut events).await;
        socket.send_raw(bytes).await;
        assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    }
    // A code of a later version is no error.
    let mut socket = logged_in(&peer, &mut events).await;
    socket.send_raw(&[0, 0, 0, 3, 0x92, 99, 0x80]).await;
    socket.send(&[call_push(1)]).await;
    expect_push(&mut events, 1).await;
}
