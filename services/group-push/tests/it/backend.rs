//! The service's own contract, through its door.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pushmesh_auth::{Minter, Scope, generate_jwks};
use pushmesh_bus::{Bus, Config, provision};
use pushmesh_proto::v1::{
    GroupMember, ListMembershipsRequest, RemoveGroupMembersRequest, StartCallRequest, UpsertGroupMembersRequest,
    calls_client::CallsClient, group_directory_client::GroupDirectoryClient,
};
use pushmesh_protocol::{
    Instance, Kind, Partitions, Token,
    topology::{TopologyConfig, topology},
};
use pushmesh_testkit::{Nats, Process, ProcessOptions};
use tonic::{Code, Request, transport::Channel};

/// A provisioned server with one process.
pub struct Service {
    pub nats: Nats,
    pub bus: Bus,
    pub kind: Kind,
    pub process: Process,
    jwks: PathBuf,
    _dir: tempfile::TempDir,
}

impl Service {
    pub async fn start(kind: &str) -> Service {
        Self::start_with(kind, &[]).await
    }

    pub async fn start_with(kind: &str, settings: &[&str]) -> Service {
        let nats = Nats::start().await;
        let config = Config { url: nats.url(), ..Config::default() };
        let (service, instance) = (Token::new("test").unwrap(), Instance::new("test").unwrap());
        let bus = Bus::connect(&config, &service, &instance).await.unwrap();
        let kind = Kind::new(kind).unwrap();
        let topology_config = TopologyConfig {
            partitions: Partitions::new(8).unwrap(),
            kinds: vec![kind.clone()],
            ..TopologyConfig::default()
        };
        provision(&bus, &topology(&topology_config)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let jwks = dir.path().join("jwks.json");
        generate_jwks(&jwks).unwrap();
        let process = process(&nats, &kind, &jwks, settings).await;
        Service { nats, bus, kind, process, jwks, _dir: dir }
    }

    /// One more instance.
    pub async fn another(&self) -> Process {
        process(&self.nats, &self.kind, &self.jwks, &[]).await
    }

    pub async fn directory(&self) -> GroupDirectoryClient<Channel> {
        GroupDirectoryClient::connect(format!("http://{}", self.process.door("grpc"))).await.unwrap()
    }

    pub async fn calls(&self) -> CallsClient<Channel> {
        CallsClient::connect(format!("http://{}", self.process.door("grpc"))).await.unwrap()
    }

    /// A request with a token of these scopes.
    pub fn with<T>(&self, scopes: &[Scope], message: T) -> Request<T> {
        let token = Minter::from_jwks(&self.jwks).unwrap().backend("test", scopes, Duration::from_secs(600));
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }
}

async fn process(nats: &Nats, kind: &Kind, jwks: &Path, settings: &[&str]) -> Process {
    let own = [
        format!("nats.url={}", nats.url()),
        format!("auth.jwks_file={}", jwks.display()),
        format!("service.kind={kind}"),
        "admin.listen=127.0.0.1:0".to_owned(),
        "service.door.listen=127.0.0.1:0".to_owned(),
    ];
    let settings = own.into_iter().chain(settings.iter().map(|setting| (*setting).to_owned()));
    let args = settings.flat_map(|setting| ["--set".to_owned(), setting]);
    Process::start("group-push", ProcessOptions::new(env!("CARGO_BIN_EXE_group-push")).args(args)).await
}

fn upsert(group: &str, users: &[&str]) -> UpsertGroupMembersRequest {
    UpsertGroupMembersRequest {
        group: group.to_owned(),
        members: users.iter().map(|user| GroupMember { user: (*user).to_owned(), role: "lead".to_owned() }).collect(),
    }
}

#[tokio::test]
async fn its_directory_and_calls_have_their_scopes_and_limits() {
    let service = Service::start("group").await;
    let (mut directory, mut calls) = (service.directory().await, service.calls().await);
    let (writes, starts) = (&[Scope::DirectoryWrite], &[Scope::CallWrite]);

    let error = directory.upsert_members(upsert("team", &["ann"])).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    let error = directory.upsert_members(service.with(starts, upsert("team", &["ann"]))).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);

    directory.upsert_members(service.with(writes, upsert("team", &["ann", "bob"]))).await.unwrap();
    let list = |user: &str| ListMembershipsRequest { user: user.to_owned() };
    for scopes in [writes, starts] {
        let found = directory.list_memberships(service.with(scopes, list("ann"))).await.unwrap().into_inner();
        let found: Vec<_> = found.memberships.iter().map(|entry| (&*entry.unit, &*entry.role)).collect();
        assert_eq!(found, [("team", "lead")]);
    }
    let error = directory.list_memberships(list("ann")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);

    let error = directory.upsert_members(service.with(writes, upsert("a/b", &["ann"]))).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("group "), "{}", error.message());

    let remove = RemoveGroupMembersRequest { group: "team".into(), users: vec!["ann".into()] };
    directory.remove_members(service.with(writes, remove)).await.unwrap();
    let found = directory.list_memberships(service.with(writes, list("ann"))).await.unwrap().into_inner();
    assert!(found.memberships.is_empty());

    let start = StartCallRequest { call_id: "c1".into(), unit: "team".into(), data: Default::default() };
    let error = calls.start_call(service.with(writes, start.clone())).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    calls.start_call(service.with(starts, start)).await.unwrap();
}
