//! What keeps order in rooms: state, roles, kicks, notes, and `pushmesh mute`.

use std::time::Duration;

use anyhow::anyhow;
use pushmesh_client::Method;
use pushmesh_protocol::{Payload, RoomId, Token, UserId};
use serde_json::{Map, Value, json};

use crate::{
    doors::Backend,
    duration,
    exit::{Failure, Outcome},
    output::clock,
};

#[derive(Debug, clap::Args)]
pub struct State {
    room: RoomId,
    /// People may join and send
    #[arg(long, value_name = "BOOL")]
    open: Option<bool>,
    /// Its stream can be watched: told, not enforced
    #[arg(long, value_name = "BOOL")]
    playable: Option<bool>,
    /// Every send is refused
    #[arg(long, value_name = "BOOL")]
    banned: Option<bool>,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct Role {
    room: RoomId,
    user: UserId,
    role: RoleName,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RoleName {
    Host,
    Admin,
    None,
}

#[derive(Debug, clap::Args)]
pub struct Kick {
    room: RoomId,
    user: UserId,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct Note {
    room: RoomId,
    text: String,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct Mute {
    /// A room and a user; with --everywhere the user alone
    #[arg(required = true, num_args = 1..=2, value_names = ["ROOM", "USER"])]
    names: Vec<Token>,
    /// For how long: at most 30d
    #[arg(long = "for", default_value = "10m", value_parser = duration::parse)]
    period: Duration,
    /// In every room
    #[arg(long)]
    everywhere: bool,
    /// He may speak again
    #[arg(long, conflicts_with = "period")]
    end: bool,
    #[command(flatten)]
    backend: Backend,
}

impl State {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let fields = [("open", self.open), ("playable", self.playable), ("banned", self.banned)];
        let changes: Map<_, _> =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
        let state: Value = if changes.is_empty() {
            let info: Value = door.api.get(&format!("/v1/rooms/{}", self.room)).await.map_err(|e| door.refused(e))?;
            info["state"].clone()
        } else {
            let path = format!("/v1/rooms/{}/state", self.room);
            door.api.request(Method::PUT, &path, Some(&changes.into())).await.map_err(|e| door.refused(e))?
        };
        let object = json!({ "room": self.room, "state": state });
        Ok(self.backend.place.output().line(format!("{}: {}", self.room, in_words(&state)), &object)?)
    }
}

/// A room's state, for people.
pub fn in_words(state: &Value) -> String {
    let is = |name: &str| state[name] == true;
    let mut words = vec![if is("open") { "open" } else { "closed" }];
    words.push(if is("playable") { "playable" } else { "not playable" });
    if is("banned") {
        words.push("banned");
    }
    words.join(", ")
}

impl Role {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let path = format!("/v1/rooms/{}/roles/{}", self.room, self.user);
        let (role, method, body) = match self.role {
            RoleName::Host => (Some("host"), Method::PUT, Some(json!({ "role": "host" }))),
            RoleName::Admin => (Some("admin"), Method::PUT, Some(json!({ "role": "admin" }))),
            RoleName::None => (None, Method::DELETE, None),
        };
        let answer: Result<Value, _> = door.api.request(method, &path, body.as_ref()).await;
        answer.map_err(|error| door.refused(error))?;
        let text = match role {
            Some(role) => format!("{} is {role} in {}", self.user, self.room),
            None => format!("{} has no role in {}", self.user, self.room),
        };
        let object = json!({ "room": self.room, "user": self.user, "role": role });
        Ok(self.backend.place.output().line(text, &object)?)
    }
}

impl Kick {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let path = format!("/v1/rooms/{}/kicks", self.room);
        let answer: Result<Value, _> = door.api.post(&path, &json!({ "user": self.user })).await;
        answer.map_err(|error| door.refused(error))?;
        let object = json!({ "room": self.room, "user": self.user });
        Ok(self.backend.place.output().line(format!("{} is sent out of {}", self.user, self.room), &object)?)
    }
}

impl Note {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let (path, data) = (format!("/v1/rooms/{}/notes", self.room), Payload::from(self.text.as_str()));
        let answer: Value =
            door.api.post(&path, &json!({ "data": data })).await.map_err(|error| door.refused(error))?;
        let object = json!({ "room": self.room, "sequence": answer["sequence"] });
        Ok(self.backend.place.output().line(format!("note {} in {}", answer["sequence"], self.room), &object)?)
    }
}

impl Mute {
    pub async fn run(self) -> Outcome {
        let (room, user) = match (&self.names[..], self.everywhere) {
            ([user], true) => (None, user),
            ([room, user], false) => (Some(room), user),
            ([_], _) => return Err(Failure::usage(anyhow!("give a room and a user, or --everywhere and a user"))),
            _ => return Err(Failure::usage(anyhow!("--everywhere is for all rooms: give the user alone"))),
        };
        let door = self.backend.api()?;
        let path = match room {
            Some(room) => format!("/v1/rooms/{room}/mutes/{user}"),
            None => format!("/v1/mutes/{user}"),
        };
        let (method, body) = match self.end {
            true => (Method::DELETE, None),
            false => (Method::PUT, Some(json!({ "for": format!("{}ms", self.period.as_millis()) }))),
        };
        let answer: Value =
            door.api.request(method, &path, body.as_ref()).await.map_err(|error| door.refused(error))?;
        let place = room.map_or_else(|| "everywhere".to_owned(), |room| format!("in {room}"));
        let until = answer["until"].as_u64().unwrap_or(0);
        let text = match until {
            0 => format!("{user} may speak {place}"),
            until => format!("{user} is muted {place} until {}", clock(until)),
        };
        let object = json!({ "room": room, "user": user, "until": until, "everywhere": self.everywhere });
        Ok(self.backend.place.output().line(text, &object)?)
    }
}
