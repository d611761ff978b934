//! `pushmesh.v1.DiscussDirectory`.

use pushmesh_proto::v1::{
    ListMembershipsRequest, ListMembershipsResponse, RemoveDiscussionMembersRequest, RemoveDiscussionMembersResponse,
    UpsertDiscussionMembersRequest, UpsertDiscussionMembersResponse, discuss_directory_server::DiscussDirectory,
};
use pushmesh_push::{Directory, Member};
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
        self.0.list_memberships(request).await
    }
}
