//! `pushmesh push` and `pushmesh pending`: messages to a user, and what waits for him.

use std::time::Duration;

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{ListPendingRequest, PushPolicy, PushRequest, pushes_client::PushesClient};
use pushmesh_protocol::{Token, UserId};
use serde_json::json;

use crate::{doors::Backend, duration, exit::Outcome, output::clock};

#[derive(Debug, clap::Args)]
pub struct Push {
    user: UserId,
    /// Given to the client as it is: at most 16,384 bytes
    #[arg(long)]
    data: String,
    /// Its id: the same sender, id and user within 2 minutes is one push [default: a new one]
    #[arg(long)]
    id: Option<String>,
    /// Who sends it
    #[arg(long, default_value = "pushmesh-cli")]
    sender: Token,
    /// Drop it where the user is offline or nobody acknowledges, instead of keeping it for his next login
    #[arg(long)]
    drop: bool,
    /// When it expires: at most 7d
    #[arg(long, default_value = "24h", value_parser = duration::parse)]
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
    pub async fn run(self) -> Outcome {
        let door = self.backend.open("ack-retry", Scope::PushWrite).await?;
        let id = self.id.unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
        let policy = if self.drop { PushPolicy::Drop } else { PushPolicy::Inbox };
        let request = door.request(PushRequest {
            user: self.user.to_string(),
            sender: self.sender.to_string(),
            id: id.clone(),
            data: self.data.into(),
            policy: policy.into(),
            lifetime_ms: self.lifetime.as_millis() as u64,
        });
        let answer = PushesClient::new(door.channel.clone()).push(request).await;
        let push_id = answer.map_err(|status| door.refused(&status))?.into_inner().push_id;
        let object = json!({ "push_id": push_id, "user": self.user, "sender": self.sender, "id": id });
        Ok(self.backend.place.output().line(format!("push {push_id} to {} stored", self.user), &object)?)
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
