use pushmesh_protocol::frame::RoomPosition;

use crate::{
    mesh::{Crew, LONG, Mesh},
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
    let gifts = (0..700).map(|_| mesh.gift("a", "bob", 1)).collect();
    mesh.give_all(gifts).await;
    ann.until("all", |ann| ann.count("gift") == 700).await;
    let back = Viewer::come_back(&mesh, "a", "ann", Some(left_at)).await;
    assert!(!back.joined.recovered && back.items.is_empty());
    assert_eq!(back.position, ann.position);
    // Of other streams: an epoch that is none of these.
    let of_another = RoomPosition { epoch: left_at.epoch + 1, ..left_at };
    assert!(!Viewer::come_back(&mesh, "a", "ann", Some(of_another)).await.joined.recovered);
}
