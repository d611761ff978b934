//! A provisioned nats-server with two instances of api, and what their streams hold.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pushmesh_auth::{Minter, Scope, generate_jwks};
use pushmesh_bus::{Bus, Config, StreamMessage};
use pushmesh_protocol::{
    Instance, Partitions, RoomId, Token, UserId,
    message::Millis,
    name::{Filter, Stream, parse},
    room::{Gift, LikesTotal, Note, RoomEvent, RoomHappening, RoomMessage},
    topology::{TopologyConfig, topology},
    wire,
};
use pushmesh_testkit::{Nats, Process, ProcessOptions};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// More than anything takes on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(60);

pub struct Mesh {
    pub nats: Nats,
    pub bus: Bus,
    pub one: Process,
    pub two: Process,
    settings: Vec<String>,
    jwks: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mesh {
    pub async fn start() -> Mesh {
        Self::start_with(&[]).await
    }

    pub async fn start_with(settings: &[&str]) -> Mesh {
        let nats = Nats::start().await;
        let bus = Config { url: nats.url(), ..Config::default() };
        let (service, instance) = (Token::new("test").unwrap(), Instance::new("test").unwrap());
        let bus = Bus::connect(&bus, &service, &instance).await.unwrap();
        let config = TopologyConfig { partitions: partitions(), ..TopologyConfig::default() };
        pushmesh_bus::provision(&bus, &topology(&config)).await.unwrap();

        let dir = tempfile::tempdir().unwrap();
        let jwks = dir.path().join("jwks.json");
        generate_jwks(&jwks).unwrap();
        let own = [
            format!("nats.url={}", nats.url()),
            format!("auth.jwks_file={}", jwks.display()),
            "admin.listen=127.0.0.1:0".into(),
            "service.door.listen=127.0.0.1:0".into(),
        ];
        let settings: Vec<_> = own.into_iter().chain(settings.iter().map(|setting| (*setting).to_owned())).collect();
        let (one, two) = tokio::join!(process("one", &settings), process("two", &settings));
        Mesh { nats, bus, one, two, settings, jwks, _dir: dir }
    }

    /// Ends the first instance in order, and starts it anew.
    pub async fn restart_one(&mut self) {
        self.one.expect_drained(LONG).await;
        self.one = process("one", &self.settings).await;
    }

    pub fn minter(&self) -> Minter {
        Minter::from_jwks(&self.jwks).unwrap()
    }

    /// A client's token.
    pub fn client(&self, user: &str) -> String {
        self.minter().client(&user.parse().unwrap(), None, Duration::from_secs(600))
    }

    /// A backend's token.
    pub fn backend(&self, scopes: &[Scope]) -> String {
        self.minter().backend("shop", scopes, Duration::from_secs(600))
    }

    /// At the first instance.
    pub fn at_one(&self, token: String) -> Door {
        Door::new(&self.one, token)
    }

    /// At the second instance.
    pub fn at_two(&self, token: String) -> Door {
        Door::new(&self.two, token)
    }

    /// The first instance, as the backend that may do everything in rooms.
    pub fn keeper(&self) -> Door {
        self.at_one(self.backend(&[Scope::RoomWrite]))
    }

    /// All gifts, by their sequences.
    pub async fn gifts(&self, room: &str) -> Vec<(u64, Gift)> {
        let partition = partitions().of_room(&room.parse().unwrap());
        let gifts: Vec<(u64, Gift)> = self.held(&Stream::ROOM_HIGH, Filter::gifts_of(partition)).await;
        gifts.into_iter().filter(|(_, gift)| gift.room.as_str() == room).collect()
    }

    pub async fn chat(&self, room: &str) -> Vec<(u64, RoomMessage)> {
        let partition = partitions().of_room(&room.parse().unwrap());
        let chat: Vec<(u64, RoomMessage)> = self.held(&Stream::ROOM_HIGH, Filter::chats_of(partition)).await;
        chat.into_iter().filter(|(_, message)| message.room.as_str() == room).collect()
    }

    pub async fn happened(&self, room: &str) -> Vec<(Option<UserId>, RoomHappening)> {
        let partition = partitions().of_room(&room.parse().unwrap());
        let events: Vec<(u64, RoomEvent)> = self.held(&Stream::ROOM_NORMAL, Filter::room_events_of(partition)).await;
        let here = events.into_iter().filter(|(_, event)| event.room.as_str() == room);
        here.map(|(_, event)| (event.by, event.what)).collect()
    }

    pub async fn notes(&self, room: &str) -> Vec<Note> {
        let partition = partitions().of_room(&room.parse().unwrap());
        let notes: Vec<(u64, Note)> = self.held(&Stream::ROOM_LOW, Filter::notes_of(partition)).await;
        notes.into_iter().map(|(_, note)| note).filter(|note| note.room.as_str() == room).collect()
    }

    /// The sum of all lives of all instances, and how many there are.
    pub async fn likes(&self, room: &str) -> (u64, usize) {
        let room: RoomId = room.parse().unwrap();
        let messages = self.messages(&Stream::ROOM_LOW, Filter::likes_of(partitions().of_room(&room))).await;
        let here = messages.iter().filter(|message| parse::likes(&message.subject).unwrap().1 == room);
        let totals: Vec<LikesTotal> = here.map(|message| wire::decode(&message.payload).unwrap()).collect();
        (totals.iter().map(|likes| likes.total).sum(), totals.len())
    }

    async fn held<T: DeserializeOwned>(&self, stream: &Stream, filter: Filter) -> Vec<(u64, T)> {
        let messages = self.messages(stream, filter).await.into_iter();
        messages.map(|message| (message.sequence, wire::decode(&message.payload).unwrap())).collect()
    }

    async fn messages(&self, stream: &Stream, filter: Filter) -> Vec<StreamMessage> {
        let history = self.bus.read_history(stream, filter, 0, 100_000, 100_000_000).await.unwrap();
        assert_eq!(history.pending, 0);
        history.messages
    }
}

async fn process(name: &str, settings: &[String]) -> Process {
    let args = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
    Process::start(name, ProcessOptions::new(env!("CARGO_BIN_EXE_api")).args(args)).await
}

pub fn partitions() -> Partitions {
    Partitions::new(8).unwrap()
}

/// Milliseconds since 1970.
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
}

