//! A push service, whatever its shape: the engine of its kind, and the doors in front of it.

use std::sync::Arc;

use pushmesh_boot::{Context, Contracts, DoorConfig, MESSAGE_MAX_BYTES};
use pushmesh_proto::v1::calls_server::CallsServer;

use crate::{
    config::EngineConfig,
    engine::{Engine, Host},
    kind::PushKind,
    rpc::Directory,
};

/// What every push service runs.
pub struct PushService {
    engine: Engine,
}

impl PushService {
    /// Starts the engine of `kind`, and opens the gRPC door with `Calls` and with what `shape` adds: the contract of the
    /// kind's directory, which is all that a service has of its own. Ready once the calls are known.
    pub async fn start(
        context: Context,
        kind: impl PushKind,
        engine: EngineConfig,
        door: &DoorConfig,
        shape: impl FnOnce(Contracts, Directory) -> Contracts,
    ) -> anyhow::Result<Self> {
        let host =
            Host { bus: context.bus.clone(), membership: context.membership.clone(), mesh: context.mesh.clone() };
        let engine = Engine::start(host, Arc::new(kind), engine).await?;
        let (mut known, reading) = (engine.calls_known(), context.latch("the calls are still being read"));
        context.spawn("calls-known", async move {
            // The engine's end is the process's.
            let _ = known.wait_for(|known| *known).await;
            drop(reading);
        });

        let checked = context.door(door)?;
        let calls = CallsServer::new(engine.calls(checked.clone())).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let contracts = shape(Contracts::new(pushmesh_proto::DESCRIPTORS), engine.directory(checked)).with(calls);
        context.serve_grpc(door, contracts, None).await?;
        Ok(Self { engine })
    }

    /// Every partition is handed over.
    pub async fn drain(self) {
        self.engine.drain().await;
    }
}
