//! How it is put together.

use std::sync::Arc;

use pushmesh_boot::{Context, Contracts, MESSAGE_MAX_BYTES};
use pushmesh_proto::v1::{calls_server::CallsServer, group_directory_server::GroupDirectoryServer};
use pushmesh_protocol::Token;
use pushmesh_push::{Engine, Host};

use crate::{config::Config, groups::Groups, handlers::directory::Grpc};

/// The running service.
pub struct Service {
    engine: Engine,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "group-push";
    const ABOUT: &'static str = "Tells the members of flat groups of their calls";
    type Config = Config;

    fn member_name(config: &Config) -> Token {
        config.kind.service()
    }

    async fn start(context: Context, config: Config) -> anyhow::Result<Self> {
        let host =
            Host { bus: context.bus.clone(), membership: context.membership.clone(), mesh: context.mesh.clone() };
        let kind = Arc::new(Groups::new(&config));
        let engine = Engine::start(host, kind, config.engine.clone()).await?;
        let (mut known, reading) = (engine.calls_known(), context.latch("the calls are still being read"));
        context.spawn("calls-known", async move {
            // The engine's end is the process's.
            let _ = known.wait_for(|known| *known).await;
            drop(reading);
        });

        let door = context.door(&config.door)?;
        let directory = GroupDirectoryServer::new(Grpc(engine.directory(door.clone())));
        let calls = CallsServer::new(engine.calls(door));
        let contracts = Contracts::new(pushmesh_proto::DESCRIPTORS)
            .with(directory.max_decoding_message_size(MESSAGE_MAX_BYTES))
            .with(calls.max_decoding_message_size(MESSAGE_MAX_BYTES));
        context.serve_grpc(&config.door, contracts, None).await?;
        Ok(Self { engine })
    }

    /// Every partition is handed over.
    async fn drain(self) {
        self.engine.drain().await;
    }
}
