//! The mesh's doors as a backend uses them: login reports, directories and calls, over gRPC.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, bail};
use pushmesh_proto::v1::{
    EndCallRequest, GroupMember, LoginEvent, OrgMember, ReportRequest, ReportResponse, StartCallRequest,
    UpsertDiscussionMembersRequest, UpsertGroupMembersRequest, UpsertOrgMembersRequest, calls_client::CallsClient,
    discuss_directory_client::DiscussDirectoryClient, group_directory_client::GroupDirectoryClient,
    login_ingest_client::LoginIngestClient, org_directory_client::OrgDirectoryClient, report_response::Answer,
};
use pushmesh_protocol::{CallId, Kind, LoginId, Unit, UserId};
use tokio::sync::mpsc;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{clock, oracle::Moment, plan::Kinds};

/// The device that the demo's users have.
pub const DEVICE: &str = "irc";
/// Most members one request may carry.
const MEMBERS_MAX: usize = 1000;
/// Records that may be on their way.
const REPORTS: usize = 1024;

/// A report that was answered.
#[derive(Debug)]
pub struct Answered {
    pub reference: u64,
    pub moment: Moment,
    pub outcome: Result<(), String>,
}

/// Where the doors are, and the token that opens them.
#[derive(Clone)]
pub struct Doors {
    kinds: Kinds,
    push: HashMap<Kind, Channel>,
    login: Channel,
    token: MetadataValue<Ascii>,
}

impl Doors {
    /// `push` names the gRPC address (`127.0.0.1:7411`) of each kind.
    pub fn new(login: &str, push: &HashMap<Kind, String>, token: &str, kinds: Kinds) -> anyhow::Result<Self> {
        let channel = |address: &str| -> anyhow::Result<Channel> {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).context("a door's address")?;
            Ok(endpoint.timeout(Duration::from_secs(30)).connect_lazy())
        };
        let push =
            push.iter().map(|(kind, address)| Ok((kind.clone(), channel(address)?))).collect::<anyhow::Result<_>>()?;
        let token = format!("Bearer {token}").parse().context("the token is no header value")?;
        Ok(Self { kinds, push, login: channel(login)?, token })
    }

    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Opens the report stream; answers come through the channel.
    pub async fn reports(&self) -> anyhow::Result<(Reports, mpsc::Receiver<Answered>)> {
        let (requests, outgoing) = mpsc::channel(REPORTS);
        let (sent, times) = mpsc::channel(REPORTS);
        let (answers, answered) = mpsc::channel(REPORTS);
        let stream = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let mut client = LoginIngestClient::new(self.login.clone());
        // A stream lives longer than a request's timeout.
        let mut request = Request::new(stream);
        request.metadata_mut().insert("authorization", self.token.clone());
        request.set_timeout(Duration::from_secs(24 * 3600));
        let responses = client.report(request).await.context("login-ingest refuses the report stream")?.into_inner();
        tokio::spawn(collect(responses, times, answers));
        Ok((Reports { requests, sent }, answered))
    }

    pub async fn members(&self, kind: &Kind, unit: &Unit, users: &[UserId]) -> anyhow::Result<Moment> {
        let earliest = clock::now();
        let channel = self.push[kind].clone();
        for users in users.chunks(MEMBERS_MAX) {
            let names = users.iter().map(ToString::to_string);
            if *kind == self.kinds.group {
                let members = names.map(|user| GroupMember { user, role: String::new() }).collect();
                let request = UpsertGroupMembersRequest { group: unit.to_string(), members };
                GroupDirectoryClient::new(channel.clone()).upsert_members(self.request(request)).await?;
            } else if *kind == self.kinds.discuss {
                let request = UpsertDiscussionMembersRequest { discussion: unit.to_string(), users: names.collect() };
                DiscussDirectoryClient::new(channel.clone()).upsert_members(self.request(request)).await?;
            } else {
                let members = names.map(|user| OrgMember { user, role: String::new() }).collect();
                let request = UpsertOrgMembersRequest { department: unit.to_string(), members };
                OrgDirectoryClient::new(channel.clone()).upsert_members(self.request(request)).await?;
            }
        }
        Ok(Moment { earliest, latest: clock::now() })
    }

    pub async fn start_call(&self, kind: &Kind, call: &CallId, unit: &Unit) -> anyhow::Result<Moment> {
        let earliest = clock::now();
        let request = StartCallRequest { call_id: call.to_string(), unit: unit.to_string(), data: Default::default() };
        CallsClient::new(self.push[kind].clone()).start_call(self.request(request)).await?;
        Ok(Moment { earliest, latest: clock::now() })
    }

    pub async fn end_call(&self, kind: &Kind, call: &CallId) -> anyhow::Result<Moment> {
        let earliest = clock::now();
        let request = EndCallRequest { call_id: call.to_string() };
        CallsClient::new(self.push[kind].clone()).end_call(self.request(request)).await?;
        Ok(Moment { earliest, latest: clock::now() })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// The sending half of the report stream.
pub struct Reports {
    requests: mpsc::Sender<ReportRequest>,
    sent: mpsc::Sender<(u64, Duration)>,
}

impl Reports {
    pub async fn online(&self, reference: u64, user: &UserId, login: &LoginId) -> anyhow::Result<()> {
        self.send(reference, user, login.to_string(), LoginEvent::Online).await
    }

    /// Ends all logins of the user begun before.
    pub async fn offline(&self, reference: u64, user: &UserId) -> anyhow::Result<()> {
        self.send(reference, user, String::new(), LoginEvent::Offline).await
    }

    async fn send(&self, reference: u64, user: &UserId, login_id: String, event: LoginEvent) -> anyhow::Result<()> {
        let request = ReportRequest {
            r#ref: reference,
            user: user.to_string(),
            device: DEVICE.into(),
            login_id,
            event: event.into(),
            at_ms: 0,
        };
        self.sent.send((reference, clock::now())).await.context("the report stream has ended")?;
        self.requests.send(request).await.context("the report stream has ended")
    }
}

async fn collect(
    mut responses: tonic::Streaming<ReportResponse>,
    mut times: mpsc::Receiver<(u64, Duration)>,
    answers: mpsc::Sender<Answered>,
) {
    let mut sent: HashMap<u64, Duration> = HashMap::new();
    loop {
        let answer = match responses.message().await {
            Ok(Some(response)) => {
                let latest = clock::now();
                while let Ok((reference, at)) = times.try_recv() {
                    sent.insert(reference, at);
                }
                let earliest = sent.remove(&response.r#ref).unwrap_or(latest);
                let outcome = outcome(&response).map_err(|error| error.to_string());
                Answered { reference: response.r#ref, moment: Moment { earliest, latest }, outcome }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::error!(%status, "the report stream broke");
                return;
            }
        };
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

fn outcome(response: &ReportResponse) -> anyhow::Result<()> {
    match &response.answer {
        Some(Answer::Accepted(_)) => Ok(()),
        Some(Answer::Refused(refused)) => bail!("refused: field {}: {}", refused.field, refused.reason),
        Some(Answer::Unknown(unknown)) => bail!("unknown: {}", unknown.reason),
        None => bail!("an answer without an answer"),
    }
}
