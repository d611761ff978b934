//! `pushmesh member`: who belongs where.

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{
    GroupMember, ListMembershipsRequest, OrgMember, RemoveDiscussionMembersRequest, RemoveGroupMembersRequest,
    RemoveOrgMembersRequest, UpsertDiscussionMembersRequest, UpsertGroupMembersRequest, UpsertOrgMembersRequest,
    discuss_directory_client::DiscussDirectoryClient, group_directory_client::GroupDirectoryClient,
    org_directory_client::OrgDirectoryClient,
};
use pushmesh_protocol::{Kind, Token, Unit, UserId};
use serde_json::json;
use tonic::Status;

use crate::{
    doors::{Backend, Door},
    exit::{Failure, Outcome},
};

/// Most members one request may carry.
const MEMBERS_MAX: usize = 1000;

#[derive(Debug, clap::Subcommand)]
pub enum MemberCommand {
    /// Adds members to a unit, or gives them another role
    #[command(
        after_help = "Example:\n  pushmesh member add group friends alice bob\n  pushmesh member add org net/verizon/res carol --role lead"
    )]
    Add(Add),
    /// Removes members from a unit
    #[command(after_help = "Example:\n  pushmesh member remove group friends bob")]
    Remove(Remove),
    /// The units of a user in one kind
    #[command(after_help = "Example:\n  pushmesh member list group alice")]
    List(List),
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// group, discuss, org or another push kind
    kind: Kind,
    /// A group, a discussion, or a department's path (net/verizon)
    unit: Unit,
    #[arg(required = true, value_name = "USER")]
    users: Vec<UserId>,
    /// For example "owner"; discussions have none
    #[arg(long)]
    role: Option<Token>,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// group, discuss, org or another push kind
    kind: Kind,
    /// A group, a discussion, or a department's path (net/verizon)
    unit: Unit,
    #[arg(required = true, value_name = "USER")]
    users: Vec<UserId>,
    #[command(flatten)]
    backend: Backend,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// group, discuss, org or another push kind
    kind: Kind,
    user: UserId,
    #[command(flatten)]
    backend: Backend,
}

/// The directories' shapes; a kind that a deployment adds is served as flat groups.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Flat,
    AdHoc,
    Tree,
}

impl From<&Kind> for Shape {
    fn from(kind: &Kind) -> Self {
        match kind.as_str() {
            "discuss" => Self::AdHoc,
            "org" => Self::Tree,
            _ => Self::Flat,
        }
    }
}

impl MemberCommand {
    pub async fn run(self) -> Outcome {
        match self {
            Self::Add(add) => add.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> Outcome {
        let shape = Shape::from(&self.kind);
        if self.role.is_some() && matches!(shape, Shape::AdHoc) {
            return Err(Failure::usage(anyhow::anyhow!("--role: members of a discussion have no role")));
        }
        let door = self.backend.open(self.kind.service().as_str(), Scope::DirectoryWrite).await?;
        let role = self.role.as_ref().map(ToString::to_string).unwrap_or_default();
        for users in self.users.chunks(MEMBERS_MAX) {
            upsert(&door, shape, &self.unit, users, &role).await.map_err(|status| door.refused(&status))?;
        }
        let text = format!("{} in {} {}", counted(self.users.len()), self.kind, self.unit);
        let object = json!({ "kind": self.kind, "unit": self.unit, "added": self.users });
        Ok(self.backend.place.output().line(text, &object)?)
    }
}

async fn upsert(door: &Door, shape: Shape, unit: &Unit, users: &[UserId], role: &str) -> Result<(), Status> {
    let names = users.iter().map(ToString::to_string);
    let (unit, role) = (unit.to_string(), || role.to_owned());
    match shape {
        Shape::Flat => {
            let members = names.map(|user| GroupMember { user, role: role() }).collect();
            let request = door.request(UpsertGroupMembersRequest { group: unit, members });
            GroupDirectoryClient::new(door.channel.clone()).upsert_members(request).await.map(drop)
        }
        Shape::AdHoc => {
            let request = door.request(UpsertDiscussionMembersRequest { discussion: unit, users: names.collect() });
            DiscussDirectoryClient::new(door.channel.clone()).upsert_members(request).await.map(drop)
        }
        Shape::Tree => {
            let members = names.map(|user| OrgMember { user, role: role() }).collect();
            let request = door.request(UpsertOrgMembersRequest { department: unit, members });
            OrgDirectoryClient::new(door.channel.clone()).upsert_members(request).await.map(drop)
        }
    }
}

impl Remove {
    async fn run(self) -> Outcome {
        let door = self.backend.open(self.kind.service().as_str(), Scope::DirectoryWrite).await?;
        for users in self.users.chunks(MEMBERS_MAX) {
            let removed = remove(&door, Shape::from(&self.kind), &self.unit, users).await;
            removed.map_err(|status| door.refused(&status))?;
        }
        let text = format!("{} removed from {} {}", counted(self.users.len()), self.kind, self.unit);
        let object = json!({ "kind": self.kind, "unit": self.unit, "removed": self.users });
        Ok(self.backend.place.output().line(text, &object)?)
    }
}

async fn remove(door: &Door, shape: Shape, unit: &Unit, users: &[UserId]) -> Result<(), Status> {
    let (unit, users) = (unit.to_string(), users.iter().map(ToString::to_string).collect());
    match shape {
        Shape::Flat => {
            let request = door.request(RemoveGroupMembersRequest { group: unit, users });
            GroupDirectoryClient::new(door.channel.clone()).remove_members(request).await.map(drop)
        }
        Shape::AdHoc => {
            let request = door.request(RemoveDiscussionMembersRequest { discussion: unit, users });
            DiscussDirectoryClient::new(door.channel.clone()).remove_members(request).await.map(drop)
        }
        Shape::Tree => {
            let request = door.request(RemoveOrgMembersRequest { department: unit, users });
            OrgDirectoryClient::new(door.channel.clone()).remove_members(request).await.map(drop)
        }
    }
}

impl List {
    async fn run(self) -> Outcome {
        let door = self.backend.open(self.kind.service().as_str(), Scope::DirectoryWrite).await?;
        let request = door.request(ListMembershipsRequest { user: self.user.to_string() });
        let channel = door.channel.clone();
        let answer = match Shape::from(&self.kind) {
            Shape::Flat => GroupDirectoryClient::new(channel).list_memberships(request).await,
            Shape::AdHoc => DiscussDirectoryClient::new(channel).list_memberships(request).await,
            Shape::Tree => OrgDirectoryClient::new(channel).list_memberships(request).await,
        };
        for entry in answer.map_err(|status| door.refused(&status))?.into_inner().memberships {
            let role = if entry.role.is_empty() { String::new() } else { format!("  {}", entry.role) };
            let object = json!({ "kind": self.kind, "user": self.user, "unit": entry.unit, "role": entry.role });
            self.backend.place.output().line(format!("{}{role}", entry.unit), &object)?;
        }
        Ok(())
    }
}

fn counted(members: usize) -> String {
    if members == 1 { "1 member".into() } else { format!("{members} members") }
}
