//! `pushmesh room say`, `pushmesh gift` and `pushmesh like`: what people do in rooms.

use std::time::Duration;

use anyhow::anyhow;
use pushmesh_client::Api;
use pushmesh_protocol::{GiftKey, RoomId, Token, UserId};
use serde_json::json;

use crate::{
    doors::{ApiDoor, Backend},
    duration,
    exit::{Failure, Outcome},
};

/// How long a line is said again: whoever types it waits.
const SAID_AGAIN: Duration = Duration::from_secs(3);

/// In whose name something is sent.
#[derive(Debug, clap::Args)]
struct Sender {
    /// Who sends it [default: with --token-file the token's user, or the backend itself]
    #[arg(long, required_unless_present = "token_file")]
    user: Option<UserId>,
    #[command(flatten)]
    backend: Backend,
}

impl Sender {
    fn speaks(&self, door: &ApiDoor) -> Api {
        match &self.user {
            Some(user) => door.api.in_the_name_of(user.clone()),
            None => door.api.clone(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Say {
    room: RoomId,
    /// At most 4,096 bytes, unless the mesh says otherwise
    text: String,
    /// Let it fly over the picture
    #[arg(long, conflicts_with = "kind")]
    danmaku: bool,
    /// A type of the application's own
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Token>,
    #[command(flatten)]
    sender: Sender,
}

#[derive(Debug, clap::Args)]
pub struct Gift {
    room: RoomId,
    /// Which gift: "rose"
    gift: Token,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Of all of them, in the smallest unit of money
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    value: u64,
    /// To whom [default: the room]
    #[arg(long)]
    to: Option<UserId>,
    /// Shown with it: at most 512 bytes, unless the mesh says otherwise
    #[arg(long)]
    note: Option<String>,
    /// A UUID of version 7: the same key within an hour is the same gift [default: a new one]
    #[arg(long)]
    key: Option<GiftKey>,
    /// How long it is said again until it is answered
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    within: Duration,
    #[command(flatten)]
    sender: Sender,
}

#[derive(Debug, clap::Args)]
pub struct Like {
    room: RoomId,
    /// How many; the mesh counts a bounded number a second of each user
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[command(flatten)]
    sender: Sender,
}

impl Say {
    pub async fn run(self) -> Outcome {
        let door = self.sender.backend.api_with(|options| options.message_patience = SAID_AGAIN)?;
        let api = self.sender.speaks(&door);
        let kind = match (self.kind, self.danmaku) {
            (Some(kind), _) => kind,
            (None, true) => Token::new("danmaku").expect("a token"),
            (None, false) => Token::new("chat").expect("a token"),
        };
        let stored = api.message(&self.room, &kind, &self.text.as_str().into()).await;
        let sequence = stored.map_err(|error| door.refused(error))?.sequence;
        let object = json!({ "room": self.room, "type": kind, "sequence": sequence });
        Ok(self.sender.backend.place.output().line(format!("{kind} {sequence} in {}", self.room), &object)?)
    }
}

impl Gift {
    pub async fn run(self) -> Outcome {
        let door = self.sender.backend.api_with(|options| options.gift_patience = self.within)?;
        let key = self.key.unwrap_or_else(pushmesh_client::new_key);
        let Self { gift, count, value, to, note, .. } = self;
        let gift = pushmesh_client::Gift { key, gift, count, value, to, note };
        let given =
            self.sender.speaks(&door).gift(&self.room, &gift).await.map_err(|error| match error.may_pass() {
                // Whoever repeats it must know the key.
                true => {
                    Failure::from(anyhow::Error::new(door.refused(error)).context(format!("with --key {}", gift.key)))
                }
                false => door.refused(error),
            })?;
        let again = if given.repeated { ", as before" } else { "" };
        let text = format!(
            "{} × {} in {}: gift {}{again}, key {}",
            gift.count, gift.gift, self.room, given.sequence, given.key
        );
        let object = json!({
            "room": self.room, "key": given.key, "sequence": given.sequence, "repeated": given.repeated,
        });
        Ok(self.sender.backend.place.output().line(text, &object)?)
    }
}

impl Like {
    pub async fn run(self) -> Outcome {
        let door = self.sender.backend.api()?;
        let liked = self.sender.speaks(&door).like_now(&self.room, self.count).await;
        let accepted = liked.map_err(|error| door.refused(error))?;
        let text = format!("{accepted} of {} likes of {} count", self.count, self.room);
        let object = json!({ "room": self.room, "count": self.count, "accepted": accepted });
        self.sender.backend.place.output().line(text, &object)?;
        match accepted {
            0 => Err(Failure::failed(anyhow!("none of them counts"))),
            _ => Ok(()),
        }
    }
}
