use pushmesh_bus::{ConsumeError, History};
use pushmesh_protocol::{
    Partition,
    name::{Filter, Stream, Subject},
};

use super::{
    follow::{chat, room},
    *,
};

fn numbers(history: &History) -> Vec<usize> {
    history.messages.iter().map(|message| number(&message.payload)).collect()
}

fn of(name: &str) -> Filter {
    Subject::room_chat(Partition(3), &room(name)).into()
}

#[tokio::test]
async fn a_subjects_messages_are_read_in_order_and_pages_say_what_is_left() {
    let (_nats, bus) = mesh().await;
    let read = async |filter, after, limit, bytes| {
        bus.read_history(&Stream::ROOM_HIGH, filter, after, limit, bytes).await.unwrap()
    };
    let all = 1 << 20;
    assert_eq!(read(of("a"), 0, 10, all).await, History::default());
    // Every third one is of the room "a".
    let room = |number: usize| if number.is_multiple_of(3) { "a" } else { "b" };
    let messages = (0..3000).map(|number| chat(room(number), number)).collect();
    for outcome in bus.store_all(&Stream::ROOM_HIGH, messages).await {
        outcome.unwrap();
    }
    let expected = |range: std::ops::Range<usize>| range.map(|turn| turn * 3).collect::<Vec<_>>();
    // More than one request brings.
    let history = read(of("a"), 0, 900, all).await;
    assert_eq!(numbers(&history), expected(0..900));
    assert_eq!(history.pending, 100);
    assert!(history.messages.iter().all(|message| message.subject == of("a").as_str()));
    assert!(history.messages.iter().all(|message| message.at > 1_700_000_000_000));
    let last = history.messages.last().unwrap().sequence;
    let rest = read(of("a"), last, 900, all).await;
    assert_eq!((numbers(&rest), rest.pending), (expected(900..1000), 0));
    assert_eq!(read(of("a"), rest.messages.last().unwrap().sequence, 900, all).await, History::default());
    assert_eq!(read(of("nobody"), 0, 10, all).await, History::default());
    assert_eq!(read(of("a"), u64::MAX - 1, 10, all).await, History::default());
    // Wildcards read several subjects in the stream's order.
    assert_eq!(numbers(&read(Filter::chats_of(Partition(3)), 5, 5, all).await), [5, 6, 7, 8, 9]);
    assert_eq!(read(of("a"), 0, 0, all).await, History::default());
    assert_eq!(bus.awaited(), 0);
}

#[tokio::test]
async fn bytes_are_bounded_but_for_one_message() {
    let (_nats, bus) = mesh().await;
    let long = |number: usize| {
        let mut message = chat("a", number);
        message.payload = vec![b'0' + number as u8; 1000].into();
        message
    };
    for number in 0..5 {
        bus.store(long(number)).await.unwrap();
    }
    for (bytes, count) in [(3500, 3), (3000, 3), (1000, 1), (10, 1), (0, 1)] {
        let history = bus.read_history(&Stream::ROOM_HIGH, of("a"), 0, 100, bytes).await.unwrap();
        assert_eq!((history.messages.len(), history.pending), (count, 5 - count as u64), "within {bytes} bytes");
        assert!(history.messages.iter().enumerate().all(|(at, message)| message.payload[0] == b'0' + at as u8));
    }
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let nats = pushmesh_testkit::Nats::start().await;
    let bus = connect_as(&nats, "tester", |config| {
        config.kv_timeout = Duration::from_secs(3);
        config.outage_hold = Duration::from_secs(3);
    })
    .await;
    let read = bus.read_history(&Stream::ROOM_HIGH, of("a"), 0, 10, 1000).await;
    assert!(matches!(read, Err(ConsumeError::Outage(_))), "{read:?}");
    assert!(matches!(bus.stream_state(&Stream::ROOM_HIGH).await, Err(ConsumeError::NotProvisioned(_))));
    assert!(bus.follow_stream(&Stream::ROOM_HIGH, Filter::room_high(), 0).await.is_err());
}
