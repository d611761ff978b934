//! A room that is too loud for its size: few lines, but long ones to many.

use std::{cell::Cell, collections::HashSet};

use pushmesh_protocol::room::part_of;
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Comet, LONG, Mesh},
    viewer::Viewer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_cut_by_the_bytes_that_go_out_of_it_and_merged_when_it_is_quiet() {
    const LISTENING: u32 = 200;
    let mesh = Mesh::start().await;
    // Neither members nor messages would ever cut it.
    let settings = [
        "service.parts.members=1000000",
        "service.parts.messages_per_second=1000000",
        "service.parts.bytes_per_second=64KiB",
        "service.parts.max=4",
        "service.parts.merge_after=1s",
    ];
    let _owner = mesh.room_fanout("one", &settings).await;
    let comet = Comet::join(&mesh, "far").await;
    let mut people = vec![];
    for n in 0..6 {
        people.push(Viewer::join(&mesh, "a", &format!("user{n}")).await);
    }
    let parts: HashSet<_> = people.iter().map(|viewer| part_of(&viewer.user, 4)).collect();
    assert!(parts.len() > 1, "the people are in several parts");

    let long = "x".repeat(3000);
    let said = Cell::new(0);
    let say = async |filling: &str| {
        let number = said.replace(said.get() + 1);
        mesh.chat("a", &format!("user{}", number % 6), &format!("line {number} {filling}")).await;
    };
    wait_for("the room to be cut", LONG, async || {
        // Whom nobody speaks of for a while is not counted any more.
        comet.count(&[("a", LISTENING)]).await;
        for _ in 0..6 {
            say(&long).await;
        }
        let info = mesh.info("a").await;
        if info.parts > 1 { Ok(()) } else { Err(format!("{} present, {} lines", info.present, said.get())) }
    })
    .await;
    for _ in 0..24 {
        say("").await;
    }
    mesh.give("a", "user0", 5).await;
    wait_for("the room to be whole", LONG, async || match mesh.info("a").await.parts {
        1 => Ok(()),
        parts => Err(format!("{parts} parts")),
    })
    .await;
    mesh.chat("a", "user0", "end").await;
    for viewer in &mut people {
        viewer.until("the end", |viewer| viewer.texts("chat").last().is_some_and(|line| line == "end")).await;
        assert_eq!((viewer.gaps, viewer.lost, viewer.count("gift")), (0, 0, 1), "{}", viewer.user);
        let lines = viewer.texts("chat");
        let different: HashSet<_> = lines.iter().collect();
        assert_eq!(different.len(), lines.len(), "{} saw a line twice", viewer.user);
        assert!(lines.len() <= said.get(), "{} saw only his part while the room was cut", viewer.user);
    }
}
