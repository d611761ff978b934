//! Rooms at a terminal, and in a program that loses its connection again and again.

use std::{collections::BTreeMap, path::Path, time::Duration};

use pushmesh_auth::{Minter, Scope};
use pushmesh_client::{Address, Api, ApiOptions, Chain, Client, Event, Events, Gift, Options, follow};
use pushmesh_protocol::{RoomId, Token};
use pushmesh_testkit::{Process, wait_for};
use serde_json::Value;

use crate::{
    command::{PATIENCE, json, options, run},
    mesh::Mesh,
};

/// `room join` in a room, once it is in it.
async fn join(data: &Path, user: &str, extra: &[&str]) -> Process {
    let mesh = ["--json", "--mesh", data.to_str().unwrap()];
    let args: Vec<_> =
        ["room", "join", "live", "--user", user].into_iter().chain(extra.iter().copied()).chain(mesh).collect();
    let process = Process::run(user, options(&args));
    wait_for("the room to be joined", PATIENCE, async || {
        let out = process.stdout();
        if out.contains("\"joined\"") { Ok(()) } else { Err(format!("{out}{}", process.stderr())) }
    })
    .await;
    process
}

/// The items that it has printed, as (type, data).
fn items(process: &Process) -> Vec<(String, String)> {
    let lines = process.stdout();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = |line: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (line["event"] == "room").then(|| (text(&line["item"]["type"]), text(&line["item"]["data"])))
    };
    lines.filter_map(of).collect()
}

async fn sees(process: &Process, kind: &str, part: &str) {
    wait_for(&format!("{kind} {part}"), PATIENCE, async || {
        let items = items(process);
        let found = items.iter().any(|(seen, data)| seen == kind && data.contains(part));
        if found { Ok(()) } else { Err(format!("{items:?} {}", process.stderr())) }
    })
    .await;
}

async fn refused(data: &Path, args: &[&str], code: i32, why: &str) {
    let args: Vec<_> = args.iter().copied().chain(["--mesh", data.to_str().unwrap()]).collect();
    let done = run(&args).await;
    assert_eq!(done.code, code, "{args:?}: {}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains(why), "{args:?}: {}", done.stderr);
}

async fn an_evening(data: &Path) {
    let alice = join(data, "alice", &[]).await;
    let mut bob = join(data, "bob", &["--wire-json"]).await;
    json(data, &["room", "say", "live", "hello", "--user", "carol"]).await;
    json(data, &["room", "say", "live", "whoosh", "--user", "dave", "--danmaku"]).await;
    json(data, &["room", "say", "live", "{\"x\":1}", "--user", "erin", "--type", "move"]).await;
    for (kind, part) in [("chat", "hello"), ("danmaku", "whoosh"), ("move", "{\"x\":1}")] {
        sees(&alice, kind, part).await;
        sees(&bob, kind, part).await;
    }

    let args = ["gift", "live", "rose", "--user", "carol", "--count", "3", "--value", "30", "--to", "bob"];
    let first = json(data, &args).await.remove(0);
    let key = first["key"].as_str().unwrap();
    let again: Vec<_> = args.into_iter().chain(["--key", key]).collect();
    let again = json(data, &again).await.remove(0);
    assert_eq!((&again["sequence"], &again["repeated"]), (&first["sequence"], &Value::Bool(true)));
    refused(data, &["gift", "live", "rose", "--user", "carol", "--value", "31", "--key", key], 1, "key_used").await;
    sees(&bob, "gift", key).await;
    assert_eq!(json(data, &["like", "live", "--user", "dave", "--count", "7"]).await[0]["accepted"], 7);
    sees(&alice, "like", "\"total\":7").await;
    json(data, &["push", "--room", "live", "--data", "we begin at nine", "--id", "n1"]).await;
    sees(&alice, "push", "we begin at nine").await;
    sees(&bob, "push", "we begin at nine").await;
    let told = run(&["room", "info", "live", "--mesh", data.to_str().unwrap()]).await.stdout;
    assert!(told.contains(" present in 1 part; 1 gifts worth 30; "), "{told}");
    let info = json(data, &["room", "info", "live"]).await.remove(0);
    assert_eq!((&info["gifts"], &info["gifts_total"], &info["likes_total"]), (&1.into(), &30.into(), &7.into()));
    assert_eq!(json(data, &["room", "ranking", "live"]).await[0]["user"], "carol");
    assert_eq!(json(data, &["room", "history", "live"]).await.len(), 2);
    assert_eq!(json(data, &["room", "history", "live", "--chain", "gifts", "--limit", "5"]).await.len(), 1);

    json(data, &["mute", "live", "carol", "--for", "5m"]).await;
    refused(data, &["room", "say", "live", "me", "--user", "carol"], 1, "muted").await;
    json(data, &["mute", "live", "carol", "--end"]).await;
    json(data, &["mute", "--everywhere", "carol"]).await;
    refused(data, &["room", "say", "live", "me", "--user", "carol"], 1, "muted").await;
    json(data, &["mute", "--everywhere", "carol", "--end"]).await;
    json(data, &["room", "role", "live", "bob", "host"]).await;
    json(data, &["room", "note", "live", "we begin at nine"]).await;
    sees(&alice, "role", "host").await;
    sees(&alice, "note", "nine").await;
    json(data, &["room", "state", "live", "--banned", "true"]).await;
    refused(data, &["room", "say", "live", "me", "--user", "carol"], 1, "room_banned").await;
    assert_eq!(json(data, &["room", "state", "live", "--banned", "false"]).await[0]["state"]["banned"], false);
    json(data, &["room", "kick", "live", "bob"]).await;
    assert_eq!(bob.ended(PATIENCE).await.code(), Some(1), "{}", bob.stderr());
    assert!(bob.stdout().contains("kicked"), "{}", bob.stdout());
    assert_eq!(items(&alice).iter().filter(|(kind, _)| kind == "gift").count(), 1, "one key, one gift");
}

struct Watcher {
    client: Client,
    events: Events,
    /// The offsets of each chain, as shown.
    shown: BTreeMap<String, Vec<u64>>,
    gaps: u32,
    position: Option<pushmesh_client::RoomPosition>,
}

impl Watcher {
    fn note(&mut self, event: Event) {
        match event {
            Event::Joined(joined) => {
                self.position.get_or_insert(joined.position);
            }
            Event::Room { item, .. } if item.chain != Chain::Loose => {
                follow(self.position.as_mut().expect("joined before anything is shown"), &item);
                self.shown.entry(format!("{:?}", item.chain)).or_default().push(item.offset);
            }
            Event::RoomGap { .. } => self.gaps += 1,
            _ => {}
        }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
            let event = event.unwrap_or_else(|_| panic!("waited for {what}: {:?}, {:?}", self.shown, self.position));
            self.note(event.expect("the client goes on"));
        }
    }
}

