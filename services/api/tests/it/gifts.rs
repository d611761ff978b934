use std::{cell::Cell, collections::HashSet};

use futures_util::{StreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_testkit::wait_for;
use serde_json::json;

use crate::mesh::{LONG, Mesh, key_of, now};

const GIFTS: &str = "/v1/rooms/stage/gifts";

#[tokio::test(flavor = "multi_thread")]
async fn a_gift_said_three_times_has_one_effect_and_one_answer() {
    let mut mesh = Mesh::start().await;
    let (key, alice) = (key_of(now(), 1), mesh.client("alice"));
    let gift = json!({"key": key, "gift": "rose", "count": 3, "value": 300, "note": "for you"});
    let first = mesh.at_one(alice.clone()).post(GIFTS, gift.clone()).await;
    let sequence = first.sequence();
    assert_eq!(*first.ok(), json!({"key": key, "sequence": sequence, "repeated": false}));
    let again = json!({"key": key, "sequence": sequence, "repeated": true});
    assert_eq!(*mesh.at_two(alice.clone()).post(GIFTS, gift.clone()).await.ok(), again);
    mesh.restart_one().await;
    assert_eq!(*mesh.at_one(alice.clone()).post(GIFTS, gift.clone()).await.ok(), again);
    // A backend that says the same in her name says the same gift; and an upper case is no other key.
    let mut by_shop = gift.clone();
    by_shop["from"] = json!("alice");
    by_shop["key"] = json!(key.to_uppercase());
    assert_eq!(*mesh.keeper().post(GIFTS, by_shop).await.ok(), again);

    for (field, value) in [("value", json!(301)), ("count", json!(4)), ("gift", json!("rocket")), ("note", json!(null))]
    {
        let mut other = gift.clone();
        other[field] = value;
        mesh.at_two(alice.clone()).post(GIFTS, other).await.refused(409, "key_used", "key");
    }
    mesh.at_two(alice.clone()).post("/v1/rooms/other/gifts", gift.clone()).await.refused(409, "key_used", "key");
    mesh.at_one(mesh.client("bob")).post(GIFTS, gift).await.refused(409, "key_used", "key");

    let stored = mesh.gifts("stage").await;
    let [(at, gift)] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!((*at, gift.from.as_str(), gift.count, gift.value), (sequence, "alice", 3, 300));
    assert_eq!(gift.note.as_deref(), Some("for you"));
    assert!(mesh.gifts("other").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_gifts_at_both_doors_counts_each_once() {
    let mesh = Mesh::start().await;
    let shop = mesh.backend(&[Scope::RoomWrite]);
    let doors = [mesh.at_one(shop.clone()), mesh.at_two(shop)];
    let made = now();
    // Six hundred gifts, each said four times, twice at each door.
    let said = (0..2400).map(|number: usize| {
        let (door, gift) = (&doors[number % 2], (number / 4) as u64);
        let body = json!({"key": key_of(made, gift), "from": "alice", "gift": "rose", "value": gift});
        async move { (gift, door.post(GIFTS, body).await) }
    });
    let answers: Vec<_> = stream::iter(said).buffer_unordered(200).collect().await;
    let firsts: Vec<_> = answers.iter().filter(|(_, said)| said.ok()["repeated"] == false).collect();
    assert_eq!(firsts.len(), 600);
    let stored = mesh.gifts("stage").await;
    assert_eq!(stored.len(), 600);
    let sequences: HashSet<_> = stored.iter().map(|(sequence, gift)| (*sequence, gift.value)).collect();
    for (gift, said) in &answers {
        assert!(sequences.contains(&(said.sequence(), *gift)), "every answer is the first one's: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_an_hour_and_a_gift_has_limits() {
    let mesh = Mesh::start_with(&["service.limits.gift_value_max=1000"]).await;
    let alice = mesh.at_one(mesh.client("alice"));
    let minute = 60_000;
    let gift = |key: String| json!({"key": key, "gift": "rose", "value": 1});
    alice.post(GIFTS, gift(key_of(now() - 61 * minute, 1))).await.refused(410, "key_too_old", "key");
    alice.post(GIFTS, gift(key_of(now() + 2 * minute, 1))).await.refused(400, "invalid", "key");
    alice.post(GIFTS, gift(key_of(now() - 59 * minute, 1))).await.ok();
    alice.post(GIFTS, gift("0190a5d0-ac96-474b-bcce-b302099a8057".into())).await.refused(400, "invalid", "key");

    let with = |field: &str, value: serde_json::Value| {
        let mut gift = gift(key_of(now(), 2));
        gift[field] = value;
        gift
    };
    alice.post(GIFTS, with("value", json!(1001))).await.refused(400, "invalid", "gift_value_max");
    alice.post(GIFTS, with("count", json!(10_001))).await.refused(400, "invalid", "gift_count_max");
    alice.post(GIFTS, with("count", json!(0))).await.refused(400, "invalid", "count");
    alice.post(GIFTS, with("note", json!("x".repeat(513)))).await.refused(413, "too_large", "gift_note_max_bytes");
    alice.post(GIFTS, with("from", json!("bob"))).await.refused(403, "forbidden", "from");
    alice.post(GIFTS, with("from", json!("alice"))).await.ok();
    mesh.keeper().post(GIFTS, with("note", json!("who?"))).await.refused(400, "invalid", "from");
    assert_eq!(mesh.gifts("stage").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_before_a_ban_is_answered_as_before() {
    let mesh = Mesh::start().await;
    let (alice, keeper) = (mesh.at_one(mesh.client("alice")), mesh.keeper());
    let gift = |number| json!({"key": key_of(now() - 1000, number), "gift": "rose", "value": number});
    let before = gift(1);
    let sequence = alice.post(GIFTS, before.clone()).await.sequence();
    keeper.put("/v1/rooms/stage/state", json!({"banned": true})).await.ok();
    let again = alice.post(GIFTS, before.clone()).await;
    assert_eq!((again.sequence(), &again.ok()["repeated"]), (sequence, &json!(true)));
    let mut other = before;
    other["value"] = json!(9);
    alice.post(GIFTS, other).await.refused(409, "key_used", "key");
    alice.post(GIFTS, gift(2)).await.refused(403, "room_banned", "room");
    assert_eq!(mesh.gifts("stage").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_muted_gives_without_words() {
    let mesh = Mesh::start_with(&["service.limits.gifts_per_user=1000", "service.limits.requests_per_user=1000"]).await;
    let (keeper, troll) = (mesh.keeper(), mesh.client("troll"));
    let doors = [mesh.at_one(troll.clone()), mesh.at_two(troll)];
    let (made, numbers) = (now(), Cell::new(0));
    let gift = |note: Option<&str>| {
        numbers.set(numbers.get() + 1);
        json!({"key": key_of(made, numbers.get()), "gift": "rose", "value": 5, "note": note})
    };
    let before = gift(Some("you fools"));
    let sequence = doors[1].post(GIFTS, before.clone()).await.sequence();
    for path in ["/v1/rooms/stage/mutes/troll", "/v1/mutes/troll"] {
        let until = keeper.put(path, json!({"for": "10m"})).await.ok()["until"].clone();
        for door in &doors {
            let said = wait_for("the mute to hold", LONG, async || {
                let said = door.post(GIFTS, gift(Some("you fools"))).await;
                if said.status.is_success() { Err(format!("{said:?}")) } else { Ok(said) }
            })
            .await;
            said.refused(403, "muted", "note");
            assert_eq!(said.json["until"], until);
            assert!(said.json["message"].as_str().unwrap().ends_with("the gift is taken without its note"), "{said:?}");
            assert_eq!(door.post(GIFTS, gift(None)).await.ok()["repeated"], false);
            // What was given before the mute is answered as it was then.
            let again = door.post(GIFTS, before.clone()).await;
            assert_eq!((again.sequence(), &again.json["repeated"]), (sequence, &json!(true)));
        }
        // In his name nobody speaks either.
        let mut by_shop = gift(Some("you fools"));
        by_shop["from"] = json!("troll");
        keeper.post(GIFTS, by_shop).await.refused(403, "muted", "note");
        keeper.delete(path).await.ok();
        wait_for("the mute to end", LONG, async || {
            let said = doors[0].post(GIFTS, gift(Some("sorry"))).await;
            if said.status.is_success() { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }
}
