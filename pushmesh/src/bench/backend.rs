//! The mesh's doors as a backend uses them: who is in which unit, and calls.

use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{
    GroupMember, OrgMember, StartCallRequest, UpsertDiscussionMembersRequest, UpsertGroupMembersRequest,
    UpsertOrgMembersRequest, calls_client::CallsClient, discuss_directory_client::DiscussDirectoryClient,
    group_directory_client::GroupDirectoryClient, org_directory_client::OrgDirectoryClient,
};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{
    mesh::Mesh,
    population::{self, BLOCK, KINDS},
};

const WITHIN: Duration = Duration::from_secs(60);
/// Requests on their way at once.
const AT_ONCE: usize = 16;

/// A backend that fills directories and starts calls.
#[derive(Clone)]
pub struct Backend {
    push: [Channel; 3],
    token: MetadataValue<Ascii>,
}

/// A token of a backend for these scopes, as gRPC takes it.
pub fn authorization(mesh: &Mesh, scopes: &[Scope]) -> anyhow::Result<MetadataValue<Ascii>> {
    let token = mesh.minter()?.backend("bench", scopes, Duration::from_secs(24 * 3600));
    format!("Bearer {token}").parse().context("a token that is no header")
}

/// A way to a service's gRPC door.
pub fn channel(mesh: &Mesh, service: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", mesh.door(service, "grpc")?))?;
    Ok(endpoint.connect_lazy())
}

impl Backend {
    pub fn new(mesh: &Mesh) -> anyhow::Result<Self> {
        let [group, discuss, org] = KINDS.map(|kind| channel(mesh, &format!("{kind}-push")));
        let token = authorization(mesh, &[Scope::DirectoryWrite, Scope::CallWrite])?;
        Ok(Self { push: [group?, discuss?, org?], token })
    }

    /// Puts so many users into the three units of their blocks.
    pub async fn populate(&self, users: u64) -> anyhow::Result<()> {
        let blocks = (0..users.div_ceil(BLOCK)).map(|block| self.populate_block(block, users));
        let done = stream::iter(blocks).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await;
        done.map(drop).context("can't fill the directories")
    }

    /// Starts a call in each block.
    pub async fn start_calls(&self, round: &str, users: u64) -> anyhow::Result<()> {
        let blocks = (0..users.div_ceil(BLOCK)).map(|block| self.start_call(round, block));
        let done = stream::iter(blocks).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await;
        done.map(drop).context("can't start the calls")
    }

    async fn populate_block(&self, block: u64, users: u64) -> anyhow::Result<()> {
        let [group, discuss, org] = self.push.clone();
        let unit = population::unit(block).to_string();
        let members = || {
            let numbers = block * BLOCK..((block + 1) * BLOCK).min(users);
            numbers.map(|number| population::user(number).to_string())
        };
        let role = String::new;
        let of_group = members().map(|user| GroupMember { user, role: role() }).collect();
        let request = UpsertGroupMembersRequest { group: unit.clone(), members: of_group };
        GroupDirectoryClient::new(group).upsert_members(self.request(request)).await?;
        let request = UpsertDiscussionMembersRequest { discussion: unit.clone(), users: members().collect() };
        DiscussDirectoryClient::new(discuss).upsert_members(self.request(request)).await?;
        let of_org = members().map(|user| OrgMember { user, role: role() }).collect();
        let request = UpsertOrgMembersRequest { department: unit, members: of_org };
        OrgDirectoryClient::new(org).upsert_members(self.request(request)).await?;
        Ok(())
    }

    async fn start_call(&self, round: &str, block: u64) -> anyhow::Result<()> {
        let request = StartCallRequest {
            call_id: population::call(round, block).to_string(),
            unit: population::unit(block).to_string(),
            data: Default::default(),
        };
        let push = self.push[(block % 3) as usize].clone();
        CallsClient::new(push).start_call(self.request(request)).await?;
        Ok(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request.set_timeout(WITHIN);
        request
    }
}
