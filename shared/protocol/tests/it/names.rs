//! Names are read back as they were written, and have the tokens they should.

use proptest::prelude::*;
use pushmesh_protocol::{
    PushId, RoomId, Token, Unit,
    name::{Key, Subject, parse},
    partition::Partition,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_round_trip(
        a in "[A-Za-z0-9_-]{1,64}", b in "[A-Za-z0-9_-]{1,64}", p in 0u16..1024, id in any::<[u8; 16]>(),
        levels in proptest::collection::vec("[A-Za-z0-9_-]{1,20}", 1..=16),
    ) {
        let (first, second) = (Token::new(&a).unwrap(), Token::new(&b).unwrap());
        let p = Partition(p);
        let user = first.clone().into();
        let conn = second.clone().into();
        prop_assert_eq!(parse::session(Key::session(p, &user, &conn).as_str()), Some((p, user.clone(), conn.clone())));
        let login = Key::session_login(p, &user, &conn);
        prop_assert_eq!(parse::session_login(login.as_str()), Some((p, user.clone(), conn.clone())));
        prop_assert_eq!(parse::session(login.as_str()), None);
        prop_assert_eq!(parse::session_login(Key::session(p, &user, &conn).as_str()), None);
        let push = PushId::from_bytes(id);
        prop_assert_eq!(parse::pending(Key::pending(p, &user, push).as_str()), Some((p, user.clone(), push)));
        let instance = second.clone().into();
        let member = Key::member(&first, &instance);
        prop_assert_eq!(parse::member(member.as_str()), Some((first.clone(), instance.clone())));
        prop_assert_eq!(parse::lease(Key::lease(&first, p).as_str()), Some((first.clone(), p)));
        let heartbeat = Subject::heartbeat(&first, &instance);
        prop_assert_eq!(parse::heartbeat(heartbeat.as_str()), Some((first.clone(), instance)));
        let unit = Unit::from_levels(levels.iter().map(String::as_str)).unwrap();
        let kind = second.clone().into();
        let subject = Subject::directory(&kind, p, &user, &unit);
        prop_assert_eq!(parse::directory(subject.as_str()), Some((kind, p, user.clone(), unit)));
        let room = RoomId::from(second.clone());
        for subject in [
            Subject::gift(p, &room),
            Subject::room_chat(p, &room),
            Subject::room_event(p, &room),
            Subject::room_likes(p, &room, &second.clone().into(), 7),
            Subject::room_note(p, &room, &first),
        ] {
            prop_assert_eq!(parse::room(subject.as_str()), Some((p, room.clone())));
        }
        let likes = Subject::room_likes(p, &room, &first.clone().into(), 7);
        prop_assert_eq!(parse::likes(likes.as_str()), Some((p, room.clone(), first.clone().into(), 7)));
        prop_assert_eq!(parse::room_snapshot(Key::room_snapshot(p, &room).as_str()), Some((p, room.clone())));
        let row = Key::ledger_row(p, &room, &user);
        prop_assert_eq!(parse::ledger_row(row.as_str()), Some((p, room.clone(), user.clone())));
        prop_assert_eq!(parse::room_state(Key::room_state(&room).as_str()), Some(room.clone()));
        prop_assert_eq!(parse::room_role(Key::room_role(&room, &user).as_str()), Some((room.clone(), user.clone())));
        prop_assert_eq!(parse::mute(Key::mute_everywhere(&user).as_str()), Some((None, user.clone())));
        prop_assert_eq!(parse::mute(Key::mute_in(&room, &user).as_str()), Some((Some(room), user.clone())));
        let record = Subject::login_record(p, &user);
        prop_assert_eq!(record.as_str().split('.').count(), 6);
        prop_assert_eq!(parse::user(record.as_str()), Some(user));
    }
}

#[test]
fn other_keys_of_the_session_bucket_are_no_sessions() {
    let used = Key::used_sid(Partition(3), &"alice".parse().unwrap(), &"s1".parse().unwrap());
    assert_eq!(parse::session(used.as_str()), None);
    let used = Key::used_sid(Partition(3), &"alice".parse().unwrap(), &"login".parse().unwrap());
    assert_eq!(parse::session_login(used.as_str()), None);
}