/// A gift's key that was made at a time.
pub fn key_of(at: Millis, number: u64) -> String {
    let hex = format!("{at:012x}");
    format!("{}-{}-7000-8000-{number:012x}", &hex[..8], &hex[8..])
}

/// One instance, as the owner of one token sees it.
#[derive(Clone)]
pub struct Door {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct Said {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Door {
    pub fn new(process: &Process, token: String) -> Self {
        Self { http: reqwest::Client::new(), base: format!("http://{}", process.door("http")), token }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn post(&self, path: &str, body: Value) -> Said {
        self.ask(Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Said {
        self.ask(Method::PUT, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Said {
        self.ask(Method::DELETE, path, "").await
    }

    pub async fn get(&self, path: &str) -> Said {
        self.ask(Method::GET, path, "").await
    }

    /// With whatever body.
    pub async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Said {
        let request = self.http.request(method, self.url(path)).bearer_auth(&self.token).body(body);
        Said::of(request.send().await.unwrap()).await
    }
}

impl Said {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {error}: {text:?}"));
        Self { status, headers, json }
    }

    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert!(self.status.is_success(), "{self:?}");
        &self.json
    }

    /// It was refused so: status, `error`, and `field` or `limit`.
    #[track_caller]
    pub fn refused(&self, status: u16, error: &str, what: &str) {
        assert_eq!((self.status.as_u16(), self.json["error"].as_str()), (status, Some(error)), "{self:?}");
        let named = |key: &str| self.json[key].as_str() == Some(what);
        assert!(what.is_empty() || named("field") || named("limit"), "expected {what}: {self:?}");
        assert!(self.json["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
    }

    pub fn sequence(&self) -> u64 {
        self.ok()["sequence"].as_u64().unwrap()
    }
}
