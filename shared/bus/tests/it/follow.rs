use pushmesh_bus::{FollowEvent, Outgoing, StreamFollow, provision};
use pushmesh_protocol::{
    Kind, Partition, RoomId, Unit,
    name::{Filter, MessageId, Stream, Subject},
};

use super::*;

const P: Partition = Partition(3);

pub(super) fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

/// A line of chat that says its number.
pub(super) fn chat(to: &str, number: usize) -> Outgoing {
    Outgoing {
        subject: Subject::room_chat(P, &room(to)),
        payload: Bytes::from(number.to_string()),
        id: MessageId::room(&room(to), None, &token(&number.to_string())),
        trace: None,
    }
}

async fn next(follow: &mut StreamFollow) -> FollowEvent {
    tokio::time::timeout(SOON, follow.next()).await.expect("an event in time").expect("an open connection")
}

/// The numbers of the messages up to the first event that is none.
async fn until(follow: &mut StreamFollow, end: &FollowEvent) -> Vec<usize> {
    let mut numbers = vec![];
    loop {
        match next(follow).await {
            FollowEvent::Message(message) => numbers.push(number(&message.payload)),
            event if event == *end => return numbers,
            FollowEvent::Reached(_) => {}
            other => panic!("{other:?} after {numbers:?}"),
        }
    }
}

async fn take(follow: &mut StreamFollow, count: usize) -> Vec<usize> {
    let mut numbers = vec![];
    while numbers.len() < count {
        match next(follow).await {
            FollowEvent::Message(message) => numbers.push(number(&message.payload)),
            FollowEvent::Reached(_) => {}
            other => panic!("{other:?} after {numbers:?}"),
        }
    }
    numbers
}

/// The next event that says more than how far the server has looked.
async fn next_but_reached(follow: &mut StreamFollow) -> FollowEvent {
    loop {
        match next(follow).await {
            FollowEvent::Reached(_) => {}
            event => return event,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_behind_a_sequence_comes_once_and_in_order_over_a_killed_server() {
    let (mut nats, bus) = mesh().await;
    for outcome in bus.store_all(&Stream::ROOM_HIGH, (0..1000).map(|number| chat("a", number)).collect()).await {
        outcome.unwrap();
    }
    let mut follow = bus.follow_stream(&Stream::ROOM_HIGH, Filter::chats_of(P), 400).await.unwrap();
    assert_eq!(until(&mut follow, &FollowEvent::CaughtUp).await, (400..1000).collect::<Vec<_>>());
    let storing = {
        let bus = bus.clone();
        tokio::spawn(async move {
            for number in 1000..3000 {
                bus.store(chat(if number % 2 == 0 { "a" } else { "b" }, number)).await.unwrap();
            }
        })
    };
    // In the middle of it.
    assert_eq!(take(&mut follow, 200).await, (1000..1200).collect::<Vec<_>>());
    nats.kill();
    nats.restart().await;
    assert_eq!(take(&mut follow, 1800).await, (1200..3000).collect::<Vec<_>>());
    storing.await.unwrap();
    assert!(matches!(follow.try_next(), None | Some(FollowEvent::Reached(_))));
}

#[tokio::test]
async fn one_that_is_read_slowly_misses_nothing() {
    let (mut nats, bus) = mesh().await;
    let mut follow = bus.follow_stream(&Stream::ROOM_HIGH, Filter::chats_of(P), 0).await.unwrap();
    assert_eq!(next(&mut follow).await, FollowEvent::CaughtUp);
    // Far more than the queue in between holds; nobody reads meanwhile, and the server restarts.
    for outcome in bus.store_all(&Stream::ROOM_HIGH, (0..5000).map(|number| chat("a", number)).collect()).await {
        outcome.unwrap();
    }
    nats.kill();
    nats.restart().await;
    for outcome in bus.store_all(&Stream::ROOM_HIGH, (5000..9000).map(|number| chat("a", number)).collect()).await {
        outcome.unwrap();
    }
    assert_eq!(take(&mut follow, 9000).await, (0..9000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_may_be_gone_from_the_stream_is_told() {
    let (_nats, bus) = mesh().await;
    let kind = Kind::new("group").unwrap();
    let stream = Stream::directory(&kind);
    // One message a subject: what is written again is gone from where it stood.
    let membership = |user: usize, number: usize| Outgoing {
        subject: Subject::directory(&kind, P, &self::user(user), &Unit::new("g1").unwrap()),
        payload: Bytes::from(number.to_string()),
        id: MessageId::late(number as u64),
        trace: None,
    };
    for number in 0..10 {
        bus.store(membership(number, number)).await.unwrap();
    }
    for user in 0..5 {
        bus.store(membership(user, 10 + user)).await.unwrap();
    }
    let filter = Filter::directory_of(&kind, P);
    let mut follow = bus.follow_stream(&stream, filter.clone(), 2).await.unwrap();
    assert_eq!(next(&mut follow).await, FollowEvent::Missing { after: 2, first: 6 });
    assert_eq!(until(&mut follow, &FollowEvent::CaughtUp).await, (5..15).collect::<Vec<_>>());
    // Whoever stands right before the first misses nothing.
    let mut follow = bus.follow_stream(&stream, filter, 5).await.unwrap();
    assert_eq!(until(&mut follow, &FollowEvent::CaughtUp).await, (5..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_told_and_followed_from_its_beginning() {
    let (mut nats, bus) = mesh().await;
    for number in 0..10 {
        bus.store(chat("a", number)).await.unwrap();
    }
    let before = bus.stream_state(&Stream::ROOM_HIGH).await.unwrap();
    assert_eq!((before.first, before.last), (1, 10));
    let mut follow = bus.follow_stream(&Stream::ROOM_HIGH, Filter::chats_of(P), 3).await.unwrap();
    assert_eq!(until(&mut follow, &FollowEvent::CaughtUp).await, (3..10).collect::<Vec<_>>());
    nats.kill();
    std::fs::remove_dir_all(nats.server().store_dir()).unwrap();
    nats.restart().await;
    provision(&bus, &small_topology()).await.unwrap();
    let after = bus.stream_state(&Stream::ROOM_HIGH).await.unwrap();
    assert!(after.created > before.created && after.last == 0);
    for number in 100..103 {
        bus.store(chat("a", number)).await.unwrap();
    }
    assert_eq!(next_but_reached(&mut follow).await, FollowEvent::Anew);
    assert_eq!(take(&mut follow, 3).await, [100, 101, 102]);
    // Also told to one who comes back later than that.
    let mut late = bus.follow_stream(&Stream::ROOM_HIGH, Filter::chats_of(P), 10).await.unwrap();
    assert_eq!(next(&mut late).await, FollowEvent::Anew);
    assert_eq!(until(&mut late, &FollowEvent::CaughtUp).await, [100, 101, 102]);
}

#[tokio::test]
async fn where_others_messages_go_on_it_is_told_how_far_nothing_was_missed() {
    let (_nats, bus) = mesh().await;
    let mut follow = bus.follow_stream(&Stream::ROOM_HIGH, Filter::gifts_of(P), 0).await.unwrap();
    assert_eq!(next(&mut follow).await, FollowEvent::CaughtUp);
    for number in 0..10 {
        bus.store(chat("a", number)).await.unwrap();
    }
    loop {
        let FollowEvent::Reached(reached) = next(&mut follow).await else { panic!("nothing of the filter was stored") };
        // Where the storing takes long it is told in between as well.
        assert!(reached <= 10, "{reached}");
        if reached == 10 {
            break;
        }
    }
}
