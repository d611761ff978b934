//! A backend: it reports logins, fills directories, starts calls and pushes, over the mesh's gRPC doors.

use std::collections::BTreeMap;

use pushmesh_proto::v1::{
    EndCallRequest, GroupMember, LoginEvent, OrgMember, PushPolicy, PushRequest, RemoveGroupMembersRequest,
    ReportRequest, ReportResponse, StartCallRequest, UpsertDiscussionMembersRequest, UpsertGroupMembersRequest,
    UpsertOrgMembersRequest, calls_client::CallsClient, discuss_directory_client::DiscussDirectoryClient,
    group_directory_client::GroupDirectoryClient, login_ingest_client::LoginIngestClient,
    org_directory_client::OrgDirectoryClient, pushes_client::PushesClient, report_response::Answer,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::PATIENCE;

#[derive(Clone)]
pub struct Backend {
    channels: BTreeMap<String, Channel>,
    token: String,
}

impl Backend {
    /// `doors` names the gRPC address of each service.
    pub fn new(doors: BTreeMap<String, String>, token: &str) -> Self {
        let channel = |address: String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            endpoint.timeout(PATIENCE).connect_lazy()
        };
        let channels = doors.into_iter().map(|(service, address)| (service, channel(address))).collect();
        Self { channels, token: token.to_owned() }
    }

    /// The same backend with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { channels: self.channels.clone(), token: token.to_owned() }
    }

    pub fn channel(&self, service: &str) -> Channel {
        self.channels.get(service).unwrap_or_else(|| panic!("no door of {service}")).clone()
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let header = format!("Bearer {}", self.token).parse().expect("a header value");
        request.metadata_mut().insert("authorization", header);
        request
    }

    /// Adds members to a unit of a kind (`group`, `discuss`, `org`, or one with the shape of a group).
    pub async fn member(&self, kind: &str, unit: &str, users: &[&str]) {
        self.try_member(kind, unit, users).await.expect("members are stored");
    }

    pub async fn try_member(&self, kind: &str, unit: &str, users: &[&str]) -> Result<(), Status> {
        let channel = self.channel(&format!("{kind}-push"));
        let names = users.iter().map(ToString::to_string);
        match kind {
            "discuss" => {
                let request = UpsertDiscussionMembersRequest { discussion: unit.into(), users: names.collect() };
                DiscussDirectoryClient::new(channel).upsert_members(self.request(request)).await.map(drop)
            }
            "org" => {
                let members = names.map(|user| OrgMember { user, role: String::new() }).collect();
                let request = UpsertOrgMembersRequest { department: unit.into(), members };
                OrgDirectoryClient::new(channel).upsert_members(self.request(request)).await.map(drop)
            }
            _ => {
                let members = names.map(|user| GroupMember { user, role: String::new() }).collect();
                let request = UpsertGroupMembersRequest { group: unit.into(), members };
                GroupDirectoryClient::new(channel).upsert_members(self.request(request)).await.map(drop)
            }
        }
    }

    pub async fn remove_group_member(&self, unit: &str, user: &str) {
        let request = RemoveGroupMembersRequest { group: unit.into(), users: vec![user.into()] };
        let mut client = GroupDirectoryClient::new(self.channel("group-push"));
        client.remove_members(self.request(request)).await.expect("the removal is stored");
    }

    pub async fn start_call(&self, kind: &str, unit: &str, call: &str) {
        self.try_start_call(kind, unit, call).await.expect("the call is stored");
    }

    pub async fn try_start_call(&self, kind: &str, unit: &str, call: &str) -> Result<(), Status> {
        let request = StartCallRequest { call_id: call.into(), unit: unit.into(), data: "topic".into() };
        CallsClient::new(self.channel(&format!("{kind}-push"))).start_call(self.request(request)).await.map(drop)
    }

    pub async fn end_call(&self, kind: &str, call: &str) {
        let request = EndCallRequest { call_id: call.into() };
        let mut client = CallsClient::new(self.channel(&format!("{kind}-push")));
        client.end_call(self.request(request)).await.expect("the end is stored");
    }

    pub async fn push(&self, user: &str, id: &str, data: &str, policy: PushPolicy) {
        self.try_push(user, id, data, policy).await.expect("the push is stored");
    }

    pub async fn try_push(&self, user: &str, id: &str, data: &str, policy: PushPolicy) -> Result<(), Status> {
        let request = PushRequest {
            user: user.into(),
            sender: "billing".into(),
            id: id.into(),
            data: data.as_bytes().to_vec().into(),
            policy: policy.into(),
            lifetime_ms: 0,
        };
        PushesClient::new(self.channel("ack-retry")).push(self.request(request)).await.map(drop)
    }

    /// Reports that somebody came online, and returns the login's id.
    pub async fn online(&self, user: &str, login: &str) -> String {
        let answers = self.report(vec![record(1, user, login, LoginEvent::Online)]).await.expect("the stream is open");
        match answers.into_iter().next().and_then(|response| response.answer) {
            Some(Answer::Accepted(accepted)) => accepted.login_id,
            other => panic!("online {user} {login}: {other:?}"),
        }
    }

    pub async fn offline(&self, user: &str, login: &str) {
        let answers = self.report(vec![record(1, user, login, LoginEvent::Offline)]).await.expect("the stream is open");
        let answer = answers.into_iter().next().and_then(|response| response.answer);
        assert!(matches!(answer, Some(Answer::Accepted(_))), "offline {user} {login}: {answer:?}");
    }

    /// Reports records through one stream and returns all answers.
    pub async fn report(&self, records: Vec<ReportRequest>) -> Result<Vec<ReportResponse>, Status> {
        let mut client = LoginIngestClient::new(self.channel("login-ingest"));
        let request = self.request(tokio_stream::iter(records));
        let mut stream = client.report(request).await?.into_inner();
        let mut answers = Vec::new();
        while let Some(answer) = stream.message().await? {
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// A record of the device `phone`.
pub fn record(reference: u64, user: &str, login: &str, event: LoginEvent) -> ReportRequest {
    ReportRequest {
        r#ref: reference,
        user: user.into(),
        device: "phone".into(),
        login_id: login.into(),
        event: event.into(),
        at_ms: 0,
    }
}
