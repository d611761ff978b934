use std::{cell::Cell, time::Duration};

use pushmesh_bus::{Bus, ConsumeError, Delivered, PartitionConsumer, TakeOver, Verdict};
use pushmesh_protocol::{
    Partition,
    message::{DeadLetter, DeadReason},
    name::{Filter, Stream},
    wire,
};
use pushmesh_testkit::wait_for;

use super::*;

const P: Partition = Partition(5);

async fn take(bus: &Bus, how: TakeOver) -> PartitionConsumer {
    bus.take_partition(&Stream::LOGIN, P, how).await.unwrap()
}

async fn next(consumer: &mut PartitionConsumer) -> Delivered {
    tokio::time::timeout(SOON, consumer.next()).await.expect("a message in time").expect("an open consumer")
}

async fn fill(bus: &Bus, numbers: std::ops::Range<usize>) {
    for outcome in bus.store_all(&Stream::LOGIN, numbers.map(|number| in_partition(P, number)).collect()).await {
        outcome.unwrap();
    }
}

async fn expect(consumer: &mut PartitionConsumer, numbers: std::ops::Range<usize>) {
    for expected in numbers {
        let delivered = next(consumer).await;
        assert_eq!(number(&delivered.payload), expected);
        delivered.acker().ack();
    }
}

#[tokio::test]
async fn messages_come_in_order_and_go_when_acknowledged() {
    let (nats, bus) = mesh().await;
    fill(&bus, 0..1000).await;
    let mut consumer = take(&bus, TakeOver::Fresh).await;
    assert_eq!((consumer.pending(), consumer.delivered_before()), (1000, 0));
    let first = next(&mut consumer).await;
    assert_eq!((first.sequence, first.attempt, first.pending), (1, 1, 999));
    first.into_parts().1.ack();
    expect(&mut consumer, 1..1000).await;
    consumer.release().await;

    let other = connect(&nats).await;
    let consumer = wait_for("the stream to be empty", SOON, async || {
        let consumer = take(&other, TakeOver::HandedOver).await;
        if consumer.pending() == 0 { Ok(consumer) } else { Err(format!("{} wait", consumer.pending())) }
    })
    .await;
    assert_eq!(consumer.delivered_before(), 1000);
}

#[tokio::test]
async fn a_crashed_owners_messages_come_at_once_and_in_order() {
    let (nats, first) = mesh().await;
    fill(&first, 0..600).await;
    let mut consumer = take(&first, TakeOver::Fresh).await;
    expect(&mut consumer, 0..10).await;
    // Handed out, and never acknowledged.
    for expected in 10..15 {
        assert_eq!(number(&next(&mut consumer).await.payload), expected);
    }
    let second = connect(&nats).await;
    fill(&second, 600..700).await;
    // The first one is still there, like a process that was paused: its pin and what it fetched are taken from it.
    let delivered_before = Cell::new(0);
    let mut taken = wait_for("all acks to arrive", SOON, async || {
        let taken = take(&second, TakeOver::Crashed).await;
        // Each take-over sets it back.
        delivered_before.set(taken.delivered_before().max(delivered_before.get()));
        if taken.pending() == 690 { Ok(taken) } else { Err(format!("{} wait", taken.pending())) }
    })
    .await;
    assert!(delivered_before.get() >= 15, "{}", delivered_before.get());
    expect(&mut taken, 10..700).await;
    fill(&second, 700..710).await;
    expect(&mut taken, 700..710).await;
    consumer.abandon();
}

#[tokio::test]
async fn a_released_partition_gives_back_what_it_held() {
    let (nats, first) = mesh().await;
    fill(&first, 0..300).await;
    let mut consumer = take(&first, TakeOver::Fresh).await;
    expect(&mut consumer, 0..7).await;
    consumer.release().await;
    let second = connect(&nats).await;
    let mut taken = take(&second, TakeOver::HandedOver).await;
    // Nothing waits for the ack wait.
    expect(&mut taken, 7..300).await;
}

