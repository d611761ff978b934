use pushmesh_protocol::name::Stream;
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Crew, LONG, Mesh},
    server::purge_before,
    viewer::Viewer,
};

/// What ROOM_NORMAL holds here, and more than that.
const STREAM_BYTES: u64 = 128 * 1024;
const NOISE: usize = 150;

async fn first(mesh: &Mesh, stream: Stream) -> u64 {
    mesh.bus.stream_state(&stream).await.unwrap().first
}

/// Others talk until ROOM_NORMAL has dropped what it held, and it is applied.
async fn others_talk(mesh: &Mesh) {
    let filling = "x".repeat(1024);
    let mut last = 0;
    for _ in 0..NOISE {
        last = mesh.normal("b", &filling).await;
    }
    wait_for("the noise to be applied", LONG, async || match mesh.info("b").await.position.normal {
        at if at == last => Ok(()),
        at => Err(format!("{at} of {last}")),
    })
    .await;
}

async fn next_owner(mesh: &Mesh, crew: &mut Crew, from: &str, to: &str) {
    crew.add(mesh, to, &["service.write_every=100ms"]).await;
    crew.get(from).expect_drained(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_missed_nothing_of_what_a_full_stream_dropped_is_told_the_rest_by_the_next_owner() {
    let mesh = Mesh::with_streams_of(STREAM_BYTES).await;
    let mut crew = Crew::start(&mesh, &["one"], &["service.write_every=100ms"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let at_nothing = ann.position;
    others_talk(&mesh).await;
    mesh.normal("a", "first").await;
    ann.until("the first", |ann| ann.count("custom") == 1).await;
    let at_first = ann.position;
    others_talk(&mesh).await;
    assert!(first(&mesh, Stream::ROOM_NORMAL).await > at_first.normal + 1, "the first is gone");
    mesh.normal("a", "second").await;
    mesh.normal("a", "third").await;
    ann.until("the third", |ann| ann.count("custom") == 3).await;
    let at_third = ann.position;
    next_owner(&mesh, &mut crew, "one", "two").await;
    let back = Viewer::come_back(&mesh, "a", "ann", Some(at_first)).await;
    assert!(back.joined.recovered);
    assert_eq!(back.texts("custom"), ["second", "third"]);
    assert!(!Viewer::come_back(&mesh, "a", "ann", Some(at_nothing)).await.joined.recovered, "he has missed the first");
    others_talk(&mesh).await;
    mesh.normal("a", "fourth").await;
    next_owner(&mesh, &mut crew, "two", "three").await;
    let back = Viewer::come_back(&mesh, "a", "ann", Some(at_third)).await;
    assert!(back.joined.recovered);
    assert_eq!(back.texts("custom"), ["fourth"]);
    let lost = Viewer::come_back(&mesh, "a", "ann", Some(at_first)).await;
    assert!(!lost.joined.recovered && lost.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_where_nothing_was_said_for_as_long_as_the_stream_goes_back_is_told_of_no_gap() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &["service.write_every=100ms"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let at_nothing = ann.position;
    for _ in 0..20 {
        mesh.give("b", "bob", 1).await;
        mesh.chat("b", "bob", "elsewhere").await;
    }
    let gift = mesh.give("a", "bob", 5).await;
    mesh.chat("a", "bob", "hello").await;
    ann.until("both", |ann| (ann.count("gift"), ann.count("chat")) == (1, 1)).await;
    next_owner(&mesh, &mut crew, "one", "two").await;
    // As age does it.
    purge_before(&mesh.nats, "ROOM_HIGH", gift).await;
    assert_eq!(first(&mesh, Stream::ROOM_HIGH).await, gift);
    let back = Viewer::come_back(&mesh, "a", "ann", Some(at_nothing)).await;
    assert!(back.joined.recovered);
    assert_eq!((back.count("gift"), back.texts("chat")), (1, vec!["hello".to_owned()]));
    purge_before(&mesh.nats, "ROOM_HIGH", gift + 1).await;
    wait_for("what was read a moment ago to serve nobody any more", LONG, async || {
        let back = Viewer::come_back(&mesh, "a", "ann", Some(at_nothing)).await;
        if back.joined.recovered { Err("he has missed nothing") } else { Ok(()) }
    })
    .await;
    let without_gift = pushmesh_protocol::frame::RoomPosition { gifts: gift, ..at_nothing };
    assert!(Viewer::come_back(&mesh, "a", "ann", Some(without_gift)).await.joined.recovered);
}
