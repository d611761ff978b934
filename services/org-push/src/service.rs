//! How it is put together.

use pushmesh_boot::{Context, MESSAGE_MAX_BYTES};
use pushmesh_proto::v1::org_directory_server::OrgDirectoryServer;
use pushmesh_protocol::Token;
use pushmesh_push::PushService;

use crate::{config::Config, departments::Departments, handlers::directory::Grpc};

/// The running service.
pub struct Service(PushService);

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "org-push";
    const ABOUT: &'static str = "Tells the members of an organisation of the calls in and above their departments";
    type Config = Config;

    fn member_name(config: &Config) -> Token {
        config.kind.service()
    }

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let kind = Departments::new(&config);
        let running = PushService::start(context, kind, config.engine, &config.door, |contracts, directory| {
            let directory = OrgDirectoryServer::new(Grpc(directory));
            contracts.with(directory.max_decoding_message_size(MESSAGE_MAX_BYTES))
        });
        Ok(Self(running.await?))
    }

    async fn drain(self) {
        self.0.drain().await;
    }
}
