//! [`Membership`]: the handle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pushmesh_bus::{Bus, ConnectError, Health, KvError, SubscribeError};
use pushmesh_protocol::{
    Partitions,
    id::Token,
    message::Epoch,
    name::{Bucket, Filter, KeyFilter},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    event::Parting,
    heart::{Diligence, Heart},
    key::{MemberKey, Said},
    metrics::Metrics,
    owners::{Leases, Owners},
    pulse::{Heard, Pulse},
    ring::WEIGHT_MAX,
    state::State,
    task::{Command, Link, Published, Task, beat},
    tuning::{Me, Tuning},
    view::View,
    work::{Ownership, PartitionWork, Workers, boxed},
};

/// How long joining waits for the bucket's snapshot and our own key in it.
const JOIN_WITHIN: Duration = Duration::from_secs(15);
/// How long leaving waits until this member's key is deleted.
const KEY_WITHIN: Duration = Duration::from_secs(2);
/// Without a connection for so long, leaving does not wait for the bucket.
const AWAY: Duration = Duration::from_secs(1);
/// Outcomes of actions on their way to the task; a job that finds it full waits.
const EVENTS_MAX: usize = 1024;

/// Why an instance can't be a member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("mesh.weight must be 1 to {WEIGHT_MAX}, not {0}")]
    Weight(u16),
    #[error("membership tuning: {0}")]
    Tuning(&'static str),
    #[error("no thread for heartbeats")]
    Thread(#[from] std::io::Error),
    #[error("no connection for heartbeats")]
    Connect(#[from] ConnectError),
    #[error("no subscription to heartbeats")]
    Subscribe(#[from] SubscribeError),
    #[error("bucket mesh")]
    Kv(#[from] KvError),
    #[error("the members were not known within {JOIN_WITHIN:?}")]
    Silent,
}

/// A seat in the mesh. Clones share it; when the last one is dropped, it ends like a crash: [`leave`](Self::leave) first.
#[derive(Clone)]
pub struct Membership {
    inner: Arc<Inner>,
}

struct Inner {
    me: Arc<Me>,
    epoch: Epoch,
    commands: mpsc::Sender<Command>,
    said: watch::Sender<Said>,
    view: watch::Receiver<Arc<View>>,
    leases: watch::Receiver<Arc<Leases>>,
    held: watch::Receiver<Arc<Vec<(pushmesh_protocol::Partition, Epoch)>>>,
    covered: watch::Receiver<bool>,
    superseded: watch::Receiver<bool>,
    echoes: watch::Receiver<Heard>,
    /// How leaving ended, its key aside.
    left: watch::Receiver<Option<Parting>>,
    /// The key may go.
    leave: CancellationToken,
    /// The key is gone.
    deleted: CancellationToken,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    /// Ends the thread of heartbeats.
    end: CancellationToken,
    _end_on_drop: DropGuard,
    keeper: TaskTracker,
    jobs: TaskTracker,
    bus: Bus,
    heartbeats: Bus,
}

impl Membership {
    /// Writes this member's key and returns once it knows everybody else's.
    pub async fn join(bus: &Bus, me: Me, tuning: Tuning) -> Result<Membership, JoinError> {
        if !(1..=WEIGHT_MAX).contains(&me.weight) {
            return Err(JoinError::Weight(me.weight));
        }
        if let Some(fault) = tuning.fault() {
            return Err(JoinError::Tuning(fault));
        }
        let me = Arc::new(me);
        let (jobs, keeper) = (TaskTracker::new(), TaskTracker::new());
        let end = CancellationToken::new();
        let _end_on_drop = end.clone().drop_guard();
        let heart = Heart::start(end.clone(), jobs.clone())?;
        // Behind bulk traffic, or behind the work, heartbeats would come late.
        let shared = bus.clone();
        let connect = heart.runtime().spawn(async move { shared.dedicated("heartbeat").await });
        let heartbeat_bus = connect.await.expect("connecting does not panic, and the thread goes on")?;
        let heartbeats = heartbeat_bus.subscribe(Filter::heartbeats()).await?;
        let kv = bus.bucket(&Bucket::MESH).await?;
        let (said, said_now) = watch::channel(Said { address: me.address.clone(), draining: false, owning: false });
        let key = MemberKey::create(kv.clone(), me.clone(), tuning, said_now).await?;
        let epoch = key.epoch();
        // One watch for members and leases: an owner's key comes before its leases.
        let watched = kv.watch(KeyFilter::all()).await?;

        let pulse = Arc::new(Pulse::new(Instant::now(), tuning.fence_after));
        let (stop, leave, deleted) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (commands, commanded) = mpsc::channel(16);
        let (outcomes, events) = mpsc::channel(EVENTS_MAX);
        let (view, view_now) = watch::channel(Arc::default());
        let (leases, leases_now) = watch::channel(Arc::default());
        let (held, held_now) = watch::channel(Arc::default());
        let (covered, covered_now) = watch::channel(false);
        let (complete, mut complete_now) = watch::channel(false);
        let (superseded, superseded_now) = watch::channel(false);
        let (left, left_now) = watch::channel(None);
        let joined = Instant::now();
        let (echoes, echoes_now) = watch::channel(Heard { sent: joined, back: joined });

        let metrics = Metrics::new(&me.service);
        let diligence = Arc::new(Diligence::new(Instant::now()));
        let (watched_work, delays, stopped) = (diligence.clone(), metrics.runtime_delay.clone(), stop.clone());
        jobs.spawn(async move { watched_work.watch(delays, stopped).await });
        keeper.spawn_on(key.keep(leave.clone(), stop.clone(), deleted.clone()), heart.runtime());
        let beats = beat(heartbeat_bus.clone(), me.clone(), epoch, tuning, pulse.clone(), diligence, stop.clone());
        jobs.spawn_on(beats, heart.runtime());
        let health = heartbeat_bus.health();
        let link = Link::of(&health.borrow());
        let task = Task {
            state: State::new(me.service.clone(), me.instance.clone(), epoch, tuning),
            workers: Workers::new(Handle::current(), jobs.clone(), outcomes.clone(), metrics.work_ended.clone()),
            metrics,
            me: me.clone(),
            epoch,
            pulse,
            kv,
            watch: watched,
            heartbeats,
            health,
            link,
            commands: commanded,
            events,
            outcomes,
            jobs: jobs.clone(),
            published: Published { view, leases, held, covered, complete, superseded, echoes, left },
            stop: stop.clone(),
        };
        jobs.spawn_on(task.run(), heart.runtime());
        let membership = Membership {
            inner: Arc::new(Inner {
                me,
                epoch,
                commands,
                said,
                view: view_now,
                leases: leases_now,
                held: held_now,
                covered: covered_now,
                superseded: superseded_now,
                echoes: echoes_now,
                left: left_now,
                leave,
                deleted,
                _stop_on_drop: stop.clone().drop_guard(),
                stop,
                end,
                _end_on_drop,
                keeper,
                jobs,
                bus: bus.clone(),
                heartbeats: heartbeat_bus,
            }),
        };
        match tokio::time::timeout(JOIN_WITHIN, complete_now.wait_for(|complete| *complete)).await {
            Ok(Ok(_)) => {}
            _ => return Err(JoinError::Silent),
        }
        tracing::info!(service = %membership.me().service, instance = %membership.me().instance, epoch, "joined the mesh");
        Ok(membership)
    }

    pub fn me(&self) -> &Me {
        &self.inner.me
    }

    /// Of this start of the instance: a later one has a higher epoch.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// All members of all services.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.inner.view.clone()
    }

    /// The owners of a service's partitions.
    pub fn owners(&self, service: &Token) -> Owners {
        Owners::new(service.clone(), self.inner.leases.clone())
    }

    /// Takes this member's share of its service's partitions from now on. To be called once; a second call changes nothing.
    pub fn own<W: PartitionWork>(&self, partitions: Partitions, work: Arc<W>) -> Ownership {
        let inner = &self.inner;
        // 16 places, and the only other command is `leave`.
        if inner.commands.try_send(Command::Own(partitions, boxed(work))).is_err() {
            tracing::error!(service = %inner.me.service, "partitions are not taken: membership has ended");
        }
        inner.said.send_if_modified(|said| !std::mem::replace(&mut said.owning, true));
        Ownership { held: inner.held.clone(), covered: inner.covered.clone() }
    }

    /// Tells everybody another address.
    pub async fn set_address(&self, address: impl Into<String>) {
        let address = address.into();
        self.inner.said.send_if_modified(|said| {
            let changed = said.address != address;
            said.address = address;
            changed
        });
    }

    /// Tells everybody that this member is about to leave, and hands nothing over yet.
    pub fn drain(&self) {
        self.inner.said.send_if_modified(|said| !std::mem::replace(&mut said.draining, true));
    }

    /// Hands everything over, deletes the key and ends. Takes as long as the work takes to release its partitions;
    /// cancelled, it may be called again. A second call waits for the same end.
    ///
    /// Once no work runs, the bucket has 5 s to take note of each lease, 2 s while this member does not even hear itself,
    /// and no time at all while it has no connection; and 2 s (1 s without a connection) for the key. What is not told by
    /// then, others find out by the silence.
    pub async fn leave(&self) -> Parting {
        let inner = &self.inner;
        self.drain();
        // An error: it has left already, or was aborted.
        let _ = inner.commands.send(Command::Leave).await;
        let mut left = inner.left.clone();
        let handed_over = async { left.wait_for(Option::is_some).await.ok().and_then(|left| *left) };
        let handed_over = match inner.stop.run_until_cancelled(handed_over).await {
            Some(parting) => parting,
            None => *inner.left.borrow(),
        };
        let told = handed_over == Some(Parting::InOrder) && self.delete_key().await;
        if !inner.stop.is_cancelled() {
            let (service, instance) = (&inner.me.service, &inner.me.instance);
            if told {
                tracing::info!(%service, %instance, "left the mesh");
            } else {
                tracing::warn!(%service, %instance, "left the mesh unheard: others take over as after a crash");
            }
        }
        self.abort().await;
        if told { Parting::InOrder } else { Parting::Unheard }
    }

    /// Whether the key is gone.
    async fn delete_key(&self) -> bool {
        let inner = &self.inner;
        inner.leave.cancel();
        inner.keeper.close();
        tokio::select! {
            () = inner.keeper.wait() => {}
            () = away(inner.bus.health()) => {}
            () = tokio::time::sleep(KEY_WITHIN) => {}
        }
        inner.deleted.is_cancelled()
    }

    /// Ends at once, like a crash: leases and key stay until others see that nobody is heard.
    pub async fn abort(&self) {
        let inner = &self.inner;
        inner.stop.cancel();
        // Nothing that a lost connection still holds is worth waiting for.
        if inner.heartbeats.health().borrow().connected {
            inner.heartbeats.drain().await;
        }
        inner.jobs.close();
        inner.jobs.wait().await;
        inner.end.cancel();
    }

    /// This member's last heartbeat that came back; before the first, when it joined. Others heard nothing of it for at most
    /// the time from the sending of one to the return of the next. Ends with the membership.
    pub fn echoes(&self) -> watch::Receiver<Heard> {
        self.inner.echoes.clone()
    }

    /// `true` once another process of the same service and instance has taken this one's place: it holds nothing any more
    /// and never will.
    pub fn superseded(&self) -> watch::Receiver<bool> {
        self.inner.superseded.clone()
    }
}

/// Returns when there has been no connection for a while.
async fn away(mut health: watch::Receiver<Health>) {
    loop {
        let gone = health.wait_for(|health| !health.connected).await.is_ok();
        let back = tokio::time::timeout(AWAY, health.wait_for(|health| health.connected));
        if !gone || back.await.is_err() {
            return;
        }
    }
}
