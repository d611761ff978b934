//! Clients that read slowly, or not at all.

use std::time::Duration;

use pushmesh_protocol::frame::{ClientFrame, Encoding, KickReason, Ping, Pong, ServerFrame};

use crate::harness::*;

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_nobody_else_feels_it() {
    let comet = Comet::start(config());
    let (mut healthy, _) = Tcp::login(&comet, "user:ann").await;
    let (stalled, address) = Tcp::login(&comet, "user:ben").await;
    let frame = encode(address, &push(1, 16_000));
    // What two kernels take (a receive buffer grows to some MB) and a quarter of a megabyte more.
    for _ in 0..100 {
        comet.push(address, vec![frame.clone(); 10]).await;
    }
    let ended = |seen: &mut Seen| seen.endings.iter().any(|ending| ending.session.address == address).then_some(());
    comet.until("its end", ended).await;
    healthy.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(healthy.next().await, Some(ServerFrame::Pong(Pong {})));
    drop(stalled);
}

#[tokio::test]
async fn a_client_that_catches_up_gets_every_frame_whole_and_in_order() {
    let mut config = config();
    config.limits.backlog_messages = 10_000;
    config.limits.backlog_bytes = 64 << 20;
    let comet = Comet::start(config);
    let (mut tcp, a) = Tcp::login(&comet, "user:ann").await;
    let (mut ws, b) = Ws::login(&comet, Encoding::MessagePack, "user:ben").await;
    for number in 0..2000 {
        comet.push(a, [encode(a, &push(number, 5000))]).await;
        comet.push(b, [encode(b, &push(number, 5000))]).await;
    }
    for number in 0..2000 {
        assert_eq!(tcp.next().await, Some(push(number, 5000)));
        assert_eq!(ws.next().await, Ok(push(number, 5000)));
    }
    tcp.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(tcp.next().await, Some(ServerFrame::Pong(Pong {})));
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_closed_even_with_room_left() {
    let mut config = config();
    config.limits.backlog_messages = 100_000;
    config.limits.backlog_bytes = 64 << 20;
    config.limits.blocked_for = Duration::from_millis(300);
    let comet = Comet::start(config);
    let (stalled, address) = Tcp::login(&comet, "user:ben").await;
    let frame = encode(address, &push(1, 16_000));
    for _ in 0..60 {
        comet.push(address, vec![frame.clone(); 10]).await;
    }
    let ended = |seen: &mut Seen| seen.endings.iter().any(|ending| ending.session.address == address).then_some(());
    comet.until("its end", ended).await;
    drop(stalled);
}

#[tokio::test]
async fn last_words_reach_a_client_through_a_backlog() {
    let mut config = config();
    config.limits.backlog_messages = 10_000;
    config.limits.backlog_bytes = 64 << 20;
    let comet = Comet::start(config);
    let (mut client, address) = Tcp::login(&comet, "user:ben").await;
    for number in 0..1000 {
        comet.push(address, [encode(address, &push(number, 5000))]).await;
    }
    comet.kick(address, KickReason::Removed).await;
    for number in 0..1000 {
        assert_eq!(client.next().await, Some(push(number, 5000)));
    }
    assert!(matches!(client.next().await, Some(ServerFrame::Kick(kick)) if kick.reason == KickReason::Removed));
    client.expect_end().await;
}