/// Says and gives while watchers lose their connections; each sees all of it, once.
async fn nothing_is_lost_over_reconnects(mesh: &Mesh) {
    let minter = Minter::from_jwks(&mesh.data().join("jwks.json")).unwrap();
    let backend =
        minter.backend(Token::new("b").unwrap(), &[Scope::RoomWrite, Scope::RoomRead], Duration::from_secs(600));
    let url = format!("http://{}", mesh.door("api", "http"));
    let api = Api::new(ApiOptions::new(url.clone(), backend)).unwrap();
    let room: RoomId = "storm".parse().unwrap();
    let mut watchers = vec![];
    for (n, transport) in ["ws", "tcp", "ws"].into_iter().enumerate() {
        let token = minter.client(&format!("watcher-{n}").parse().unwrap(), None, Duration::from_secs(600));
        // Nobody listens there: api knows better.
        let nowhere: Address = format!("{transport}://127.0.0.1:1").parse().unwrap();
        let mut options = Options::new(nowhere, token.as_str(), "screen".parse().unwrap());
        options.api = Some(Api::new(ApiOptions::new(url.clone(), token)).unwrap());
        let (client, events) = Client::connect(options);
        client.join(room.clone()).await;
        let mut watcher = Watcher { client, events, shown: BTreeMap::new(), gaps: 0, position: None };
        watcher.until("JOINED", |watcher| watcher.position.is_some()).await;
        watchers.push(watcher);
    }
    let (mut said, mut given) = (vec![], vec![]);
    for n in 0..60u64 {
        let speaker = api.in_the_name_of(format!("speaker-{}", n % 7).parse().unwrap());
        said.push(speaker.chat(&room, &format!("line {n}")).await.unwrap().sequence);
        if n % 4 == 0 {
            given.push(speaker.gift(&room, &Gift::new("rose".parse().unwrap(), 1)).await.unwrap().sequence);
        }
        if n % 9 == 3 {
            watchers[n as usize / 9 % 3].client.reconnect().await;
        }
    }
    let (last_said, last_given) = (*said.last().unwrap(), *given.last().unwrap());
    for mut watcher in watchers {
        let there = |watcher: &Watcher| watcher.position.is_some_and(|p| p.high >= last_said && p.gifts >= last_given);
        watcher.until("the last line and gift", there).await;
        assert_eq!(watcher.shown["High"], said);
        assert_eq!(watcher.shown["Gifts"], given);
        assert_eq!(watcher.gaps, 0);
        assert!(watcher.client.stats().logins > 1, "{:?}", watcher.client.stats());
        watcher.client.logout().await;
    }
    let ranking: Value = api.get(&format!("/v1/rooms/{room}/ranking")).await.unwrap();
    assert_eq!(ranking["gifts_total"], given.len());
}

#[tokio::test]
async fn a_room_from_its_first_word_to_its_last() {
    let mut mesh = Mesh::up(&[]).await;
    an_evening(&mesh.data()).await;
    nothing_is_lost_over_reconnects(&mesh).await;
    mesh.process.expect_drained(PATIENCE).await;
}
