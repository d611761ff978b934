//! The parts of a push service, put together.

use std::sync::Arc;

use pushmesh_auth::Door;
use pushmesh_bus::{Bus, ConsumeError, Kv, KvError, SubscribeError};
use pushmesh_membership::{Lease, Membership, Ownership, PartitionWork, View};
use pushmesh_protocol::{
    Kind, Token,
    message::MeshInfo,
    name::{Bucket, Filter, Subject},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::EngineConfig,
    feed::Feed,
    kind::{PushKind, ended_call_lifetime},
    metrics::Metrics,
    partition,
    router::Router,
    rpc::{CallsService, Directory, DirectoryStore},
};

/// The name under which comets join the mesh.
const COMETS: &str = "comet";

/// Where an engine runs.
#[derive(Clone)]
pub struct Host {
    pub bus: Bus,
    pub membership: Membership,
    pub mesh: MeshInfo,
}

/// Why an engine can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "kind {kind} is not provisioned; this mesh has {known}: add it to the topology and run `pushmesh provision`"
    )]
    UnknownKind { kind: Kind, known: String },
    #[error("a bucket can't be opened")]
    Bucket(#[from] KvError),
    #[error("online batches can't be subscribed to")]
    Subscribe(#[from] SubscribeError),
    #[error("the directory can't be read")]
    Directory(#[from] ConsumeError),
}

/// What all partitions of a process share.
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) kind: Arc<dyn PushKind>,
    pub(crate) config: EngineConfig,
    pub(crate) sessions: Kv,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) comets: Token,
    pub(crate) feed: Arc<Feed>,
    pub(crate) router: Arc<Router>,
    pub(crate) directory: DirectoryStore,
    pub(crate) metrics: Metrics,
}

/// One push kind, at work.
pub struct Engine {
    shared: Arc<Shared>,
    calls: Kv,
    membership: Membership,
    ownership: Ownership,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Engine {
    /// Reads the calls, answers online batches, and takes its share of the partitions.
    pub async fn start(host: Host, kind: Arc<dyn PushKind>, config: EngineConfig) -> Result<Self, StartError> {
        let Host { bus, membership, mesh } = host;
        if !mesh.kinds.contains(kind.kind()) {
            let known = mesh.kinds.iter().map(Kind::as_str).collect::<Vec<_>>().join(", ");
            return Err(StartError::UnknownKind { kind: kind.kind().clone(), known });
        }
        let metrics = Metrics::new(kind.kind());
        let sessions = bus.bucket(&Bucket::SESSIONS).await?;
        let calls = bus.bucket(&Bucket::calls(kind.kind())).await?;
        let batches = Filter::from(Subject::online(kind.kind(), &membership.me().instance));
        let batches = bus.subscribe(batches).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

        let feed = Arc::new(Feed::new(&*kind));
        let read_calls = feed.clone().run(calls.clone(), metrics.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(read_calls));

        let router = Arc::new(Router::default());
        let answer_batches = router.clone().run(bus.clone(), batches, metrics.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(answer_batches));

        let directory = DirectoryStore::new(&bus, &*kind, mesh.partitions, &membership);
        let (view, comets) = (membership.view(), Token::new(COMETS).expect("made of token characters"));
        let shared = Shared { bus, kind, config, sessions, view, comets, feed, router, directory, metrics };
        let shared = Arc::new(shared);
        let ownership = membership.own(mesh.partitions, Arc::new(Work(shared.clone())));
        tasks.close();
        Ok(Self { shared, calls, membership, ownership, tasks, stop })
    }

    /// The kind's directory, behind a door.
    pub fn directory(&self, door: Door) -> Directory {
        Directory::new(self.shared.directory.clone(), self.shared.kind.clone(), door)
    }

    /// The kind's calls, behind a door.
    pub fn calls(&self, door: Door) -> CallsService {
        let lifetime = ended_call_lifetime(&*self.shared.kind);
        CallsService::new(self.calls.clone(), self.shared.kind.clone(), self.shared.feed.clone(), lifetime, door)
    }

    /// Turns true when all calls are known.
    pub fn calls_known(&self) -> watch::Receiver<bool> {
        self.shared.feed.current()
    }

    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Hands every partition over, then stops.
    pub async fn drain(self) {
        self.membership.leave().await;
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

struct Work(Arc<Shared>);

impl PartitionWork for Work {
    async fn run(self: Arc<Self>, lease: Lease) {
        partition::run(self.0.clone(), lease).await;
    }
}
