use std::collections::HashSet;

use pushmesh_protocol::{
    frame::{Role, item},
    room::part_of,
};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{LONG, Mesh, user},
    viewer::Viewer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_cut_and_merged_while_people_talk_and_nobody_misses_or_repeats_a_line() {
    let mesh = Mesh::start().await;
    let settings = ["service.parts.messages_per_second=10", "service.parts.max=4", "service.parts.merge_after=1s"];
    let _owner = mesh.room_fanout("one", &settings).await;
    mesh.set_role("a", "host", Role::Host).await;
    let mut host = wait_for("the role to be known", LONG, async || {
        let host = Viewer::join(&mesh, "a", "host").await;
        if host.overseer { Ok(host) } else { Err("not yet") }
    })
    .await;
    let mut people = vec![];
    for n in 0..6 {
        people.push(Viewer::join(&mesh, "a", &format!("user{n}")).await);
    }
    let parts: HashSet<_> = people.iter().map(|viewer| part_of(&viewer.user, 4)).collect();
    assert!(parts.len() > 1, "the people are in several parts");

    let mut said = 0;
    let mut talk = async |until: &mut dyn FnMut(u16) -> bool| loop {
        for _ in 0..20 {
            mesh.chat("a", &format!("user{}", said % 6), &format!("line {said}")).await;
            said += 1;
        }
        if until(mesh.info("a").await.parts) {
            break said;
        }
    };
    // Faster than one may bear: the room is cut.
    let cut_at = talk(&mut |parts| parts > 1).await;
    let said_cut = talk(&mut {
        let mut more = 10;
        move |_| {
            more -= 1;
            more == 0
        }
    })
    .await;
    assert!(said_cut > cut_at);
    mesh.give("a", "user0", 5).await;
    // Silence: it is merged again.
    wait_for("the room to be whole", LONG, async || match mesh.info("a").await.parts {
        1 => Ok(()),
        parts => Err(format!("{parts} parts")),
    })
    .await;
    mesh.chat("a", "user0", "end").await;
    host.until("the end", |host| host.texts("chat").last().is_some_and(|line| line == "end")).await;
    let all: Vec<String> = (0..said_cut).map(|n| format!("line {n}")).chain(["end".to_owned()]).collect();
    assert_eq!(host.texts("chat"), all, "a host sees everything, once");
    assert_eq!((host.gaps, host.lost, host.count("gift")), (0, 0, 1));
    let mut told = HashSet::new();
    for viewer in &mut people {
        viewer.until("the end", |viewer| viewer.texts("chat").last().is_some_and(|line| line == "end")).await;
        assert_eq!((viewer.gaps, viewer.lost, viewer.count("gift")), (0, 0, 1), "{}", viewer.user);
        // Whoever stands at the cut already learns nothing by it.
        told.extend(viewer.of("parts").filter_map(|item| item::read::<item::Parts>(&item.data)).map(|told| told.parts));
        let lines = viewer.texts("chat");
        let different: HashSet<_> = lines.iter().collect();
        assert_eq!(different.len(), lines.len(), "{} saw a line twice", viewer.user);
        let mine = viewer.of("chat").filter(|line| line.from.as_ref() == Some(&viewer.user)).count();
        let of_mine = (0..said_cut).filter(|n| user(&format!("user{}", n % 6)) == viewer.user).count();
        let end = usize::from(viewer.user == user("user0"));
        assert_eq!(mine, of_mine + end, "{} saw his own part", viewer.user);
        assert!(lines.len() < all.len(), "{} saw only his part while the room was cut", viewer.user);
    }
    assert!(!told.is_empty());
}
