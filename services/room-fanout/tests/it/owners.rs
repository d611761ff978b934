use std::collections::HashSet;

use pushmesh_protocol::{
    frame::item,
    name::{Filter, Stream},
};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Crew, LONG, Mesh, partition},
    viewer::Viewer,
};

const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
const USERS: [&str; 3] = ["bob", "cat", "dan"];

/// Gifts of a storm: in each room, from each user in turn, with values that tell them apart in sums.
fn storm(mesh: &Mesh, room: &str, count: usize) -> Vec<pushmesh_bus::Outgoing> {
    (0..count).map(|n| mesh.gift(room, USERS[n % USERS.len()], 1 + (n % 7) as u64)).collect()
}

fn sums(count: usize) -> (Vec<(String, u64)>, u64) {
    let mut totals = [0; USERS.len()];
    for n in 0..count {
        totals[n % USERS.len()] += 1 + (n % 7) as u64;
    }
    let mut all: Vec<_> = USERS.iter().map(|user| (*user).to_owned()).zip(totals).collect();
    all.sort_by_key(|(_, total)| std::cmp::Reverse(*total));
    (all, totals.iter().sum())
}

/// Every gift was shown once, in order, and the ledger is exact.
async fn judge(mesh: &Mesh, viewers: &mut [Viewer], count: usize) {
    let (expected, total) = sums(count);
    for (room, viewer) in ROOMS.iter().zip(viewers) {
        mesh.expect_total(room, total).await;
        viewer.until("every gift", |viewer| viewer.count("gift") >= count).await;
        viewer.catch_up().await;
        let gifts: Vec<item::Gift> = viewer.of("gift").map(|gift| item::read(&gift.data).unwrap()).collect();
        let keys: HashSet<_> = gifts.iter().map(|gift| gift.key.clone()).collect();
        assert_eq!((gifts.len(), keys.len()), (count, count), "room {room}");
        assert_eq!(viewer.lost, 0, "room {room}");
        let offsets: Vec<_> = viewer.of("gift").map(|gift| gift.offset).collect();
        assert!(offsets.is_sorted(), "room {room}");
        let (ranking, sum) = mesh.ranking(room).await;
        assert_eq!(sum, total, "room {room}");
        let (mut told, mut expected) = (ranking, expected.clone());
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "room {room}");
        assert_eq!(mesh.info(room).await.gifts, count as u64, "room {room}");
    }
}

async fn viewers(mesh: &Mesh) -> Vec<Viewer> {
    let mut viewers = vec![];
    for (n, room) in ROOMS.iter().enumerate() {
        viewers.push(Viewer::join(mesh, room, &format!("viewer{n}")).await);
    }
    viewers
}

/// Half of a storm, the change, the other half.
async fn story(change: impl AsyncFnOnce(&Mesh, &mut Crew, &str)) {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one", "two"], &["service.write_every=200ms"]).await;
    let mut viewers = viewers(&mesh).await;
    let (owner, _) = mesh.owner_of("a", ["one", "two"]).await;
    let count = 600;
    let parts: Vec<Vec<_>> = ROOMS.iter().map(|room| storm(&mesh, room, count)).collect();
    let storing = async |part: std::ops::Range<usize>| {
        for at in part.step_by(20) {
            for gifts in &parts {
                mesh.give_all(gifts[at..at + 20].to_vec()).await;
            }
        }
    };
    storing(0..300).await;
    viewers[0].until("some gifts", |viewer| viewer.count("gift") >= 100).await;
    // In the middle of it: gifts go on being stored while nobody owns the room.
    tokio::join!(change(&mesh, &mut crew, owner), storing(300..600));
    judge(&mesh, &mut viewers, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_killed_in_a_gift_storm_and_every_gift_counts_once() {
    story(async |_, crew, owner| crew.get(owner).kill()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_leaves_in_a_gift_storm_and_every_gift_counts_once() {
    story(async |_, crew, owner| {
        crew.get(owner).expect_drained(LONG).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stood_still_counts_nothing_twice_and_tells_nothing_late() {
    story(async |mesh, crew, owner| {
        let (_, before) = mesh.owner("a").await.unwrap();
        crew.get(owner).stop();
        wait_for("another owner", LONG, async || {
            let (_, epoch) = mesh.owner("a").await.ok_or("none")?;
            if epoch > before { Ok(()) } else { Err("still the same") }
        })
        .await;
        // It finds what had been on its way, and must not do anything with it.
        crew.get(owner).cont();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_killed_in_a_gift_storm_and_every_gift_counts_once() {
    let mut mesh = Mesh::start().await;
    let _crew = Crew::start(&mesh, &["one", "two"], &["service.write_every=200ms"]).await;
    let mut viewers = viewers(&mesh).await;
    for room in ROOMS {
        mesh.give_all(storm(&mesh, room, 210)).await;
    }
    viewers[0].until("some gifts", |viewer| viewer.count("gift") >= 20).await;
    mesh.nats.kill();
    mesh.nats.restart().await;
    for room in ROOMS {
        mesh.give_all(storm(&mesh, room, 210)).await;
    }
    judge(&mesh, &mut viewers, 420).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_over_is_replayed_by_nobody() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.give_all(storm(&mesh, "a", 210)).await;
    mesh.chat("a", "bob", "hello").await;
    mesh.normal("a", "event").await;
    ann.until("all", |ann| (ann.count("gift"), ann.count("chat"), ann.count("custom")) == (210, 1, 1)).await;
    crew.get("one").expect_drained(LONG).await;
    let second = mesh.room_fanout("two", &[]).await;
    ann.until("the new owner's word", |ann| ann.orders.contains(&pushmesh_protocol::room::RoomOrder::Recount)).await;
    assert_eq!(ann.count("gift"), 210);
    assert_eq!((ann.gaps, ann.lost), (0, 0));
    assert_eq!(mesh.ranking("a").await, sums(210));
    let metric = async |name| mesh.metric(&second, name).await;
    wait_for("the new owner to have counted", LONG, async || {
        let rooms = metric("pushmesh_room_fanout_rooms ").await;
        if rooms >= 1.0 { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(metric("pushmesh_room_fanout_repeated_total").await, 0.0);
    assert_eq!(metric("pushmesh_room_fanout_applied_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_up_is_told_once_whoever_dies() {
    let mesh = Mesh::start().await;
    let settings = ["service.levels=[5, 50]", "service.write_every=100ms"];
    let mut crew = Crew::start(&mesh, &["one", "two"], &settings).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.give("a", "bob", 6).await;
    ann.until("the first level", |ann| ann.count("level") == 1).await;
    let (owner, _) = mesh.owner_of("a", ["one", "two"]).await;
    crew.get(owner).kill();
    mesh.give("a", "bob", 60).await;
    ann.until("the second level", |ann| ann.count("level") == 2).await;
    mesh.chat("a", "bob", "end").await;
    ann.until("the end", |ann| ann.count("chat") == 1).await;
    let stored = mesh.bus.read_history(&Stream::ROOM_LOW, Filter::notes_of(partition("a")), 0, 10, 9999).await.unwrap();
    assert_eq!(stored.messages.len(), 2);
    let mut levels: Vec<_> =
        ann.of("level").map(|level| item::read::<item::Level>(&level.data).unwrap().level).collect();
    levels.sort_unstable();
    assert_eq!(levels, [1, 2]);
}
