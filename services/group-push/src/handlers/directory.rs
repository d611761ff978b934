//! `pushmesh.v1.GroupDirectory`.

use pushmesh_proto::v1::{
    ListMembershipsRequest, ListMembershipsResponse, RemoveGroupMembersRequest, RemoveGroupMembersResponse,
    UpsertGroupMembersRequest, UpsertGroupMembersResponse, group_directory_server::GroupDirectory,
};
use pushmesh_push::{Directory, Member};
use tonic::{Request, Response, Status};

/// The contract in front of the engine's directory.
#[derive(Clone)]
pub struct Grpc(pub Directory);

#[tonic::async_trait]
impl GroupDirectory for Grpc {
    async fn upsert_members(
        &self,
        request: Request<UpsertGroupMembersRequest>,
    ) -> Result<Response<UpsertGroupMembersResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let members =
            request.members.into_iter().map(|member| Member { user: member.user, role: member.role }).collect();
        self.0.upsert(&metadata, ("group", &request.group), ("members", members)).await?;
        Ok(Response::new(UpsertGroupMembersResponse {}))
    }

    async fn remove_members(
        &self,
        request: Request<RemoveGroupMembersRequest>,
    ) -> Result<Response<RemoveGroupMembersResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.remove(&metadata, ("group", &request.group), ("users", request.users)).await?;
        Ok(Response::new(RemoveGroupMembersResponse {}))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        self.0.list_memberships(request).await
    }
}
