use std::time::Duration;

use pushmesh_protocol::{
    frame::{Chain, Role, RoomState, item},
    name::{Filter, Stream},
    room::{Ranking, RoomAnswer, RoomAsk, RoomOrder},
    wire,
};
use pushmesh_testkit::wait_for;

use crate::{
    mesh::{Comet, LONG, Mesh, partition, room, user},
    viewer::Viewer,
};

#[tokio::test(flavor = "multi_thread")]
async fn everything_said_in_a_room_is_told_in_order_with_what_was_before_it() {
    let mesh = Mesh::start().await;
    let _owner = mesh.room_fanout("one", &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    let mut elsewhere = Viewer::join(&mesh, "b", "bob").await;
    for n in 0..50 {
        mesh.give("a", "bob", 1).await;
        mesh.chat("a", "bob", &format!("line {n}")).await;
        mesh.normal("a", &format!("event {n}")).await;
        mesh.chat("b", "cat", "other").await;
    }
    mesh.note("a", "n1", "mind the gap").await;
    ann.until("all of it", |ann| {
        (ann.count("gift"), ann.count("chat"), ann.count("custom"), ann.count("note")) == (50, 50, 50, 1)
    })
    .await;
    assert_eq!(ann.texts("chat"), (0..50).map(|n| format!("line {n}")).collect::<Vec<_>>());
    assert_eq!(ann.texts("custom"), (0..50).map(|n| format!("event {n}")).collect::<Vec<_>>());
    assert_eq!(ann.texts("note"), ["mind the gap"]);
    assert_eq!((ann.gaps, ann.lost), (0, 0));
    for chain in [Chain::Gifts, Chain::High, Chain::Normal] {
        let of: Vec<_> = ann.items.iter().filter(|item| item.chain == chain).collect();
        assert!(of.windows(2).all(|pair| pair[1].prev == pair[0].offset), "{chain:?}");
    }
    elsewhere.until("its own", |bob| bob.count("chat") == 50).await;
    assert_eq!((elsewhere.count("gift"), elsewhere.gaps), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn gifts_make_rankings_and_level_ups_and_both_are_in_the_streams_too() {
    let mesh = Mesh::start().await;
    let owner = mesh.room_fanout("one", &["service.ranking_every=100ms", "service.levels=[10, 100]"]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    for (from, value) in [("bob", 5), ("cat", 7), ("bob", 4), ("cat", 8), ("bob", 100)] {
        mesh.give("a", from, value).await;
    }
    ann.until("the ranking and the levels", |ann| {
        let ranking = ann.last::<item::Ranking>("ranking");
        ann.count("level") == 3 && ranking.is_some_and(|ranking| ranking.gifts_total == 124)
    })
    .await;
    let ranking = ann.last::<item::Ranking>("ranking").unwrap();
    let top: Vec<_> = ranking.top.iter().map(|ranked| (ranked.user.as_str(), ranked.total)).collect();
    assert_eq!(top, [("bob", 109), ("cat", 15)]);
    let mut levels: Vec<_> = ann
        .of("level")
        .map(|level| item::read::<item::Level>(&level.data).unwrap())
        .map(|up| (up.user, up.level))
        .collect();
    levels.sort();
    assert_eq!(levels, [(user("bob"), 1), (user("bob"), 2), (user("cat"), 1)]);
    assert_eq!(mesh.ranking("a").await, (vec![("bob".to_owned(), 109), ("cat".to_owned(), 15)], 124));
    let stored = wait_for("the ranking in its stream", LONG, async || {
        let filter = Filter::room_normal();
        let history = mesh.bus.read_history(&Stream::ROOM_NORMAL, filter, 0, 100, 1 << 20).await.unwrap();
        let rankings = history.messages.iter().filter_map(|message| wire::decode::<Ranking>(&message.payload).ok());
        rankings.last().filter(|ranking| ranking.gifts_total == 124).ok_or("not yet")
    })
    .await;
    assert_eq!(stored.top, ranking.top);
    assert_eq!(
        mesh.bus
            .read_history(&Stream::ROOM_LOW, Filter::notes_of(partition("a")), 0, 9, 9999)
            .await
            .unwrap()
            .messages
            .len(),
        3
    );
    wait_for("the gifts to be counted", LONG, async || {
        match mesh.metric(&owner, "pushmesh_room_fanout_applied_total{source=\"gift\"").await {
            5.0 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_banned_closed_and_opened_and_everybody_is_told_at_once() {
    let mesh = Mesh::start().await;
    let _owner = mesh.room_fanout("one", &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    assert_eq!(ann.joined.state, RoomState::default());
    let banned = RoomState { banned: true, ..RoomState::default() };
    mesh.set_state("a", banned).await;
    ann.until("the ban", |ann| ann.last::<RoomState>("state") == Some(banned)).await;
    assert_eq!(Viewer::join(&mesh, "a", "bob").await.joined.state, banned);
    let closed = RoomState { open: false, ..RoomState::default() };
    mesh.set_state("a", closed).await;
    ann.until("the end", |ann| ann.last::<RoomState>("state") == Some(closed)).await;
    let join = RoomAsk::Join(pushmesh_protocol::room::JoinAsk {
        room: room("a"),
        user: user("cat"),
        resume: None,
        trace: None,
    });
    wait_for("nobody to be let in", LONG, async || match mesh.ask("a", &join).await {
        RoomAnswer::Closed => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    mesh.set_state("a", RoomState::default()).await;
    ann.until("the beginning", |ann| ann.last::<RoomState>("state") == Some(RoomState::default())).await;
    wait_for("people to be let in", LONG, async || match mesh.ask("a", &join).await {
        RoomAnswer::Joined(_) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_muted_is_told_so_and_what_he_says_is_told_to_nobody() {
    let mesh = Mesh::start().await;
    let owner = mesh.room_fanout("one", &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    mesh.chat("a", "troll", "first").await;
    ann.until("his word", |ann| ann.count("chat") == 1).await;
    mesh.mute("a", "troll", Duration::from_secs(600)).await;
    ann.until("his mute", |ann| ann.last::<item::Mute>("mute").is_some_and(|mute| mute.user == user("troll"))).await;
    wait_for("the owner to know", LONG, async || {
        let troll = Viewer::join(&mesh, "a", "troll").await;
        troll.joined.muted_until.map(drop).ok_or("not muted")
    })
    .await;
    // Accepted by an api that did not know yet.
    mesh.chat("a", "troll", "second").await;
    mesh.chat("a", "bob", "third").await;
    ann.until("what others say", |ann| ann.count("chat") == 2).await;
    assert_eq!(ann.texts("chat"), ["first", "third"]);
    assert_eq!(ann.gaps, 0, "what nobody is told leaves no gap");
    wait_for("it to be counted", LONG, async || match mesh.metric(&owner, "pushmesh_room_fanout_muted_total").await {
        1.0 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_kicks_and_presence_reach_the_room() {
    let mesh = Mesh::start().await;
    let _owner = mesh.room_fanout("one", &["service.presence_every=100ms"]).await;
    mesh.set_role("a", "host", Role::Host).await;
    let host = wait_for("the role to be known", LONG, async || {
        let host = Viewer::join(&mesh, "a", "host").await;
        if host.overseer { Ok(host) } else { Err("not yet") }
    })
    .await;
    assert_eq!(host.joined.role, Some(Role::Host));
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    assert_eq!((ann.overseer, ann.joined.role), (false, None));
    let comets = [Comet::join(&mesh, "c1").await, Comet::join(&mesh, "c2").await];
    wait_for("both comets' counts", LONG, async || {
        comets[0].count(&[("a", 30), ("b", 1)]).await;
        comets[1].count(&[("a", 12)]).await;
        let present = mesh.info("a").await.present;
        if present == 42 { Ok(()) } else { Err(format!("{present}")) }
    })
    .await;
    ann.until("how many there are", |ann| {
        ann.last::<item::Presence>("presence").is_some_and(|presence| presence.present == 42)
    })
    .await;
    let [first, second] = comets;
    drop(second);
    // Whose members nobody speaks of any more.
    ann.until("how many are left", |ann| {
        ann.last::<item::Presence>("presence").is_some_and(|presence| presence.present == 30)
    })
    .await;
    drop(first);
    mesh.event("a", pushmesh_protocol::room::RoomHappening::Kick { user: user("ann") }).await;
    ann.until("the kick", |ann| ann.orders.contains(&RoomOrder::Kick { user: user("ann") })).await;
}
