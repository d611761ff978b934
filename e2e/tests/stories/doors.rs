//! What every service's doors tell of themselves.

use e2e::{Mesh, Shape};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// Whose door serves which of our contracts; without one the admin port stands for the door.
const CONTRACTS: [(&str, &[&str]); 9] = [
    ("login-ingest", &["pushmesh.v1.LoginIngest"]),
    ("group-push", &["pushmesh.v1.Calls", "pushmesh.v1.GroupDirectory"]),
    ("discuss-push", &["pushmesh.v1.Calls", "pushmesh.v1.DiscussDirectory"]),
    ("org-push", &["pushmesh.v1.Calls", "pushmesh.v1.OrgDirectory"]),
    ("ack-retry", &["pushmesh.v1.Pushes"]),
    ("api", &["pushmesh.v1.Broadcasts", "pushmesh.v1.Online", "pushmesh.v1.Rooms"]),
    ("distributor", &[]),
    ("room-fanout", &[]),
    ("comet", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_name_the_contracts_of_every_service() {
    let mesh = Mesh::start(Shape::rooms()).await;
    for (service, contracts) in CONTRACTS {
        let door = if contracts.is_empty() { "admin" } else { "grpc" };
        let endpoint = Endpoint::from_shared(format!("http://{}", mesh.door(service, 0, door))).expect("an address");
        let channel = endpoint.connect().await.expect("the door is open");
        assert_eq!(listed(&channel).await, contracts, "{service}");
        for name in contracts.iter().chain(&["", service]) {
            assert_eq!(health(&channel, name).await, Ok(ServingStatus::Serving), "{name:?} of {service}");
        }
        let other = health(&channel, "pushmesh.v1.Nothing").await;
        assert_eq!(other, Err(tonic::Code::NotFound), "{service}");
        for contract in contracts {
            let symbol = MessageRequest::FileContainingSymbol((*contract).to_owned());
            let described = reflect(&channel, symbol).await;
            assert!(matches!(described, MessageResponse::FileDescriptorResponse(_)), "{contract}: {described:?}");
        }
    }
    mesh.stop().await;
}

/// Those of ours that reflection lists.
async fn listed(channel: &Channel) -> Vec<String> {
    match reflect(channel, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => {
            let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
            names.retain(|name| name.starts_with("pushmesh."));
            names.sort();
            names
        }
        other => panic!("{other:?}"),
    }
}

async fn reflect(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.expect("reflection stands there").into_inner().message().await.expect("the stream is open");
    answer.and_then(|answer| answer.message_response).expect("an answer")
}

async fn health(channel: &Channel, name: &str) -> Result<ServingStatus, tonic::Code> {
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|refused| refused.code())
}
