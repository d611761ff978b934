use pushmesh_protocol::frame::item;

use crate::{
    mesh::{Crew, LONG, Mesh},
    viewer::Viewer,
};

/// Likes of the shown items, and the total they speak of.
fn shown(viewer: &Viewer) -> (u64, u64) {
    let likes: Vec<item::Like> = viewer.of("like").map(|like| item::read(&like.data).unwrap()).collect();
    (likes.iter().map(|like| like.count).sum(), likes.last().map_or(0, |like| like.total))
}

#[tokio::test(flavor = "multi_thread")]
async fn likes_are_conserved_over_kills_and_hand_overs() {
    let mesh = Mesh::start().await;
    let settings = ["service.write_every=100ms", "service.low_within=50ms"];
    let mut crew = Crew::start(&mesh, &["one", "two", "three"], &settings).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    // Two apis, one of which begins a second life.
    for total in 1..=100u64 {
        mesh.likes("a", "api1", 7, total * 10).await;
        mesh.likes("a", "api2", 3, total).await;
    }
    ann.until("the likes", |ann| shown(ann).1 == 1100).await;
    assert_eq!(shown(&ann), (1100, 1100), "each item tells what came since the one before");
    let (owner, _) = mesh.owner("a").await.unwrap();
    crew.get(&owner).kill();
    for total in 101..=150u64 {
        mesh.likes("a", "api1", 7, total * 10).await;
    }
    ann.until("the likes under the second owner", |ann| shown(ann).1 == 1600).await;
    let (owner, _) = mesh.owner("a").await.unwrap();
    // While the partition is handed over.
    let more = async {
        mesh.likes("a", "api2", 4, 5).await;
        mesh.likes("a", "api1", 7, 1501).await;
    };
    tokio::join!(crew.get(&owner).expect_drained(LONG), more);
    ann.until("the likes under the third owner", |ann| shown(ann).1 == 1606).await;
    assert_eq!(mesh.info("a").await.likes_total, 1606);
    assert_eq!(Viewer::join(&mesh, "a", "bob").await.joined.likes_total, 1606);
    // The same total again is no like.
    mesh.likes("a", "api2", 4, 5).await;
    mesh.chat("a", "bob", "end").await;
    ann.until("the end", |ann| ann.count("chat") == 1).await;
    assert_eq!(mesh.info("a").await.likes_total, 1606);
}
