//! What a room is like, what happened there, and who gave most.

use pushmesh_protocol::{Payload, RoomId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{keep, lines};
use crate::{doors::Backend, exit::Outcome, output::clock};

#[derive(Debug, clap::Args)]
pub struct Info {
    room: RoomId,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct History {
    room: RoomId,
    /// gifts; high: chat and its like; normal: mutes, roles, state
    #[arg(long, default_value = "high")]
    chain: Chain,
    /// Only what came after this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    after: u64,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Chain {
    Gifts,
    High,
    Normal,
}

#[derive(Debug, clap::Args)]
pub struct Ranking {
    room: RoomId,
    /// The first so many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    places: u32,
    #[command(flatten)]
    backend: Backend,
}

impl Info {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let info: Value = door.api.get(&format!("/v1/rooms/{}", self.room)).await.map_err(|e| door.refused(e))?;
        let text = format!(
            "{}: {}; {} present in {}; {} gifts worth {}; {} likes",
            self.room,
            keep::in_words(&info["state"]),
            info["present"],
            in_parts(&info["parts"]),
            info["gifts"],
            info["gifts_total"],
            info["likes_total"]
        );
        Ok(self.backend.place.output().line(text, &info)?)
    }
}

/// How it is cut: "1 part" is whole.
fn in_parts(parts: &Value) -> String {
    format!("{parts} {}", if parts == 1 { "part" } else { "parts" })
}

impl History {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let chain = match self.chain {
            Chain::Gifts => "gifts",
            Chain::High => "high",
            Chain::Normal => "normal",
        };
        let Self { room, after, limit, .. } = &self;
        let path = format!("/v1/rooms/{room}/history?chain={chain}&after={after}&limit={limit}");
        let answer: Value = door.api.get(&path).await.map_err(|error| door.refused(error))?;
        let output = self.backend.place.output();
        for item in answer["items"].as_array().into_iter().flatten() {
            let from = item["from"].as_str().unwrap_or("-");
            let kind = item["type"].as_str().unwrap_or("?");
            let data = Payload::deserialize(&item["data"]).map(|data| lines::describe(kind, &data)).unwrap_or_default();
            let at = clock(item["at"].as_u64().unwrap_or(0));
            output.line(format!("{at}  {:>8}  {kind:<8} {from}  {data}", item["offset"].to_string()), item)?;
        }
        if answer["more"] == true {
            eprintln!("there is more: give --after the last offset");
        }
        Ok(())
    }
}

impl Ranking {
    pub async fn run(self) -> Outcome {
        let door = self.backend.api()?;
        let path = format!("/v1/rooms/{}/ranking?places={}", self.room, self.places);
        let answer: Value = door.api.get(&path).await.map_err(|error| door.refused(error))?;
        let places = answer["top"].as_array().cloned().unwrap_or_default();
        for (at, place) in places.iter().enumerate() {
            let text = format!("{:>4}  {:>12}  {}", at + 1, place["total"], place["user"].as_str().unwrap_or("?"));
            let object = json!({ "place": at + 1, "user": place["user"], "total": place["total"] });
            self.backend.place.output().line(text, &object)?;
        }
        Ok(())
    }
}
