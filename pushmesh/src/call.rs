//! `pushmesh call`: calls start and end.

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{EndCallRequest, ListCallsRequest, StartCallRequest, calls_client::CallsClient};
use pushmesh_protocol::{CallId, Kind, Unit};
use serde_json::json;

use crate::{doors::Backend, exit::Outcome, output::clock};

#[derive(Debug, clap::Subcommand)]
pub enum CallCommand {
    /// Starts a call: its unit's online members are told
    #[command(
        after_help = "Example:\n  pushmesh call start group friends standup\n  pushmesh call start org net/verizon allhands --data '{\"topic\":\"Q3\"}'"
    )]
    Start(Start),
    /// Ends a call: who was told is told of the end
    #[command(after_help = "Example:\n  pushmesh call end group standup")]
    End(End),
    /// The active calls of a kind
    #[command(after_help = "Example:\n  pushmesh call list group --unit friends")]
    List(List),
}

#[derive(Debug, clap::Args)]
pub struct Start {
    /// group, discuss, org or another push kind
    kind: Kind,
    /// A group, a discussion, or a department's path (net/verizon)
    unit: Unit,
    /// Never used before
    call: CallId,
    /// Given to the clients as it is: at most 1,024 bytes
    #[arg(long, default_value = "", hide_default_value = true)]
    data: String,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct End {
    /// group, discuss, org or another push kind
    kind: Kind,
    call: CallId,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// group, discuss, org or another push kind
    kind: Kind,
    /// Only the calls of this unit
    #[arg(long)]
    unit: Option<Unit>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    backend: Backend,
}

impl CallCommand {
    pub async fn run(self) -> Outcome {
        match self {
            Self::Start(start) => start.run().await,
            Self::End(end) => end.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

impl Start {
    async fn run(self) -> Outcome {
        let door = self.backend.open(self.kind.service().as_str(), Scope::CallWrite).await?;
        let (call_id, unit) = (self.call.to_string(), self.unit.to_string());
        let request = door.request(StartCallRequest { call_id, unit, data: self.data.into() });
        let answer = CallsClient::new(door.channel.clone()).start_call(request).await;
        let at = answer.map_err(|status| door.refused(&status))?.into_inner().started_at_ms;
        let text = format!("{} call {} started in {} at {}", self.kind, self.call, self.unit, clock(at));
        let object = json!({ "kind": self.kind, "call_id": self.call, "unit": self.unit, "started_at_ms": at });
        Ok(self.backend.place.output().line(text, &object)?)
    }
}

impl End {
    async fn run(self) -> Outcome {
        let door = self.backend.open(self.kind.service().as_str(), Scope::CallWrite).await?;
        let request = door.request(EndCallRequest { call_id: self.call.to_string() });
        let answer = CallsClient::new(door.channel.clone()).end_call(request).await;
        let at = answer.map_err(|status| door.refused(&status))?.into_inner().ended_at_ms;
        let text = format!("{} call {} ended at {}", self.kind, self.call, clock(at));
        let object = json!({ "kind": self.kind, "call_id": self.call, "ended_at_ms": at });
        Ok(self.backend.place.output().line(text, &object)?)
    }
}

impl List {
    async fn run(self) -> Outcome {
        let door = self.backend.open(self.kind.service().as_str(), Scope::CallWrite).await?;
        let unit = self.unit.as_ref().map(ToString::to_string).unwrap_or_default();
        let request = door.request(ListCallsRequest { unit, limit: self.limit });
        let answer = CallsClient::new(door.channel.clone()).list_calls(request).await;
        for call in answer.map_err(|status| door.refused(&status))?.into_inner().calls {
            let text = format!("{}  {}  {}", clock(call.started_at_ms), call.unit, call.call_id);
            let object = json!({
                "kind": self.kind, "call_id": call.call_id, "unit": call.unit, "started_at_ms": call.started_at_ms,
            });
            self.backend.place.output().line(text, &object)?;
        }
        Ok(())
    }
}
