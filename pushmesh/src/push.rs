//! `pushmesh push` and `pushmesh pending`: messages to users or a room, and what waits for a user.

use std::time::Duration;

use anyhow::anyhow;
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{
    ListPendingRequest, PushManyRequest, PushPolicy, PushRequest, broadcasts_client::BroadcastsClient,
    pushes_client::PushesClient,
};
use pushmesh_protocol::{RoomId, Token, UserId};
use serde_json::json;

use crate::{
    doors::Backend,
    duration,
    exit::{Failure, Outcome},
    output::clock,
};

/// Most users of one request to api.
const USERS_AT_ONCE: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Push {
    /// One is told through ack-retry, more through api
    #[arg(value_name = "USER", required_unless_present = "room")]
    users: Vec<UserId>,
    /// Tell who is in this room now, through api: nobody acknowledges that
    #[arg(long, value_name = "ROOM", conflicts_with = "users")]
    room: Option<RoomId>,
    /// Given to the client as it is: at most 16,384 bytes; in a room 4,096, unless the mesh says otherwise
    #[arg(long)]
    data: String,
    /// Its id: the same sender, id and user within 2 minutes is one push [default: a new one]
    #[arg(long)]
    id: Option<String>,
    /// Who sends it
    #[arg(long, default_value = "pushmesh-cli")]
    sender: Token,
    /// Drop it where the user is offline or nobody acknowledges, instead of keeping it for his next login
    #[arg(long, conflicts_with = "room")]
    drop: bool,
    /// When it expires: at most 7d
    #[arg(long, default_value = "24h", value_parser = duration::parse, conflicts_with = "room")]
    lifetime: Duration,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct Pending {
    user: UserId,
    #[command(flatten)]
    backend: Backend,
}

impl Push {
    pub async fn run(mut self) -> Outcome {
        let id = self.id.take().unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
        match (&self.room, &self.users[..]) {
            (Some(room), _) => self.to_room(room, &id).await,
            (None, [user]) => self.to_one(user, &id).await,
            (None, _) => self.to_many(&id).await,
        }
    }

    async fn to_one(&self, user: &UserId, id: &str) -> Outcome {
        let door = self.backend.open("ack-retry", Scope::PushWrite).await?;
        let request = door.request(PushRequest {
            user: user.to_string(),
            sender: self.sender.to_string(),
            id: id.to_owned(),
            data: self.data.clone().into(),
            policy: self.policy().into(),
            lifetime_ms: self.lifetime.as_millis() as u64,
        });
        let answer = PushesClient::new(door.channel.clone()).push(request).await;
        let push_id = answer.map_err(|status| door.refused(&status))?.into_inner().push_id;
        let object = json!({ "push_id": push_id, "user": user, "sender": self.sender, "id": id });
        Ok(self.backend.place.output().line(format!("push {push_id} to {user} stored"), &object)?)
    }

    /// Whose push may not be stored is told, and a failure; said again with the same id it is no second one for the others.
    async fn to_many(&self, id: &str) -> Outcome {
        let door = self.backend.open("api", Scope::PushWrite).await?;
        let mut broadcasts = BroadcastsClient::new(door.channel.clone());
        let (mut stored, mut unknown) = (0, Vec::new());
        for users in self.users.chunks(USERS_AT_ONCE) {
            let request = PushManyRequest {
                users: users.iter().map(UserId::to_string).collect(),
                policy: self.policy().into(),
                lifetime_ms: self.lifetime.as_millis() as u64,
                ..self.request(id)
            };
            let answer = broadcasts.push_many(door.request(request)).await;
            let answer = answer.map_err(|status| door.refused(&status))?.into_inner();
            stored += answer.stored;
            unknown.extend(answer.unknown);
        }
        let object = json!({ "stored": stored, "unknown": unknown, "sender": self.sender, "id": id });
        self.backend.place.output().line(format!("{stored} pushes stored"), &object)?;
        match unknown.len() {
            0 => Ok(()),
            _ => Err(Failure::unavailable(anyhow!(
                "pushes to {} may not be stored: say them again with --id {id}",
                unknown.join(", ")
            ))),
        }
    }

    async fn to_room(&self, room: &RoomId, id: &str) -> Outcome {
        let door = self.backend.open("api", Scope::PushWrite).await?;
        let request = PushManyRequest { room: room.to_string(), ..self.request(id) };
        let answer = BroadcastsClient::new(door.channel.clone()).push_many(door.request(request)).await;
        answer.map_err(|status| door.refused(&status))?;
        let object = json!({ "room": room, "sender": self.sender, "id": id });
        Ok(self.backend.place.output().line(format!("push to room {room} stored"), &object)?)
    }

    /// To nobody yet.
    fn request(&self, id: &str) -> PushManyRequest {
        let (sender, data) = (self.sender.to_string(), self.data.clone().into());
        PushManyRequest { sender, id: id.to_owned(), data, ..Default::default() }
    }

    fn policy(&self) -> PushPolicy {
        if self.drop { PushPolicy::Drop } else { PushPolicy::Inbox }
    }
}

impl Pending {
    pub async fn run(self) -> Outcome {
        let door = self.backend.open("ack-retry", Scope::PushWrite).await?;
        let request = door.request(ListPendingRequest { user: self.user.to_string() });
        let answer = PushesClient::new(door.channel.clone()).list_pending(request).await;
        for entry in answer.map_err(|status| door.refused(&status))?.into_inner().pending {
            let place = if entry.inbox { "inbox" } else { "trying" };
            let text = format!("{}  {}  {place}  {} tries", clock(entry.at_ms), entry.push_id, entry.tries);
            let object = json!({
                "push_id": entry.push_id, "tries": entry.tries, "inbox": entry.inbox, "at_ms": entry.at_ms,
            });
            self.backend.place.output().line(text, &object)?;
        }
        Ok(())
    }
}
