use pushmesh_bus::{Entry, GoneReason, KvEvent};
use pushmesh_protocol::{
    RoomId, UserId,
    frame::RoomState,
    message::Millis,
    name::Key,
    room::{MuteRecord, StateRecord},
    wire,
};

use super::{
    book::{Book, Half},
    *,
};

fn partitions() -> Partitions {
    Partitions::new(8).unwrap()
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn put(key: &Key, value: Vec<u8>) -> KvEvent {
    KvEvent::Put(Entry { key: key.to_string(), value: value.into(), revision: 1, at: 1 })
}

fn state(name: &str, banned: bool) -> KvEvent {
    let state = RoomState { banned, ..RoomState::default() };
    put(&Key::room_state(&room(name)), wire::encode(&StateRecord { state, at: 1 }))
}

fn mute(key: &Key, until: Millis) -> KvEvent {
    put(key, wire::encode(&MuteRecord { until, by: None, at: 1 }))
}

fn gone(key: &Key) -> KvEvent {
    KvEvent::Gone { key: key.to_string(), revision: 2, reason: GoneReason::Expired }
}

#[test]
fn what_stands_is_told_by_partition_and_a_mute_everywhere_to_all() {
    let metrics = Metrics::new();
    let mut book = Book::new(partitions());
    let of_room = partitions().of_room(&room("a"));
    let told = book.apply(Half::Rooms, state("a", true), &metrics);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, Some(of_room));
    assert_eq!(book.apply(Half::Rooms, state("a", true), &metrics), [], "nothing new");
    let everywhere = Key::mute_everywhere(&user("troll"));
    let told = book.apply(Half::Mutes, mute(&everywhere, 9), &metrics);
    assert_eq!(told[0].0, None);
    assert_eq!(book.of(of_room).len(), 2);
    let other = partitions().all().find(|partition| *partition != of_room).unwrap();
    assert_eq!(book.of(other).len(), 1);
    let told = book.apply(Half::Mutes, gone(&everywhere), &metrics);
    assert_eq!(told, [(None, Fact::Mute { room: None, user: user("troll"), mute: None })]);
    assert!(book.of(other).is_empty());
}

#[test]
fn a_snapshot_told_again_ends_what_it_does_not_mention() {
    let metrics = Metrics::new();
    let mut book = Book::new(partitions());
    assert!(!book.is_current());
    book.apply(Half::Rooms, state("a", true), &metrics);
    book.apply(Half::Rooms, state("b", true), &metrics);
    book.apply(Half::Rooms, KvEvent::Current, &metrics);
    book.apply(Half::Mutes, KvEvent::Current, &metrics);
    assert!(book.is_current());
    book.apply(Half::Rooms, KvEvent::Restarted, &metrics);
    assert_eq!(book.apply(Half::Rooms, state("b", true), &metrics), []);
    let told = book.apply(Half::Rooms, KvEvent::Current, &metrics);
    assert_eq!(told, [(Some(partitions().of_room(&room("a"))), Fact::State { room: room("a"), state: None })]);
}

#[test]
fn what_is_not_told_again_has_ended() {
    let fact = |name: &str, banned: Option<bool>| Fact::State {
        room: room(name),
        state: banned.map(|banned| RoomState { banned, ..RoomState::default() }),
    };
    let mut known = Known::default();
    let all = vec![fact("a", Some(true)), fact("b", Some(true))];
    assert_eq!(known.apply(Told::All(all.clone())), all);
    assert_eq!(known.apply(Told::Changed(fact("a", None))), [fact("a", None)]);
    assert_eq!(known.apply(Told::Changed(fact("c", Some(false)))), [fact("c", Some(false))]);
    let again = known.apply(Told::All(vec![fact("c", Some(true))]));
    assert_eq!(again, [fact("b", None), fact("c", Some(true))]);
}

#[test]
fn a_reader_that_is_full_gets_everything_again() {
    let metrics = Metrics::new();
    let mut book = Book::new(partitions());
    let partition = partitions().of_room(&room("a"));
    let (told, mut receiver) = mpsc::channel(1);
    let mut reader = Reader { partition, told, is_behind: true };
    assert!(reader.tell(&book, &[], &metrics));
    for banned in [true, false, true] {
        let changes = book.apply(Half::Rooms, state("a", banned), &metrics);
        assert!(reader.tell(&book, &changes, &metrics));
    }
    assert_eq!(receiver.try_recv(), Ok(Told::All(vec![])));
    assert!(reader.is_behind);
    assert!(reader.tell(&book, &[], &metrics));
    let state = RoomState { banned: true, ..RoomState::default() };
    assert_eq!(receiver.try_recv(), Ok(Told::All(vec![Fact::State { room: room("a"), state: Some(state) }])));
    drop(receiver);
    assert!(!reader.tell(&book, &[], &metrics));
}
