//! The demo tells a working mesh from a broken one. A test binary of its own: it measures time, and shares the machine with
//! no other story.

use std::time::Duration;

use pushmesh_testkit::{Process, ProcessOptions, pushmesh_binary};

const LIMIT: Duration = Duration::from_secs(240);

async fn demo(args: &[&str], exit: i32) -> serde_json::Value {
    let options = ProcessOptions::new(pushmesh_binary()).args(["demo", "--json", "--speed", "24"]).args(args);
    let mut process = Process::run("demo", options);
    process.expect_exit(exit, LIMIT).await;
    let stdout = process.stdout();
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{last:?} is no verdict: {error}"))
}

/// Other tools read them: neither one less nor one more.
const KEYS: [&str; 12] = [
    "acked",
    "duplicated",
    "extra",
    "logins",
    "logins_implied",
    "lost",
    "must",
    "p50_ms",
    "p99_ms",
    "pushes",
    "rooms",
    "withdrawn",
];
const ROOM_KEYS: [&str; 11] = [
    "chat_lost",
    "chat_out_of_order",
    "gift_p50_ms",
    "gift_p99_ms",
    "gifts",
    "gifts_lost",
    "gifts_twice",
    "ledger_exact",
    "likes_accepted",
    "likes_counted",
    "members",
];

/// In alphabetical order.
fn keys(object: &serde_json::Value) -> Vec<&str> {
    object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// One after the other: five meshes at once would measure the machine.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_passes_and_every_sabotage_is_seen() {
    let right = demo(&[], 0).await;
    assert_eq!(keys(&right), KEYS);
    assert_eq!(keys(&right["rooms"]), ROOM_KEYS);
    let numbers = KEYS.iter().filter(|key| !["pushes", "rooms"].contains(key)).map(|key| &right[key]);
    let in_rooms = ROOM_KEYS.iter().filter(|key| **key != "ledger_exact").map(|key| &right["rooms"][key]);
    assert!(numbers.chain(in_rooms).all(serde_json::Value::is_number), "{right}");
    for key in ["lost", "duplicated", "extra"] {
        assert_eq!(right[key], 0, "{right}");
    }
    for kind in ["group", "discuss", "org"] {
        assert!(right["pushes"][kind].as_u64() > Some(0), "{right}");
    }
    assert!(right["must"].as_u64() > Some(1000), "{right}");
    let rooms = &right["rooms"];
    for key in ["gifts_lost", "gifts_twice", "chat_lost", "chat_out_of_order"] {
        assert_eq!(rooms[key], 0, "{right}");
    }
    assert_eq!(rooms["ledger_exact"], true, "{right}");
    assert_eq!(rooms["likes_accepted"], rooms["likes_counted"], "{right}");
    assert!(rooms["members"].as_u64() >= Some(1000) && rooms["gifts"].as_u64() > Some(100), "{right}");
    for (sabotage, key) in [("drop", "lost"), ("dup", "duplicated"), ("extra", "extra")] {
        let wrong = demo(&["--sabotage", sabotage, "--viewers", "0"], 1).await;
        assert!(wrong[key].as_u64() > Some(0), "{sabotage}: {wrong}");
        assert_eq!(keys(&wrong), KEYS.iter().copied().filter(|key| *key != "rooms").collect::<Vec<_>>());
        assert_eq!(keys(&wrong["pushes"]), ["discuss", "group", "org"]);
    }
    let wrong = demo(&["--sabotage", "gift", "--viewers", "200"], 1).await;
    assert!(wrong["rooms"]["gifts_twice"].as_u64() > Some(0), "{wrong}");
    assert_eq!(
        (&wrong["rooms"]["ledger_exact"], &wrong["lost"], &wrong["extra"]),
        (&false.into(), &0.into(), &0.into())
    );
}