#[tokio::test]
async fn over_a_restart_of_the_server_each_message_comes_once_and_in_order() {
    let (mut nats, bus) = mesh().await;
    fill(&bus, 0..3000).await;
    let mut consumer = take(&bus, TakeOver::Fresh).await;
    expect(&mut consumer, 0..500).await;
    // Held over the restart; acks, and deliveries on their way, die with the connection.
    let held = next(&mut consumer).await;
    assert_eq!(number(&held.payload), 500);
    nats.kill();
    nats.restart().await;
    // Nothing waits for the ack wait.
    expect(&mut consumer, 501..3000).await;
    held.into_parts().1.ack();
    consumer.release().await;
    wait_for("the stream to be empty", SOON, async || match take(&bus, TakeOver::Crashed).await.pending() {
        0 => Ok(()),
        left => Err(format!("{left} wait")),
    })
    .await;
}

#[tokio::test]
async fn a_release_while_the_server_is_away_returns() {
    let (mut nats, bus) = mesh().await;
    fill(&bus, 0..10).await;
    let mut consumer = take(&bus, TakeOver::Fresh).await;
    expect(&mut consumer, 0..1).await;
    nats.kill();
    tokio::time::timeout(SOON, bus.health().wait_for(|health| !health.connected)).await.unwrap().unwrap();
    tokio::time::timeout(SOON, consumer.release()).await.expect("a release in time");
}

#[tokio::test]
async fn a_slow_owner_keeps_its_pin() {
    let (_nats, bus) = mesh().await;
    let bus = {
        let mut topology = small_topology();
        for consumer in &mut topology.consumers {
            consumer.pin_timeout = Duration::from_secs(4);
        }
        let nats = pushmesh_testkit::Nats::start().await;
        let slow = connect_as(&nats, "slow", |config| config.prefetch = 2).await;
        pushmesh_bus::provision(&slow, &topology).await.unwrap();
        drop(bus);
        (nats, slow)
    };
    let (_nats, bus) = (&bus.0, &bus.1);
    fill(bus, 0..300).await;
    let mut consumer = take(bus, TakeOver::Fresh).await;
    expect(&mut consumer, 0..1).await;
    // Longer than the pin lives without a pull; the messages behind are all here or asked for.
    let begun = tokio::time::Instant::now();
    wait_for("the time of a pin to pass", SOON, async || {
        if begun.elapsed() > Duration::from_secs(5) { Ok(()) } else { Err("not yet") }
    })
    .await;
    expect(&mut consumer, 1..300).await;
}

#[tokio::test]
async fn a_verdict_is_carried_out() {
    let (_nats, bus) = mesh().await;
    let mut consumer = take(&bus, TakeOver::Fresh).await;
    let mut dead = bus.watch_stream(&Stream::DEAD, Filter::dead()).await.unwrap();
    fill(&bus, 0..2).await;

    let service = token("tester");
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    let reject = Verdict::Reject { reason: DeadReason::Malformed, detail: "field user is empty".to_owned() };
    bus.settle(first, reject, &service, P).await;
    bus.settle(second, Verdict::RetryAfter(Duration::from_millis(50)), &service, P).await;

    let again = next(&mut consumer).await;
    assert_eq!((number(&again.payload), again.attempt), (1, 2));
    bus.settle(again, Verdict::Ack, &service, P).await;

    let letter = loop {
        match tokio::time::timeout(SOON, dead.next()).await.unwrap().unwrap() {
            pushmesh_bus::StreamEvent::Message { subject, payload, .. } => {
                assert_eq!(subject, "pm.v1.dead.malformed.5.LOGIN-1");
                break wire::decode::<DeadLetter>(&payload).unwrap();
            }
            _ => continue,
        }
    };
    assert_eq!((letter.reason, letter.payload.as_ref()), (DeadReason::Malformed, &b"0"[..]));
    drop(consumer);
    wait_for("nothing to be left", SOON, async || match take(&bus, TakeOver::Crashed).await.pending() {
        0 => Ok(()),
        left => Err(format!("{left} wait")),
    })
    .await;
}

#[tokio::test]
async fn a_missing_stream_says_what_to_run() {
    let nats = pushmesh_testkit::Nats::start().await;
    let bus = connect(&nats).await;
    let error = bus.take_partition(&Stream::LOGIN, P, TakeOver::Fresh).await.err().unwrap();
    assert!(matches!(error, ConsumeError::NotProvisioned(_)), "{error}");
    assert!(error.to_string().contains("pushmesh provision"));
}
