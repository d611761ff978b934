//! A comet that stood still, and all of a room who come back for what they missed.

use e2e::{Mesh, Shape, Viewer};
use futures_util::future::join_all;
use pushmesh_client::Event;

const VIEWERS: usize = 300;
const LINES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_room_that_missed_something_is_complete_after_a_few_asks_and_readings() {
    // A queue that overflows at once, and an owner that remembers next to nothing.
    let shape = Shape::rooms().set("comet", "service.rooms.queue=2").set("room-fanout", "service.tail_bytes=4KiB");
    let mut mesh = Mesh::start(shape).await;
    let door = format!("tcp://{}", mesh.door("comet", 0, "tcp"));
    let mut viewers = Vec::new();
    for some in (0..VIEWERS).collect::<Vec<_>>().chunks(20) {
        let entering = some.iter().map(|number| {
            let (mesh, door) = (&mesh, door.parse().expect("an address"));
            async move {
                let name = format!("viewer-{number}");
                let mut viewer = Viewer::enter_with(mesh, &name, 0, |options| options.address = door).await;
                viewer.join("stage").await;
                viewer
            }
        });
        viewers.extend(join_all(entering).await);
    }
    let asked = async |mesh: &Mesh| {
        let (joins, asks) = ("pushmesh_comet_room_joins_total", "pushmesh_comet_room_asks_total");
        (mesh.metric("comet", 0, joins).await, mesh.metric("comet", 0, asks).await)
    };
    let before = asked(&mesh).await;
    mesh.process("comet", 0).stop();
    let front = mesh.front(0);
    for line in 0..LINES {
        front.chat("stage", &format!("speaker-{line}"), &format!("line {line}")).await;
    }
    mesh.process("comet", 0).cont();
    front.chat("stage", "speaker-last", "the end").await;
    let watching = viewers.iter_mut().map(|viewer| async {
        viewer.expect_chat("stage", "the end").await;
        // Nobody is left between two worlds: what he lacks he was told of.
        viewer.assert_in_order();
        let is_whole = viewer.chat("stage").len() == LINES + 1;
        assert!(is_whole || !viewer.gaps.is_empty(), "{}: {} lines", viewer.name, viewer.chat("stage").len());
        is_whole
    });
    let whole = join_all(watching).await.into_iter().filter(|is_whole| *is_whole).count();
    let after = asked(&mesh).await;
    let (joins, asks) = (after.0 - before.0, after.1 - before.1);
    let mut reads = 0.0;
    for owner in 0..2 {
        reads += mesh.metric("room-fanout", owner, "pushmesh_room_fanout_history_seconds_count").await;
    }
    let refused = |viewer: &&Viewer| viewer.others.iter().any(|event| matches!(event, Event::RoomUnavailable { .. }));
    let refused = viewers.iter().filter(refused).count();
    println!("{whole} of {VIEWERS} complete, {refused} refused at first; {joins} JOINs, {asks} asks, {reads} readings");
    assert!(joins >= VIEWERS as f64, "the queue overflowed: {joins}");
    // How many come at the same time is the machine's affair: the busier it is, the more positions they stand at.
    assert!(asks < joins, "{joins} JOINs, {asks} asks");
    assert!(reads >= 1.0 && reads < joins, "{reads} readings");
    mesh.stop().await;
}
