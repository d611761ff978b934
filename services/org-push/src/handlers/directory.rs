//! `pushmesh.v1.OrgDirectory`.

use pushmesh_proto::v1::{
    ListMembershipsRequest, ListMembershipsResponse, RemoveOrgMembersRequest, RemoveOrgMembersResponse,
    UpsertOrgMembersRequest, UpsertOrgMembersResponse, org_directory_server::OrgDirectory,
};
use pushmesh_push::{Directory, Member};
use tonic::{Request, Response, Status};

/// The contract in front of the engine's directory.
#[derive(Clone)]
pub struct Grpc(pub Directory);

#[tonic::async_trait]
impl OrgDirectory for Grpc {
    async fn upsert_members(
        &self,
        request: Request<UpsertOrgMembersRequest>,
    ) -> Result<Response<UpsertOrgMembersResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let members =
            request.members.into_iter().map(|member| Member { user: member.user, role: member.role }).collect();
        self.0.upsert(&metadata, ("department", &request.department), ("members", members)).await?;
        Ok(Response::new(UpsertOrgMembersResponse {}))
    }

    async fn remove_members(
        &self,
        request: Request<RemoveOrgMembersRequest>,
    ) -> Result<Response<RemoveOrgMembersResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.remove(&metadata, ("department", &request.department), ("users", request.users)).await?;
        Ok(Response::new(RemoveOrgMembersResponse {}))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        self.0.list_memberships(request).await
    }
}
