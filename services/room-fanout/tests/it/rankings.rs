use pushmesh_protocol::{
    frame::item,
    name::{Filter, Stream, Subject},
};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{LONG, Mesh, partition, room},
    viewer::Viewer,
};

#[tokio::test(flavor = "multi_thread")]
async fn rankings_go_from_their_stream_and_what_happened_stays_there() {
    let mut mesh = Mesh::start().await;
    let settings = ["service.ranking_every=100ms", "service.rankings_kept=1s"];
    let _owner = mesh.room_fanout("one", &settings).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.normal("a", "before").await;
    mesh.give("a", "bob", 5).await;
    ann.until("the ranking", |ann| ann.last::<item::Ranking>("ranking").is_some()).await;
    wait_for("the ranking to be stored", LONG, async || match mesh.bus.stream_state(&Stream::ROOM_NORMAL).await {
        Ok(state) if state.last == 2 => Ok(()),
        state => Err(format!("{state:?}")),
    })
    .await;
    wait_for("the ranking to go", LONG, async || {
        let rankings = Filter::from(Subject::room_ranking(partition("a"), &room("a")));
        let found = mesh.bus.read_history(&Stream::ROOM_NORMAL, rankings, 0, 10, 10_000).await.unwrap().messages;
        if found.is_empty() { Ok(()) } else { Err(format!("{} are there", found.len())) }
    })
    .await;
    // A crash forgets nothing of where the stream stood: an owner would take that for a lost end.
    mesh.nats.kill();
    mesh.nats.restart().await;
    assert_eq!(mesh.bus.stream_state(&Stream::ROOM_NORMAL).await.unwrap().last, 2);
    mesh.normal("a", "after").await;
    ann.until("what happened", |ann| ann.count("custom") == 2).await;
    assert_eq!((ann.texts("custom"), ann.gaps, ann.lost), (vec!["before".to_owned(), "after".to_owned()], 0, 0));
}
