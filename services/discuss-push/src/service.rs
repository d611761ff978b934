//! How it is put together.

use pushmesh_boot::{Context, MESSAGE_MAX_BYTES};
use pushmesh_proto::v1::discuss_directory_server::DiscussDirectoryServer;
use pushmesh_protocol::Token;
use pushmesh_push::PushService;

use crate::{config::Config, discussions::Discussions, handlers::directory::Grpc};

/// The running service.
pub struct Service(PushService);

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "discuss-push";
    const ABOUT: &'static str = "Tells the members of ad-hoc discussion groups of their calls";
    type Config = Config;

    fn member_name(config: &Config) -> Token {
        config.kind.service()
    }

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let kind = Discussions::new(&config);
        let running = PushService::start(context, kind, config.engine, &config.door, |contracts, directory| {
            let directory = DiscussDirectoryServer::new(Grpc(directory));
            contracts.with(directory.max_decoding_message_size(MESSAGE_MAX_BYTES))
        });
        Ok(Self(running.await?))
    }

    async fn drain(self) {
        self.0.drain().await;
    }
}
