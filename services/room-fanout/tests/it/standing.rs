use std::time::Duration;

use pushmesh_protocol::{
    frame::{Role, item},
    room::RoomHappening,
};

use crate::{
    mesh::{Mesh, now, user},
    viewer::Viewer,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_that_are_told_in_the_wrong_order_end_as_the_buckets_say() {
    let mesh = Mesh::start().await;
    let _owner = mesh.room_fanout("one", &[]).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    // The bucket's last word is told, then the one before it.
    mesh.mute("a", "troll", Duration::from_secs(600)).await;
    let early = RoomHappening::Mute { user: user("troll"), until: now() + 5_000_000, everywhere: false };
    mesh.event("a", early).await;
    mesh.set_role("a", "host", Role::Admin).await;
    mesh.event("a", RoomHappening::Role { user: user("host"), role: Some(Role::Host) }).await;
    // Muted and free again, told the other way round.
    mesh.mute("a", "free", Duration::from_secs(600)).await;
    mesh.unmute("a", "free").await;
    mesh.event("a", RoomHappening::Mute { user: user("free"), until: now() + 600_000, everywhere: false }).await;
    let mutes = |ann: &Viewer, who: &str| -> Vec<u64> {
        let all = ann.of("mute").map(|mute| item::read::<item::Mute>(&mute.data).unwrap());
        all.filter(|mute| mute.user == user(who)).map(|mute| mute.until).collect()
    };
    ann.until("what stands", |ann| {
        let role = ann.last::<item::RoleChange>("role").is_some_and(|change| change.role == Some(Role::Admin));
        (mutes(ann, "troll").len(), mutes(ann, "free").len(), ann.count("role")) == (3, 4, 3) && role
    })
    .await;
    let troll = mutes(&ann, "troll");
    assert_eq!((troll[2], mutes(&ann, "free")[3]), (troll[0], 0));
    assert_eq!(Viewer::join(&mesh, "a", "troll").await.joined.muted_until, Some(troll[0]));
    assert_eq!((ann.gaps, ann.lost), (0, 0));
}
