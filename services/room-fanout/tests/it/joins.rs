use futures_util::future::join_all;
use pushmesh_protocol::{
    frame::{Encoding, RoomPosition, ServerFrame},
    room::{JoinAsk, JoinedView, JoinsAsk, RoomAnswer, RoomAsk},
};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Crew, LONG, Mesh, room, user},
    viewer::Viewer,
};

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_he_missed_from_memory() {
    let mesh = Mesh::start().await;
    let _owner = mesh.room_fanout("one", &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    for n in 0..10 {
        mesh.chat("a", "bob", &format!("line {n}")).await;
    }
    ann.until("ten lines", |ann| ann.count("chat") == 10).await;
    let left_at = ann.position;
    for n in 10..30 {
        mesh.chat("a", "bob", &format!("line {n}")).await;
        mesh.give("a", "bob", 1).await;
        mesh.normal("a", "event").await;
    }
    ann.until("the others", |ann| (ann.count("chat"), ann.count("gift"), ann.count("custom")) == (30, 20, 20)).await;
    let mut back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
    assert!(back.joined.recovered);
    assert_eq!(back.texts("chat"), lines(10..30));
    assert_eq!((back.count("gift"), back.count("custom")), (20, 20));
    assert_eq!(back.position, ann.position);
    mesh.chat("a", "bob", "line 30").await;
    back.until("what comes now", |back| back.count("chat") == 21).await;
    assert_eq!(back.gaps, 0);
    // Who missed nothing gets nothing; who never was here gets no past.
    assert_eq!(Viewer::come_back(&mesh, "a", "ann", Some(back.position)).await.items, []);
    let new = Viewer::join(&mesh, "a", "cat").await;
    assert!(new.joined.recovered && new.items.is_empty());
    assert_eq!(new.joined.gifts_total, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_to_another_owner_gets_what_he_missed_from_the_streams() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one", "two"], &["service.write_every=100ms"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.chat("a", "bob", "line 0").await;
    mesh.give("a", "bob", 1).await;
    mesh.normal("a", "event").await;
    ann.until("the beginning", |ann| (ann.count("chat"), ann.count("gift"), ann.count("custom")) == (1, 1, 1)).await;
    let left_at = ann.position;
    for n in 1..100 {
        mesh.chat("a", "bob", &format!("line {n}")).await;
        mesh.chat("b", "bob", "elsewhere").await;
        mesh.give("a", "bob", 1).await;
        mesh.normal("a", "event").await;
    }
    ann.until("all", |ann| (ann.count("chat"), ann.count("gift"), ann.count("custom")) == (100, 100, 100)).await;
    let (owner, _) = mesh.owner_of("a", ["one", "two"]).await;
    crew.get(owner).expect_drained(LONG).await;
    // The new owner's memory holds nothing of it.
    let back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
    assert!(back.joined.recovered, "{:?}", back.joined);
    assert_eq!(back.texts("chat"), lines(1..100));
    assert_eq!((back.count("gift"), back.count("custom")), (99, 99));
    assert_eq!(back.position, ann.position);
    assert_eq!(back.gaps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_while_much_is_said_misses_nothing() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one", "two"], &["service.write_every=100ms"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.chat("a", "bob", "line 0").await;
    ann.until("the beginning", |ann| ann.count("chat") == 1).await;
    let left_at = ann.position;
    let (owner, _) = mesh.owner_of("a", ["one", "two"]).await;
    crew.get(owner).kill();
    let talking = async {
        for n in 1..400 {
            mesh.chat("a", "bob", &format!("line {n}")).await;
        }
    };
    let coming = async {
        let mut back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
        back.until("every line", |back| back.count("chat") == 399).await;
        assert_eq!(back.texts("chat"), lines(1..400));
        assert_eq!(back.lost, 0);
    };
    tokio::join!(talking, coming);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_too_long_is_told_so() {
    let mesh = Mesh::start().await;
    let _owner = mesh.room_fanout("one", &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.chat("a", "bob", "hello").await;
    ann.until("the beginning", |ann| ann.count("chat") == 1).await;
    let left_at = ann.position;
    let gifts = (0..1_200).map(|_| mesh.gift("a", "bob", 1)).collect();
    mesh.give_all(gifts).await;
    ann.until("all", |ann| ann.count("gift") == 1_200).await;
    let back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
    assert!(!back.joined.recovered && back.items.is_empty());
    assert_eq!(back.position, ann.position);
    // Of other streams: an epoch that is none of these.
    let of_another = RoomPosition { epoch: left_at.epoch + 1, ..left_at };
    assert!(!Viewer::come_back(&mesh, "a", "ann", Some(of_another)).await.joined.recovered);
}

fn offsets(missed: &[bytes::Bytes]) -> Vec<u64> {
    let frames = missed.iter().map(|frame| ServerFrame::decode(Encoding::MessagePack, frame).unwrap());
    let items = frames.flat_map(|frame| match frame {
        ServerFrame::Room(room) => room.items,
        other => panic!("{other:?}"),
    });
    items.map(|item| item.offset).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_back_at_once_is_complete_after_a_few_readings() {
    let mesh = Mesh::start().await;
    // Memory holds the last two dozen lines.
    let owner = mesh.room_fanout("one", &["service.tail_bytes=4KiB"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let mut said = vec![];
    for n in 0..200 {
        said.push(mesh.chat("a", "bob", &format!("line {n}")).await);
    }
    ann.until("all lines", |ann| ann.count("chat") == 200).await;
    let reads = "pushmesh_room_fanout_history_seconds_count";
    assert_eq!(mesh.metric(&owner, reads).await, 0.0);
    // From a hundred positions, nine at each.
    let positions: Vec<_> = said.iter().take(100).map(|high| RoomPosition { high: *high, ..ann.position }).collect();
    let asks = (0..900).map(|n| {
        let (resume, mesh) = (positions[n % 100], &mesh);
        let ask = JoinAsk { room: room("a"), user: user(&format!("user-{n}")), resume: Some(resume), trace: None };
        async move { (resume.high, mesh.ask("a", &RoomAsk::Join(ask)).await) }
    });
    for (high, answer) in join_all(asks).await {
        let RoomAnswer::Joined(answer) = answer else { panic!("{answer:?}") };
        assert!(answer.joined.recovered);
        let missed: Vec<_> = said.iter().copied().filter(|offset| *offset > high).collect();
        assert_eq!(offsets(&answer.missed), missed, "from {high}");
    }
    // And many in one ask.
    let users = (0..500).map(|n| user(&format!("user-{n}"))).collect();
    let ask = RoomAsk::Joins(JoinsAsk { room: room("a"), users, resume: Some(positions[50]), trace: None });
    let RoomAnswer::JoinedAll(all) = mesh.ask("a", &ask).await else { panic!("not let in") };
    let [JoinedView { joined, missed }] = &all.views[..] else { panic!("{} views", all.views.len()) };
    assert!(joined.recovered && all.users.iter().all(|user| user.view == Some(0)));
    assert_eq!((all.users.len(), offsets(missed)), (500, said[51..].to_vec()));
    let made = mesh.metric(&owner, reads).await;
    println!("{made} readings for 1,400 users");
    assert!((1.0..=20.0).contains(&made), "{made} readings");
    wait_for("the counts", LONG, async || {
        match mesh.metric(&owner, "pushmesh_room_fanout_asks_total{outcome=\"recovered\"").await {
            // Who was not answered in time has asked again.
            found if found >= 1_400.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    assert_eq!(mesh.metric(&owner, "pushmesh_room_fanout_not_recovered_total").await, 0.0);
    // From before the streams: of a gap, and why.
    let of_others = RoomPosition { epoch: 1, ..ann.position };
    assert!(!Viewer::come_back(&mesh, "a", "ann", Some(of_others)).await.joined.recovered);
    wait_for("the reason", LONG, async || {
        match mesh.metric(&owner, "pushmesh_room_fanout_not_recovered_total{reason=\"epoch\"").await {
            1.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
}
