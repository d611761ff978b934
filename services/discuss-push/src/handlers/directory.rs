//! `pushmesh.v1.DiscussDirectory`.

use pushmesh_proto::v1::{
    ListMembershipsRequest, ListMembershipsResponse, MembershipEntry, RemoveDiscussionMembersRequest,
    RemoveDiscussionMembersResponse, UpsertDiscussionMembersRequest, UpsertDiscussionMembersResponse,
    discuss_directory_server::DiscussDirectory,
};
use pushmesh_push::{Directory, Member, MemberOf};
use tonic::{Request, Response, Status};

/// The contract in front of the engine's directory.
#[derive(Clone)]
pub struct Grpc(pub Directory);

#[tonic::async_trait]
impl DiscussDirectory for Grpc {
    async fn upsert_members(
        &self,
        request: Request<UpsertDiscussionMembersRequest>,
    ) -> Result<Response<UpsertDiscussionMembersResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let members = request.users.into_iter().map(|user| Member { user, role: String::new() }).collect();
        self.0.upsert(&metadata, ("discussion", &request.discussion), ("users", members)).await?;
        Ok(Response::new(UpsertDiscussionMembersResponse {}))
    }

    async fn remove_members(
        &self,
        request: Request<RemoveDiscussionMembersRequest>,
    ) -> Result<Response<RemoveDiscussionMembersResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.remove(&metadata, ("discussion", &request.discussion), ("users", request.users)).await?;
        Ok(Response::new(RemoveDiscussionMembersResponse {}))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let found = self.0.list(&metadata, ("user", &request.user)).await?;
        let entry = |MemberOf { unit, role }| MembershipEntry {
            unit: unit.to_string(),
            role: role.map_or_else(String::new, |role| role.to_string()),
        };
        Ok(Response::new(ListMembershipsResponse { memberships: found.into_iter().map(entry).collect() }))
    }
}
